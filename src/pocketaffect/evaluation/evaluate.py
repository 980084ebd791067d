"""From predictions and labels to one evaluation: metrics, floor rows, per-class table and confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from pocketaffect.evaluation.metrics import CLASSES, expression_metrics, valence_arousal_metrics
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows
from pocketaffect.labels import EXPRESSIONS

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

    def to_dict(self) -> dict[str, str | int | float | None]:
        """JSON-safe and rounded, in column order."""
        return {name: rounded(value) for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: Every metric of `expression_metrics` and `valence_arousal_metrics`, flat.
        per_class: One row per expression.
        confusion: int64 [8, 8], rows true, columns predicted.
        floors: Metrics of the rows of `baselines.floor_rows`.
        counts: Rows judged: rows, expression_rows, valence_arousal_rows, absent_classes (expressions without a
            true row, which pull every macro mean down).
        training_mean: Mean (valence, arousal) of training, which the constant floor predicts.
    """

    metrics: dict[str, float]
    per_class: tuple[ClassRow, ...]
    confusion: npt.NDArray[np.int64]
    floors: dict[str, dict[str, float]]
    counts: dict[str, int]
    training_mean: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, numbers rounded to `DECIMALS`, so that files repeat byte for byte."""
        return {
            "metrics": {name: rounded(value) for name, value in self.metrics.items()},
            "per_class": [row.to_dict() for row in self.per_class],
            "confusion": self.confusion.tolist(),
            "floors": {
                row: {name: rounded(value) for name, value in values.items()} for row, values in self.floors.items()
            },
            "counts": dict(self.counts),
            "training_mean": [rounded(value) for value in self.training_mean],
        }


def rounded(value: Any) -> Any:
    """A float cut to `DECIMALS` (and never -0.0); anything else as it is."""
    return round(value, DECIMALS) + 0.0 if isinstance(value, float) else value


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
    floors = floor_rows(predictions.expression, training_labels, labels)
    rows = labels.has_expression
    preds = torch.from_numpy(predictions.expression[rows])
    target = torch.from_numpy(labels.expression[rows].astype(np.int64))
    confusion = multiclass_confusion_matrix(preds, target, CLASSES).numpy()
    valence, arousal = mean_affect(training_labels).tolist()
    return Evaluation(
        metrics=metrics,
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
