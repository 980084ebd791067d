"""From predictions and labels to one evaluation: metrics, floors, per-class table, confusion, calibration, priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pocketaffect.evaluation.baselines import floor_rows, mean_affect
from pocketaffect.evaluation.calibration import Calibration, measure_calibration
from pocketaffect.evaluation.metrics import ExpressionRows, expression_metrics, list_missing, measure
from pocketaffect.evaluation.slices import ClassRow, Slice, class_rows
from pocketaffect.evaluation.tables import FloatArray, Labels, Predictions, check_same_rows
from pocketaffect.labels import EXPRESSIONS

if TYPE_CHECKING:
    from pocketaffect.evaluation.behaviour import Movement
    from pocketaffect.evaluation.intervals import Interval


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found: every metric that the labels allow, and a row for each expression.

    Attributes:
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

    Rows without a label are left out of that task. `choosing` are answers and labels of the faces that were set apart
    for choosing the temperature.

    Raises:
        PocketAffectError: Lengths differ.
    """
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


_STATES: Final = ("probabilities", "valence_arousal", "expression", "truth")


class FaceMetrics(Metric):
    """Every metric that the labels allow, over all faces of all batches and processes.

    The areas under curves need every face's score, so the state is the faces themselves (10 numbers each); merging and
    gathering are exact. `metrics.measure` has the formulas.

    Shapes: probabilities float [n, 8]; valence_arousal float [n, 2]; expression int64 [n], 0..7 or
        `labels.NO_EXPRESSION`; truth float [n, 2], NaN where there is none. The value is a dictionary of float64
        scalars, without the metrics that no face can tell.

    Raises:
        PocketAffectError: An impossible value, at `compute`.

    Example:
        >>> import torch
        >>> metric = FaceMetrics()
        >>> truth = torch.tensor([[0.1, -0.2], [0.3, 0.0]])
        >>> metric.update(torch.eye(8)[:2], truth, torch.tensor([0, 2]), truth)
        >>> round(metric.compute()["accuracy"].item(), 4)
        0.5
    """

    is_differentiable = False
    full_state_update = False
    probabilities: list[Tensor]
    valence_arousal: list[Tensor]
    expression: list[Tensor]
    truth: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, valence_arousal: Tensor, expression: Tensor, truth: Tensor) -> None:
        """Adds faces."""
        for name, rows in zip(_STATES, (probabilities, valence_arousal, expression, truth), strict=True):
            getattr(self, name).append(rows)

    def compute(self) -> dict[str, Tensor]:
        """Computes metrics of all faces so far."""
        scores, affect, expression, truth = (dim_zero_cat(getattr(self, name)).cpu().numpy() for name in _STATES)
        values = measure(Predictions(scores, affect), Labels(expression, truth))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


@dataclass(frozen=True)
class ClassShare:
    """One expression's share of the faces, 0 to 1.

    It is taken of the labelled training faces, of those judged (`here`), and as the mean probability over these, as
    predicted and after `adjust_to_uniform_prior`.
    """

    name: str
    training: float
    here: float
    predicted: float
    adjusted: float


@dataclass(frozen=True)
class PriorShift:
    """Shares of the expressions, and the expression metrics with training's shares undone."""

    shares: tuple[ClassShare, ...]
    adjusted: dict[str, float]


def measure_prior_shift(predictions: Predictions, labels: Labels, training: Labels) -> PriorShift | None:
    """Measures shares, and metrics with logit adjustment; None where either split has no face with an expression.

    A network whose loss weighted the classes to balance was told a uniform prior already: the adjustment then goes
    too far, and the figures show by how much.

    Raises:
        PocketAffectError: Lengths differ.
    """
    if not (labels.has_expression.any() and training.has_expression.any()):
        return None
    counts = np.bincount(training.expression[training.has_expression], minlength=len(EXPRESSIONS))
    rows = labels.has_expression
    adjusted = adjust_to_uniform_prior(predictions.probabilities, counts)
    shares = zip(
        EXPRESSIONS,
        (counts / counts.sum()).tolist(),
        (np.bincount(labels.expression[rows], minlength=len(EXPRESSIONS)) / rows.sum()).tolist(),
        predictions.probabilities[rows].mean(0, dtype=np.float64).tolist(),
        adjusted[rows].mean(0).tolist(),
        strict=True,
    )
    return PriorShift(
        shares=tuple(ClassShare(*row) for row in shares), adjusted=expression_metrics(adjusted, labels.expression)
    )


def adjust_to_uniform_prior(
    probabilities: FloatArray, training_counts: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    r"""Computes probabilities under a uniform prior: logits minus the log of training's shares (Menon et al. 2021).

    .. math::
        p'_c \propto p_c / \pi_c

    The counts, int [8], are training's; one is added to each: a class that was never trained on has a share, too.

    Returns:
        float64 [n, 8], rows sum to 1.
    """
    weighted = np.clip(probabilities, 1e-12, 1, dtype=np.float64) / (training_counts + 1)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))
