from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.faces.crop import FaceBox
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict import annotate
from pocketaffect.predict.annotate import draw
from pocketaffect.predict.pictures import Picture
from pocketaffect.predict.reader import Face, Reading


def read(height: int, width: int, box: tuple[float, float, float, float] | None) -> Reading:
    probabilities = dict(zip(EXPRESSIONS, np.eye(8)[7].tolist(), strict=True))
    face = Face(None if box is None else FaceBox(*box), 0.9, probabilities, -0.25, 0.75, unsure=True, track=3)
    return Reading(Picture(Path("a.jpg"), np.zeros((height, width, 3), np.uint8)), (face,))


def captions(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, int, int]]:
    """Each text with the rectangle that OpenCV fills behind it: left, top, right, bottom."""
    filled, texts = [], []
    rectangle, put = annotate.cv2.rectangle, annotate.cv2.putText

    def note_rectangle(image, corner, other, colour, thickness, *rest):
        if thickness == annotate.cv2.FILLED:
            filled.append((*corner, *other))
        return rectangle(image, corner, other, colour, thickness, *rest)

    def note_text(image, text, place, *rest):
        texts.append(text)
        return put(image, text, place, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(annotate.cv2, "rectangle", note_rectangle)
        patch.setattr(annotate.cv2, "putText", note_text)
        draw(reading)
    return [(text, *place) for text, place in zip(texts, filled, strict=True)]


@settings(max_examples=60)
@given(st.data(), st.integers(60, 900), st.integers(60, 900))
def test_both_lines_of_a_caption_stay_in_the_picture_wherever_the_box_ends(data, height, width):
    x, y = data.draw(st.floats(-0.6 * width, width)), data.draw(st.floats(-0.6 * height, height))
    box = (x, y, data.draw(st.floats(1, 1.5 * width)), data.draw(st.floats(1, 1.5 * height)))
    with pytest.MonkeyPatch.context() as patch:
        lines = captions(read(height, width, box), patch)
    assert [text for text, *_ in lines] == ["#3 contempt 100% (unsure)", "V -0.25  A +0.75"]
    for _, left, top, right, bottom in lines:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    assert lines[0][4] <= lines[1][2]


def test_a_close_up_whose_box_ends_below_it_shows_valence_and_arousal(monkeypatch):
    lines = captions(read(400, 400, (20, 30, 360, 420)), monkeypatch)
    assert [bottom for *_, bottom in lines][-1] <= 400
    drawn = draw(read(400, 400, (20, 30, 360, 420)))
    ink = np.abs(drawn[lines[1][2] : 400].astype(int) - annotate.INK).max(axis=2)
    assert (ink < 100).sum() > 100
