"""Readings as text: a row for each face, and one for each picture without any."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

from pocketaffect.labels import EXPRESSIONS, TRAINED_ON, VALENCE_AROUSAL
from pocketaffect.names import show_name
from pocketaffect.predict.reader import Face, Reading

DECIMALS: Final = 4
BOX: Final = ("x", "y", "width", "height")
BOX_UNKNOWN: Final = (None,) * len(BOX)
COLUMNS: Final = (
    *("input", "frame", "seconds", "faces", "face", "track", *BOX, "score", "expression", "unsure"),
    *(f"p_{name}" for name in EXPRESSIONS),
    *VALENCE_AROUSAL,
    TRAINED_ON,
)


def to_json_lines(reading: Reading, trained_on: str | None) -> Iterator[str]:
    """Gives one JSON object for each face; null where something is not known or there is no face."""
    for number, face in _numbered(reading):
        row: dict[str, Any] = {**_picture_part(reading), "face": number, "track": None if face is None else face.track}
        row["box"] = _box(face)
        row["score"] = _score(face)
        row["expression"] = face.expression if face else None
        row["unsure"] = face.unsure if face else None
        row["probabilities"] = {name: _round(value) for name, value in face.probabilities.items()} if face else None
        row["valence"] = _round(face.valence) if face else None
        row["arousal"] = _round(face.arousal) if face else None
        row[TRAINED_ON] = trained_on
        yield json.dumps(row, ensure_ascii=False, allow_nan=False)


def to_csv(reading: Reading, trained_on: str | None) -> Iterator[str]:
    """Gives one line for each face, with the columns of `COLUMNS`; a field is empty where JSON has null."""
    for number, face in _numbered(reading):
        values: list[Any] = [*_picture_part(reading).values(), number]
        if face is not None:
            unsure = None if face.unsure is None else str(face.unsure).lower()
            values += [face.track, *(_box(face) or BOX_UNKNOWN), _score(face), face.expression, unsure]
            values += map(_round, (*face.probabilities.values(), face.valence, face.arousal))
        yield csv_line([*values, *[None] * (len(COLUMNS) - 1 - len(values)), trained_on])


def csv_line(values: list[Any]) -> str:
    """Writes values as a line of CSV, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _numbered(reading: Reading) -> Iterator[tuple[int | None, Face | None]]:
    if not reading.faces:
        yield None, None
    yield from enumerate(reading.faces)


def _picture_part(reading: Reading) -> dict[str, Any]:
    picture = reading.picture
    seconds = None if picture.seconds is None else round(picture.seconds, 3)
    return {"input": show_name(picture.source), "frame": picture.frame, "seconds": seconds, "faces": len(reading.faces)}


def _box(face: Face | None) -> list[float] | None:
    if face is None or face.box is None:
        return None
    return [round(value, 1) for value in (face.box.x, face.box.y, face.box.width, face.box.height)]


def _score(face: Face | None) -> float | None:
    return None if face is None or face.score is None else _round(face.score)


def _round(value: float) -> float:
    return round(value, DECIMALS) + 0.0
