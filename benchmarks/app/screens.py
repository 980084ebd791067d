"""Pictures of every screen, light and dark, phone and desktop, to be looked at.

    python benchmarks/app/screens.py FOLDER --model out/export/PocketAffect.onnx --clip CLIP

CLIP plays as the camera: a .y4m or .mjpeg with a face. Needs `make web`, Chromium and playwright. With `--live`, FOLDER
gets one picture alone, of the live page, as the README has it:

    python benchmarks/app/screens.py docs --live --clip headpose_female.mjpeg \
        --model src/pocketaffect/shipped/files/PocketAffect.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path

from app_server import browsing, serving
from playwright.sync_api import Browser, Page

README_SIZE = {"width": 1120, "height": 860}
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="out/export/PocketAffect.onnx")
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--live", action="store_true", help="the README's picture alone")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with serving(arguments.model) as address:
        if arguments.live:
            with browsing(arguments.clip) as browser:
                _take_live(browser, address, arguments.folder / "page.jpg")
            return
        for camera in (arguments.clip, None):
            with browsing(camera) as browser:
                for size in SIZES:
                    for scheme in ("light", "dark"):
                        _visit(browser, address, arguments.folder, size, scheme, has_camera=camera is not None)


def _take_live(browser: Browser, address: str, file: Path) -> None:
    page = browser.new_page(viewport=README_SIZE, service_workers="block")
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    page.click("#start")
    page.wait_for_selector("#songs li")
    page.wait_for_timeout(10_000)
    page.evaluate("document.getElementById('speed').style.visibility = 'hidden'")  # it says how busy this machine is
    page.screenshot(path=file, type="jpeg", quality=80)


def _visit(browser: Browser, address: str, folder: Path, size: str, scheme: str, *, has_camera: bool) -> None:
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, service_workers="block")
    page = context.new_page()

    def shoot(name: str) -> None:
        page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)

    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    if has_camera:
        _shoot_live_and_study(page, shoot)
        page.click("nav a:has-text('About')")
        shoot("about")
    else:
        shoot("start")
        page.click("#start")
        page.wait_for_selector("#help-text:not(:empty)")
        shoot("no-camera")
    context.close()


def _shoot_live_and_study(page: Page, shoot: object) -> None:
    page.click("#start")
    page.wait_for_selector("#songs li")
    page.wait_for_timeout(2000)
    shoot("live")
    page.click("#pause")
    page.click("nav a:has-text('Study')")
    page.wait_for_selector("#agree")
    shoot("consent")
    page.check("#agree")
    page.click("button:text-is('Begin')")
    for number in (1, 2):
        page.click("button:text-is('Take the picture')")
        page.wait_for_selector(".stars.large")
        page.check(".stars.large input[value='4']", force=True)
        if number == 2:
            page.locator(".pad canvas").scroll_into_view_if_needed()
            box = page.locator(".pad canvas").bounding_box()
            page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.3)
            shoot("questions")
        page.click("button:text-is('Save and go on')")
        page.wait_for_selector(".drawing")
        page.wait_for_timeout(800)
        if number == 1:
            shoot("prompt")
    page.click("button:text-is('Withdraw')")
    page.wait_for_timeout(300)
    shoot("withdraw")
    page.click("#withdraw-yes")


if __name__ == "__main__":
    main()
