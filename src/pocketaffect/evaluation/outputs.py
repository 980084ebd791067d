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

from pocketaffect.evaluation.evaluate import DECIMALS, Evaluation
from pocketaffect.evaluation.prediction_table import PREDICTIONS_FILE, PredictionTable, encode_predictions
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL


def write_evaluation(evaluation: Evaluation, table: PredictionTable, folder: Path) -> None:
    """Writes an evaluation to a folder, byte for byte the same for the same input.

    Files:
        metrics.json: flat, for `dvc metrics`.
        floors.json: floor row -> metric -> value; counts.json: rows judged; intervals.json: metric -> value, low, high;
        calibration.json; priors.json: shares of the expressions, metrics with training's undone.
        per_class.csv, slices.csv, behaviour.csv: one row per expression, slice and change; the last two where the
            evaluation has them.
        confusion.csv: columns actual, predicted (class names), one row per labelled face, for DVC's
            `confusion_normalized` template, which normalises over its y field: y must be `actual`.
        reliability.csv: columns confidence, accuracy, faces; a row for each bin that has a face.
        valence.csv, arousal.csv: columns truth, prediction, for DVC's `scatter` template.
        predictions.parquet: see `prediction_table.write_predictions`.

    Args:
        evaluation: Of `evaluate_predictions`.
        table: What was judged.
        folder: Made where it is missing.

    Raises:
        PocketAffectError: The disk is full or the folder cannot be written to.
    """
    predictions, labels = table.predictions, table.labels
    content = evaluation.to_dict()
    confusion = (
        (EXPRESSIONS[true], EXPRESSIONS[predicted])
        for true, predicted in zip(labels.expression, predictions.expression, strict=True)
        if true != NO_EXPRESSION
    )
    bins = [row for row in content["calibration"]["bins"] if row["faces"]]
    files = {
        **{f"{name}.json": _json(content[name]) for name in ("metrics", "floors", "counts", "calibration", "priors")},
        **{f"{name}.csv": _table(content[name]) for name in ("per_class", "slices", "behaviour") if content[name]},
        "confusion.csv": _csv(["actual", "predicted"], confusion),
        "reliability.csv": _table([{name: row[name] for name in ("confidence", "accuracy", "faces")} for row in bins]),
        PREDICTIONS_FILE: encode_predictions(table),
    }
    if content["intervals"]:
        files["intervals.json"] = _json(content["intervals"])
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


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return _csv(list(rows[0]), (list(row.values()) for row in rows))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows with fixed-point floats; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(f"{value:.{DECIMALS}f}" if isinstance(value, float) else value for value in row)
    return text.getvalue().encode()
