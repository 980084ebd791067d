"""Readings as text: a row for each face, and one for each picture without any."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

from pocketaffect.labels import EXPRESSIONS, TRAINED_ON, VALENCE_AROUSAL
from pocketaffect.names import show_name
from pocketaffect.predict.reader import Reading

DECIMALS: Final = 4
BOX: Final = ("x", "y", "width", "height")
COLUMNS: Final = (
    *("input", "frame", "seconds", "faces", "face", "track", *BOX, "score", "expression", "unsure"),
    *(f"p_{name}" for name in EXPRESSIONS),
    *VALENCE_AROUSAL,
    TRAINED_ON,
)


def to_rows(reading: Reading, trained_on: str | None) -> Iterator[dict[str, Any]]:
    """Gives a row for each face, or one for a picture without any; None where something is not known."""
    picture = reading.picture
    for number, face in enumerate(reading.faces or [None]):
        row: dict[str, Any] = {"input": show_name(picture.source), "frame": picture.frame}
        row["seconds"] = None if picture.seconds is None else round(picture.seconds, 3)
        row |= {"faces": len(reading.faces), "face": number if face else None, "track": face and face.track}
        box = face and face.box
        row["box"] = box and [round(getattr(box, name), 1) for name in BOX]
        row["score"] = None if face is None or face.score is None else _round(face.score)
        row |= {"expression": face and face.expression, "unsure": face and face.unsure}
        row["probabilities"] = face and {name: _round(value) for name, value in face.probabilities.items()}
        row |= {name: face and _round(getattr(face, name)) for name in VALENCE_AROUSAL}
        yield row | {TRAINED_ON: trained_on}


def to_json(row: dict[str, Any]) -> str:
    """Writes a row as a JSON object."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def to_csv(row: dict[str, Any]) -> str:
    """Writes a row as a line with the columns of COLUMNS; a field is empty where JSON has null."""
    values: list[Any] = []
    for name, value in row.items():
        if name == "box":
            values += value or [None] * len(BOX)
        elif name == "probabilities":
            values += (value or dict.fromkeys(EXPRESSIONS)).values()
        else:
            values.append(str(value).lower() if isinstance(value, bool) else value)
    return csv_line(values)


def csv_line(values: list[Any]) -> str:
    """Writes values as a line of CSV, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _round(value: float) -> float:
    return round(value, DECIMALS) + 0.0
