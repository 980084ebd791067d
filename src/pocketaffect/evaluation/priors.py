"""How often each expression was trained on, is met here and is predicted; and what undoing training's shares gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.metrics import expression_metrics
from pocketaffect.evaluation.tables import FloatArray, Labels, Predictions
from pocketaffect.labels import EXPRESSIONS


@dataclass(frozen=True)
class ClassShare:
    """One expression's share of the faces, 0 to 1.

    Args:
        name: The expression.
        training: Share of the labelled training faces.
        here: Share of the labelled faces judged.
        predicted: Mean probability over these.
        adjusted: Mean probability after `adjust_to_uniform_prior`.
    """

    name: str
    training: float
    here: float
    predicted: float
    adjusted: float


@dataclass(frozen=True)
class PriorShift:
    """Shares of the expressions, and the expression metrics with training's shares undone.

    Args:
        shares: One row per expression.
        adjusted: The metrics of `expression_metrics` after `adjust_to_uniform_prior`, to stand beside those of the
            model as it is.
    """

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
        shares=tuple(ClassShare(*row) for row in shares),
        adjusted=expression_metrics(adjusted, labels.expression),
    )


def adjust_to_uniform_prior(
    probabilities: FloatArray, training_counts: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    r"""Computes probabilities under a uniform prior: logits minus the log of training's shares (Menon et al. 2021).

    .. math::
        p'_c \propto p_c / \pi_c

    Args:
        probabilities: float [n, 8], of a network trained on classes in these shares.
        training_counts: int [8]. One is added to each: a class that was never trained on has a share, too.

    Returns:
        float64 [n, 8], rows sum to 1.
    """
    weighted = np.clip(probabilities, 1e-12, 1, dtype=np.float64) / (training_counts + 1)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))
