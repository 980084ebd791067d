"""A real headless Chromium with clips as its camera."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright
from skimage import data

READY = "html[data-ready]"
TIMEOUT = 120_000  # ms: two shared cores may be busy
SCRIPT_ERRORS: list[str] = []
"""Of the pages that `open_page` opened; to fail in playwright's callback would end the browser of all tests."""


def find_chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine")


def write_clip(file: Path, pictures: list[np.ndarray]) -> Path:
    """Pictures (uint8 [240, 320, 3], RGB) as an uncompressed clip, which Chromium plays in a loop as a camera."""
    with file.open("wb") as clip:
        clip.write(b"YUV4MPEG2 W320 H240 F15:1 Ip A1:1 C420jpeg\n")
        for picture in pictures:
            clip.write(b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes())
    return file


def portrait(shift: int = 0, faces: int = 1) -> np.ndarray:
    """The face of scikit-image's astronaut on 320 x 240 pixels."""
    head = data.astronaut()[20:260, 100:340]
    picture = np.full((240, 320, 3), 90, np.uint8)
    if faces == 1:
        picture[:, 40 + shift : 280 + shift] = head
    else:
        picture[20:220, 0:190] = cv2.resize(head, (200, 200))[:, :190]
        picture[80:200, 195:315] = cv2.resize(head, (120, 120))
    return picture


@contextmanager
def browsing(playwright: Playwright, camera: Path | None, *, allow: bool = True) -> Iterator[Browser]:
    """Chromium with a clip as its camera; None gives it no camera at all."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    if camera is not None:
        arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    if allow:
        arguments += ["--use-fake-ui-for-media-stream"]
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
    try:
        yield browser
    finally:
        browser.close()


def open_page(browser: Browser, address: str, *, ready: bool = True) -> Page:
    """The page, once its networks are loaded where `ready`; what its scripts get wrong goes to SCRIPT_ERRORS."""
    page = browser.new_context().new_page()
    page.set_default_timeout(TIMEOUT)
    page.on("pageerror", lambda error: SCRIPT_ERRORS.append(str(error)))
    page.goto(address)
    if ready:
        page.wait_for_selector(READY, state="attached")
    return page
