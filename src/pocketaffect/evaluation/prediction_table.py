"""predictions.parquet: what a model said about each face, beside its labels, and how two such files are matched."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL

PREDICTIONS_FILE: Final = "predictions.parquet"

_PROBABILITIES: Final = tuple(f"p_{name}" for name in EXPRESSIONS)
_PREDICTED: Final = tuple(f"predicted_{name}" for name in VALENCE_AROUSAL)


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions and labels of n faces.

    Paths are relative to the data set.

    Raises:
        PocketAffectError: Lengths differ.
    """

    paths: tuple[str, ...]
    predictions: Predictions
    labels: Labels

    def __post_init__(self) -> None:
        check_same_rows(self.predictions, self.labels)
        if len(self.paths) != len(self.labels):
            found = f"{len(self.paths)} for {len(self.labels)} rows"
            raise PocketAffectError("paths: not of the same faces", found=found)


def write_predictions(file: Path, table: PredictionTable) -> None:
    """Writes a table, byte for byte the same for the same content.

    Columns: path; expression and predicted_expression (names), p_<expression> for each class, valence,
    predicted_valence, arousal, predicted_arousal; null for no label.

    Raises:
        PocketAffectError: The disk is full or the place cannot be written to.
    """
    with write_atomically(file) as draft:
        draft.write_bytes(encode_predictions(table))


def encode_predictions(table: PredictionTable) -> bytes:
    """Encodes predictions as the bytes that `write_predictions` writes."""
    predictions, labels = table.predictions, table.labels
    columns: dict[str, Any] = {"path": pa.array(table.paths, pa.string())}
    columns["expression"] = pa.array(
        [EXPRESSIONS[index] if index != NO_EXPRESSION else None for index in labels.expression], pa.string()
    )
    columns["predicted_expression"] = pa.array([EXPRESSIONS[index] for index in predictions.expression], pa.string())
    for index, name in enumerate(_PROBABILITIES):
        columns[name] = pa.array(predictions.probabilities[:, index], pa.float32())
    missing = ~labels.has_valence_arousal
    for index, (dimension, predicted) in enumerate(zip(VALENCE_AROUSAL, _PREDICTED, strict=True)):
        columns[dimension] = pa.array(labels.valence_arousal[:, index], pa.float32(), mask=missing)
        columns[predicted] = pa.array(predictions.valence_arousal[:, index], pa.float32())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def read_predictions(file: Path) -> PredictionTable:
    """Reads what `write_predictions` wrote.

    Raises:
        PocketAffectError: The file is missing, is no Parquet file, lacks a column or holds an impossible value.
    """
    wanted = ("path", "expression", *VALENCE_AROUSAL, *_PROBABILITIES, *_PREDICTED)
    try:
        rows = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        found = " ".join(str(error).split())[:200]
        raise PocketAffectError(f"{file}: not readable as a table of predictions", found=found) from None
    missing = [name for name in wanted if name not in rows.column_names]
    if missing:
        raise PocketAffectError(
            f"{file}: no table of predictions", found=f"no column {', '.join(missing)}", allowed=", ".join(wanted)
        )
    names = rows["expression"].to_pylist()
    unknown = sorted({str(name) for name in names if name is not None and name not in EXPRESSIONS})
    if unknown:
        found = ", ".join(unknown)
        raise PocketAffectError(f"{file}: unknown expressions", found=found, allowed=", ".join(EXPRESSIONS))
    expression = [NO_EXPRESSION if name is None else EXPRESSIONS.index(name) for name in names]
    try:
        return PredictionTable(
            tuple(rows["path"].to_pylist()),
            Predictions(_floats(rows, _PROBABILITIES), _floats(rows, _PREDICTED)),
            Labels(np.array(expression, np.int64), _floats(rows, VALENCE_AROUSAL)),
        )
    except PocketAffectError as error:
        raise PocketAffectError(f"{file}: {error}") from None


def _floats(rows: Any, names: Sequence[str]) -> Any:
    try:
        columns = [rows[name].cast(pa.float32()).to_numpy() for name in names]
    except pa.ArrowException as error:
        raise PocketAffectError(f"columns {', '.join(names)}: no numbers", found=str(error)[:200]) from None
    return np.stack(columns, axis=1).astype(np.float32, copy=False)


def match_rows(tables: Mapping[str, PredictionTable]) -> list[PredictionTable]:
    """Puts the tables' faces in the order of the first one's.

    Raises:
        PocketAffectError: They are not of the same faces, a face is listed twice, or the same face has another label.
    """
    (first_name, first), *others = tables.items()
    matched = [first]
    for name, table in others:
        matched.append(table if table.paths == first.paths else _reorder(first_name, first, name, table))
        _refuse_other_labels(first_name, first, name, matched[-1])
    return matched


def _reorder(first_name: str, first: PredictionTable, name: str, table: PredictionTable) -> PredictionTable:
    places = {path: row for row, path in enumerate(table.paths)}
    wanted = set(first.paths)
    only_first, only_this = sorted(wanted - places.keys()), sorted(places.keys() - wanted)
    if only_first or only_this:
        found = [
            f"{len(paths):,} only in {title} (such as {paths[0]})"
            for title, paths in ((first_name, only_first), (name, only_this))
            if paths
        ]
        raise PocketAffectError(
            f"{first_name} and {name} were judged on different faces",
            found="; ".join(found),
            allowed="the same validation faces, matched by path",
            todo="evaluate both on the same data, or compare versions that were",
        )
    if len(places) != len(table.paths) or len(wanted) != len(first.paths):
        raise PocketAffectError(
            f"{first_name} and {name} cannot be matched: a face is listed twice", allowed="each path once"
        )
    order = np.array([places[path] for path in first.paths], np.int64)
    return PredictionTable(
        first.paths,
        Predictions(table.predictions.probabilities[order], table.predictions.valence_arousal[order]),
        Labels(table.labels.expression[order], table.labels.valence_arousal[order]),
    )


def _refuse_other_labels(first_name: str, first: PredictionTable, name: str, table: PredictionTable) -> None:
    ours, theirs = first.labels, table.labels
    same_affect = (ours.valence_arousal == theirs.valence_arousal) | (
        np.isnan(ours.valence_arousal) & np.isnan(theirs.valence_arousal)
    )
    other = (ours.expression != theirs.expression) | ~same_affect.all(axis=1)
    if other.any():
        raise PocketAffectError(
            f"{first_name} and {name} were judged by different labels",
            found=f"{int(other.sum()):,} face(s), such as {first.paths[int(np.argmax(other))]}",
            allowed="the same labels for the same faces",
            todo="evaluate both on the same data, or compare versions that were",
        )
