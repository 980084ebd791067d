"""Speed of each step in headless Chromium beside the paper's VGG pair, and browser against Python predictions.

    python benchmarks/app/browser.py --model out/export/PocketAffect.onnx --clip CLIP

The pair are two untrained VGGNet variants at full width and 128 px (speed does not depend on the weights), each with
both heads. CLIP plays as the camera through the same page. Medians over the pictures of SECONDS.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from app_server import browsing, serving
from PIL import Image
from playwright.sync_api import Page
from skimage import data

SECONDS = 15
STEPS = ("detect", "crop", "infer", "draw")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="out/export/PocketAffect.onnx")
    parser.add_argument("--clip", type=Path, required=True)
    arguments = parser.parse_args()
    print(f"{'':<14}{'pictures/s':>11}" + "".join(f"{step:>9}" for step in STEPS) + "   ms, medians")
    with browsing(arguments.clip) as browser, tempfile.TemporaryDirectory() as folder:
        _write_vgg(Path(folder) / "vgg.onnx")
        for name, model, passes in (("ours", arguments.model, 1), ("VGG pair", f"{folder}/vgg.onnx", 2)):
            with serving(model) as address:
                page = browser.new_context(service_workers="block").new_page()
                if passes > 1:
                    page.route("**/api/model", _answer_twice)
                page.goto(address)
                page.wait_for_selector("html[data-ready]", state="attached")
                _print_speed(name, _measure(page))
                if passes == 1:
                    _print_agreement(page, Path(model))
                page.context.close()


def _answer_twice(route: Any) -> None:
    answer = route.fetch()
    facts = answer.json()
    route.fulfill(response=answer, json=facts | {"files": facts["files"] * 2})


def _write_vgg(file: Path) -> None:
    from pocketaffect.export.convert import conventions
    from pocketaffect.export.forms import save_twin
    from pocketaffect.models.network import AffectNetwork, NetworkSpec
    from pocketaffect.precisions import find_precision

    spec = NetworkSpec(architecture="vgg", width=1.0, size=128, head="plain")
    save_twin(AffectNetwork(spec).eval(), 128, conventions(128, find_precision("fp16"), 0.0), file)
    # The server asks for a passed verification; these weights are random, and only their speed is looked at.
    record = {"passed": True, "forms": {"twin": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}}
    file.with_name("verification.json").write_text(json.dumps(record), encoding="utf-8")


def _measure(page: Page) -> list[dict[str, Any]]:
    page.evaluate(
        "() => { window.seen = []; document.addEventListener('reading', ({ detail }) =>"
        " seen.push({ at: performance.now(), ...detail.times })); }"
    )
    page.click("#start")
    page.wait_for_timeout(3000)
    page.evaluate("window.seen.length = 0")
    page.wait_for_timeout(SECONDS * 1000)
    seen = page.evaluate("window.seen")
    page.click("#stop")
    return list(seen)


def _print_speed(name: str, seen: list[dict[str, Any]]) -> None:
    rate = (len(seen) - 1) / (seen[-1]["at"] - seen[0]["at"]) * 1000
    steps = [statistics.median(each[step] for each in seen if step in each) for step in STEPS]
    print(f"{name:<14}{rate:>11.1f}" + "".join(f"{value:>9.2f}" for value in steps), flush=True)


def _print_agreement(page: Page, file: Path) -> None:
    from pocketaffect.data.faces.crop import FaceBox, crop_face
    from pocketaffect.export.session import load_twin

    twin = load_twin(file)
    margin = float(twin.metadata["crop_margin"])
    differences, agreed, pictures = [], 0, list(_photographs())
    for picture in pictures:
        reading = _read_photo(page, picture)
        face = reading["faces"][0]
        box = FaceBox(face["x"], face["y"], face["width"], face["height"])
        expected = twin.predict(crop_face(picture, box, margin=margin, size=twin.size)[None])
        theirs = np.array([*reading["probabilities"], reading["valence"], reading["arousal"]])
        ours = np.concatenate([expected["probabilities"][0], expected["valence_arousal"][0]])
        differences.append(np.abs(theirs - ours).max())
        agreed += int(theirs[:8].argmax() == ours[:8].argmax())
    print(f"browser against Python on {len(pictures)} pictures: {agreed} classes agree, largest difference "
          f"{max(differences):.1e}, median {statistics.median(differences):.1e}")  # fmt: skip


def _photographs() -> list[np.ndarray]:
    image = data.astronaut()
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(40):
        side = int(random.integers(200, 330))
        left, top = int(random.integers(40, 130)), int(random.integers(0, 40))
        part = image[top : top + side, left : left + side]
        part = cv2.resize(part, None, fx=1.0 + random.random(), fy=1.0 + random.random())
        pictures.append(cv2.convertScaleAbs(part, alpha=0.6 + 0.6 * random.random()))
    return pictures


def _read_photo(page: Page, picture: np.ndarray) -> dict[str, Any]:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    page.evaluate(
        "window.read = null; "
        "document.addEventListener('reading', ({ detail }) => { window.read = detail; }, { once: true })"
    )
    page.set_input_files("#photo-input", {"name": "face.png", "mimeType": "image/png", "buffer": content.getvalue()})
    for _ in range(200):
        if reading := page.evaluate("window.read"):
            return dict(reading)
        page.wait_for_timeout(50)
    raise SystemExit("the page found no face in a picture")


if __name__ == "__main__":
    main()
