"""Readings as text: a row for each face, and one for each picture without any."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.names import show_name
from pocketaffect.predict.run import FaceReading, Reading

DECIMALS: Final = 4
BOX: Final = ("x", "y", "width", "height")
BOX_UNKNOWN: Final = (None,) * len(BOX)
COLUMNS: Final = (
    *("input", "frame", "seconds", "faces", "face", "track", *BOX, "score", "expression"),
    *(f"p_{name}" for name in EXPRESSIONS),
    *VALENCE_AROUSAL,
)


def to_json_lines(reading: Reading) -> Iterator[str]:
    """Gives one JSON object for each face; null where something is not known or there is no face."""
    for number, face in _numbered(reading):
        row: dict[str, Any] = {**_picture_part(reading), "face": number, "track": None if face is None else face.track}
        row["box"] = _box(face)
        row["score"] = _score(face)
        row["expression"] = name_expression(face) if face else None
        probabilities = zip(EXPRESSIONS, _rounded(face.probabilities), strict=True) if face else None
        row["probabilities"] = dict(probabilities) if probabilities else None
        for position, name in enumerate(VALENCE_AROUSAL):
            row[name] = _rounded(face.valence_arousal)[position] if face else None
        yield json.dumps(row, ensure_ascii=False, allow_nan=False)


def to_csv(reading: Reading) -> Iterator[str]:
    """Gives one line for each face, with the columns of `COLUMNS`; a field is empty where JSON has null."""
    for number, face in _numbered(reading):
        values: list[Any] = [*_picture_part(reading).values(), number]
        if face is not None:
            values += [face.track, *(_box(face) or BOX_UNKNOWN), _score(face), name_expression(face)]
            values += [*_rounded(face.probabilities), *_rounded(face.valence_arousal)]
        yield csv_line([*values, *[None] * (len(COLUMNS) - len(values))])


def csv_line(values: list[Any]) -> str:
    """Writes values as a line of CSV, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def name_expression(face: FaceReading) -> str:
    """Names the likeliest expression."""
    return EXPRESSIONS[int(face.probabilities.argmax())]


def _numbered(reading: Reading) -> Iterator[tuple[int | None, FaceReading | None]]:
    if not reading.faces:
        yield None, None
    yield from enumerate(reading.faces)


def _picture_part(reading: Reading) -> dict[str, Any]:
    picture = reading.picture
    seconds = None if picture.seconds is None else round(picture.seconds, 3)
    return {"input": show_name(picture.source), "frame": picture.frame, "seconds": seconds, "faces": len(reading.faces)}


def _box(face: FaceReading | None) -> list[float] | None:
    if face is None or face.box is None:
        return None
    return [round(value, 1) for value in (face.box.x, face.box.y, face.box.width, face.box.height)]


def _score(face: FaceReading | None) -> float | None:
    return None if face is None or face.score is None else round(face.score, DECIMALS)


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    return [round(value, DECIMALS) + 0.0 for value in values.tolist()]
