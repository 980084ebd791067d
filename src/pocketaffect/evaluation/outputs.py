"""An evaluation as files that DVC, MLflow and people read; all of them are replaced, or none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.evaluate import DECIMALS, Evaluation
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL


def write_evaluation(
    evaluation: Evaluation,
    predictions: Predictions,
    labels: Labels,
    folder: Path,
    paths: Sequence[str] | None = None,
) -> None:
    """Writes an evaluation to a folder, byte for byte the same for the same input.

    Files:
        metrics.json: flat, for `dvc metrics`.
        floors.json: floor row -> metric -> value; counts.json: rows judged.
        per_class.csv: one row per expression.
        confusion.csv: columns actual, predicted (class names), one row per labelled face, for DVC's
            `confusion_normalized` template, which normalises over its y field: y must be `actual`.
        valence.csv, arousal.csv: columns truth, prediction, for DVC's `scatter` template.
        predictions.parquet: path (where `paths` is given), expression and predicted_expression (names), one
            p_<expression> per class, valence, arousal, predicted_valence, predicted_arousal; null for no label.

    Args:
        evaluation: Of `evaluate_predictions`.
        predictions: Of n faces.
        labels: Of the same faces.
        folder: Made where it is missing.
        paths: Names of the n faces, relative to the data set.

    Raises:
        PocketAffectError: Lengths differ, the disk is full or the folder cannot be written to.
    """
    check_same_rows(predictions.probabilities, labels.expression)
    if paths is not None and len(paths) != len(labels):
        raise PocketAffectError("paths: not of the same faces", found=f"{len(paths)} for {len(labels)} rows")
    content = evaluation.to_dict()
    per_class = content["per_class"]
    confusion = (
        (EXPRESSIONS[true], EXPRESSIONS[predicted])
        for true, predicted in zip(labels.expression, predictions.expression, strict=True)
        if true != NO_EXPRESSION
    )
    files = {
        "metrics.json": _json(content["metrics"]),
        "floors.json": _json(content["floors"]),
        "counts.json": _json(content["counts"]),
        "per_class.csv": _csv(list(per_class[0]), (list(row.values()) for row in per_class)),
        "confusion.csv": _csv(["actual", "predicted"], confusion),
        "predictions.parquet": _parquet(predictions, labels, paths),
    }
    rows = labels.has_valence_arousal
    for index, dimension in enumerate(VALENCE_AROUSAL):
        pairs = np.stack([labels.valence_arousal[rows, index], predictions.valence_arousal[rows, index]], axis=1)
        files[f"{dimension}.csv"] = _csv(["truth", "prediction"], pairs.tolist())
    replace_files(folder, files)


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder; none is moved to its name before all are complete.

    Raises:
        PocketAffectError: The disk is full or the folder cannot be written to; its files stay as they were.
    """
    with ExitStack() as stack:
        for name, content in files.items():
            stack.enter_context(write_atomically(folder / name)).write_bytes(content)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows with fixed-point floats; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(f"{value:.{DECIMALS}f}" if isinstance(value, float) else value for value in row)
    return text.getvalue().encode()


def _parquet(predictions: Predictions, labels: Labels, paths: Sequence[str] | None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {} if paths is None else {"path": pa.array(list(paths), pa.string())}
    columns["expression"] = [EXPRESSIONS[index] if index != NO_EXPRESSION else None for index in labels.expression]
    columns["predicted_expression"] = [EXPRESSIONS[index] for index in predictions.expression]
    for index, name in enumerate(EXPRESSIONS):
        columns[f"p_{name}"] = pa.array(predictions.probabilities[:, index], pa.float32())
    missing = ~labels.has_valence_arousal
    for index, dimension in enumerate(VALENCE_AROUSAL):
        columns[dimension] = pa.array(labels.valence_arousal[:, index], pa.float32(), mask=missing)
        columns[f"predicted_{dimension}"] = pa.array(predictions.valence_arousal[:, index], pa.float32())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()
