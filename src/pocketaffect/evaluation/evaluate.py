"""From predictions and labels to one evaluation: metrics, floors, per-class table, confusion, calibration, priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.baselines import floor_rows, mean_affect
from pocketaffect.evaluation.calibration import Calibration, measure_calibration
from pocketaffect.evaluation.metrics import ExpressionRows, list_missing
from pocketaffect.evaluation.priors import PriorShift, measure_prior_shift
from pocketaffect.evaluation.slices import ClassRow, Slice, class_rows
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows

if TYPE_CHECKING:
    from pocketaffect.evaluation.behaviour import Movement
    from pocketaffect.evaluation.intervals import Interval


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: Every metric of `metrics` that the labels allow.
        per_class: One row per expression.
        confusion: int64 [8, 8], rows true, columns predicted.
        floors: Metrics of the rows of `baselines.floor_rows`.
        counts: Rows judged: rows, expression_rows, valence_arousal_rows, absent_classes (expressions without a
            true row, over which no macro mean runs).
        training_mean: Mean (valence, arousal) of training, which the constant floor predicts; None without any.
        calibration: Reliability of the probabilities, and the temperature that would fix it; None without a face
            that has an expression, as the next.
        priors: Shares of the expressions, and the metrics with those of training undone.
        intervals: Intervals by metric, from `bootstrap_metrics`; empty where nobody asked, as the next two.
        slices: Rows of `slice_metrics`.
        behaviour: Rows of `measure_behaviour`.
    """

    metrics: dict[str, float]
    per_class: tuple[ClassRow, ...]
    confusion: npt.NDArray[np.int64]
    floors: dict[str, dict[str, float]]
    counts: dict[str, int]
    training_mean: tuple[float, float] | None
    calibration: Calibration | None
    priors: PriorShift | None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    slices: Sequence[Slice] = ()
    behaviour: Sequence[Movement] = ()

    @property
    def absent_classes(self) -> list[str]:
        """Expressions without a true row."""
        return [row.name for row in self.per_class if not row.support]

    @property
    def not_measured(self) -> list[str]:
        """Titles of the metrics that the labels do not allow."""
        return list_missing(self.metrics)


def evaluate_predictions(
    predictions: Predictions,
    labels: Labels,
    training_labels: Labels,
    *,
    choosing: tuple[Predictions, Labels] | None = None,
) -> Evaluation:
    """Judges predictions by labels, beside floor rows taken from the training labels.

    Args:
        predictions: Answers to n faces.
        labels: Labels of the same faces, in the same order; rows without a label are left out of that task.
        training_labels: Labels of the training split.
        choosing: Answers and labels of the faces that were set apart for choosing the temperature.

    Raises:
        PocketAffectError: Lengths differ.
    """
    import torch

    from pocketaffect.evaluation.torch_metrics import FaceMetrics

    check_same_rows(predictions, labels)
    metrics = FaceMetrics()
    columns = (predictions.probabilities, predictions.valence_arousal, labels.expression, labels.valence_arousal)
    metrics.update(*map(torch.from_numpy, columns))
    rows = labels.has_expression
    (confusion,) = ExpressionRows(predictions.probabilities[rows], labels.expression[rows]).statistics().confusion
    mean = mean_affect(training_labels)
    return Evaluation(
        metrics={name: value.item() for name, value in metrics.compute().items()},
        per_class=class_rows(predictions, labels),
        confusion=confusion.astype(np.int64),
        floors=floor_rows(predictions.expression, training_labels, labels),
        counts={
            "rows": len(labels),
            "expression_rows": int(rows.sum()),
            "valence_arousal_rows": int(labels.has_valence_arousal.sum()),
            "absent_classes": int((confusion.sum(1) == 0).sum()),
        },
        training_mean=None if mean is None else (float(mean[0]), float(mean[1])),
        calibration=measure_calibration(predictions, labels, choosing=choosing),
        priors=measure_prior_shift(predictions, labels, training_labels),
    )
