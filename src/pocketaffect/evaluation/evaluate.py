"""From predictions and labels to one evaluation: metrics, floors, per-class table, confusion, calibration, priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from pocketaffect.evaluation.baselines import floor_rows, mean_affect
from pocketaffect.evaluation.calibration import Calibration, measure_calibration
from pocketaffect.evaluation.metrics import CLASSES, expression_metrics, valence_arousal_metrics
from pocketaffect.evaluation.priors import PriorShift, measure_prior_shift
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows
from pocketaffect.labels import EXPRESSIONS

if TYPE_CHECKING:
    from pocketaffect.evaluation.behaviour import Movement
    from pocketaffect.evaluation.intervals import Interval
    from pocketaffect.evaluation.slices import Slice

DECIMALS = 6
"""Digits that are written: more would differ with the summation order, fewer would hide small steps."""


@dataclass(frozen=True)
class ClassRow:
    """One expression's row of the per-class table.

    Args:
        name: The expression.
        support: Rows whose label it is.
        precision: Share of the rows predicted as it that are it; 0 where none is predicted.
        recall: Share of its rows predicted as it; 0 where it has no row.
        f1: Their harmonic mean; 0 where both are 0.
        error_valence: Mean absolute error of valence over its rows that have one; None without any.
        error_arousal: The same of arousal.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    error_valence: float | None
    error_arousal: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: Every metric of `expression_metrics` and `valence_arousal_metrics`, and expected_calibration_error.
        per_class: One row per expression.
        confusion: int64 [8, 8], rows true, columns predicted.
        floors: Metrics of the rows of `baselines.floor_rows`.
        counts: Rows judged: rows, expression_rows, valence_arousal_rows, absent_classes (expressions without a
            true row, which pull every macro mean down).
        training_mean: Mean (valence, arousal) of training, which the constant floor predicts.
        calibration: Reliability of the probabilities, and the temperature that would mend it.
        priors: Shares of the expressions, and the metrics with those of training undone.
        intervals: Of the metrics that `intervals.bootstrap_metrics` gives; empty where nobody asked.
        slices: Of `slices.slice_metrics`; likewise.
        behaviour: Of `behaviour.measure_behaviour`; likewise.
    """

    metrics: dict[str, float]
    per_class: tuple[ClassRow, ...]
    confusion: npt.NDArray[np.int64]
    floors: dict[str, dict[str, float]]
    counts: dict[str, int]
    training_mean: tuple[float, float]
    calibration: Calibration
    priors: PriorShift
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    slices: Sequence[Slice] = ()
    behaviour: Sequence[Movement] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, numbers rounded to `DECIMALS`, so that files repeat byte for byte."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    """Dataclasses and arrays as JSON's types, floats cut to `DECIMALS` (and never -0.0)."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def evaluate_predictions(predictions: Predictions, labels: Labels, training_labels: Labels) -> Evaluation:
    """Judges predictions by labels, beside floor rows taken from the training labels.

    Args:
        predictions: Of n faces.
        labels: Of the same n faces, in the same order; rows without a label are left out of that task.
        training_labels: Of the training split.

    Raises:
        PocketAffectError: Lengths differ, or a task has no labelled row in either split.
    """
    check_same_rows(predictions.probabilities, labels.expression)
    metrics = {
        **expression_metrics(predictions.probabilities, labels.expression),
        **valence_arousal_metrics(predictions.valence_arousal, labels.valence_arousal),
    }
    calibration = measure_calibration(predictions.probabilities, labels.expression)
    floors = floor_rows(predictions.expression, training_labels, labels)
    rows = labels.has_expression
    preds = torch.from_numpy(predictions.expression[rows])
    target = torch.from_numpy(labels.expression[rows].astype(np.int64))
    confusion = multiclass_confusion_matrix(preds, target, CLASSES).numpy()
    valence, arousal = mean_affect(training_labels).tolist()
    return Evaluation(
        metrics={**metrics, "expected_calibration_error": calibration.error},
        per_class=_per_class(predictions, labels, preds, target),
        confusion=confusion,
        floors=floors,
        counts={
            "rows": len(labels),
            "expression_rows": int(rows.sum()),
            "valence_arousal_rows": int(labels.has_valence_arousal.sum()),
            "absent_classes": int((confusion.sum(1) == 0).sum()),
        },
        training_mean=(valence, arousal),
        calibration=calibration,
        priors=measure_prior_shift(predictions, labels, training_labels),
    )


def _per_class(
    predictions: Predictions, labels: Labels, preds: torch.Tensor, target: torch.Tensor
) -> tuple[ClassRow, ...]:
    precision = multiclass_precision(preds, target, CLASSES, average="none").tolist()
    recall = multiclass_recall(preds, target, CLASSES, average="none").tolist()
    f1 = multiclass_f1_score(preds, target, CLASSES, average="none").tolist()
    error = np.abs(predictions.valence_arousal.astype(np.float64) - labels.valence_arousal)
    table = []
    for index, name in enumerate(EXPRESSIONS):
        rows = (labels.expression == index) & labels.has_valence_arousal
        valence, arousal = error[rows].mean(0).tolist() if rows.any() else (None, None)
        support = int((target == index).sum())
        table.append(ClassRow(name, support, precision[index], recall[index], f1[index], valence, arousal))
    return tuple(table)
