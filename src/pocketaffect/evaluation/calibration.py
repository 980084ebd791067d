"""How far the stated probabilities can be believed: reliability by bins, calibration error, temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.tables import (
    FloatArray,
    IntArray,
    check_expression,
    check_probabilities,
    check_same_rows,
    labelled_expression,
)

BINS: Final = 15
SEED: Final = 2018

_TEMPERATURES: Final = (0.05, 20.0)
_LEAST: Final = 1e-12
"""A probability that half precision rounded to 0 is taken for this: its logarithm must be finite."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The faces whose top probability lies in (low, high].

    Args:
        low: Lower bound; the first bin holds 0 too.
        high: Upper bound.
        faces: How many.
        confidence: Their mean top probability; None without any.
        accuracy: Share of them whose likeliest class is right; None without any.
    """

    low: float
    high: float
    faces: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Calibration of an expression head, as it is and with a temperature.

    Args:
        bins: The reliability table.
        error: Expected calibration error, as it is.
        log_loss: Mean negative logarithm of the true class's probability, as it is.
        temperature: Fitted on all labelled faces: the one to divide the logits by.
        scaled_error: The error of each half at the temperature that the other half gave.
        scaled_log_loss: The log loss of the same.
    """

    bins: tuple[ReliabilityBin, ...]
    error: float
    log_loss: float
    temperature: float
    scaled_error: float
    scaled_log_loss: float


def measure_calibration(probabilities: FloatArray, expression: IntArray, *, seed: int = SEED) -> Calibration:
    """Reliability, calibration error and the temperature that would mend it.

    A temperature judged on the faces that it was fitted on would flatter: it is cross-fitted for the scaled figures,
    each half of the faces (drawn by `seed`) at the temperature of the other half.

    Raises:
        PocketAffectError: No row has an expression, lengths differ or a value is impossible.
    """
    scores, true = _labelled(probabilities, expression)
    order = np.random.default_rng(seed).permutation(len(true))
    halves = (order[::2], order[1::2])
    scaled = scores.copy()
    for own, other in (halves, halves[::-1]):
        if len(other):
            scaled[own] = scale(scores[own], fit_temperature(scores[other], true[other]))
    return Calibration(
        bins=reliability(scores, true),
        error=expected_calibration_error(scores, true),
        log_loss=_log_loss(scores, true),
        temperature=fit_temperature(scores, true),
        scaled_error=expected_calibration_error(scaled, true),
        scaled_log_loss=_log_loss(scaled, true),
    )


def expected_calibration_error(probabilities: FloatArray, expression: IntArray, bins: int = BINS) -> float:
    r"""Expected calibration error of the likeliest class (Naeini et al. 2015; Guo et al. 2017).

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over bins of equal width of the top probability. 0 is perfect. It is biased upward where faces are few: at 500
    faces in 15 bins a perfectly calibrated model shows about .05.

    Args:
        probabilities: float [n, 8], rows sum to 1.
        expression: int [n], 0..7, or `labels.NO_EXPRESSION` for rows to leave out.
        bins: How many.

    Raises:
        PocketAffectError: No row has an expression, lengths differ or a value is impossible.
    """
    table = reliability(probabilities, expression, bins)
    faces = sum(row.faces for row in table)
    return sum(
        row.faces / faces * abs(row.accuracy - row.confidence)
        for row in table
        if row.accuracy is not None and row.confidence is not None
    )


def reliability(probabilities: FloatArray, expression: IntArray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Confidence and accuracy by bins of the top probability, over the rows with an expression.

    Raises:
        PocketAffectError: As `expected_calibration_error`.
    """
    if bins < 1:
        raise PocketAffectError("calibration: no bins", found=bins, allowed="1 and more")
    scores, true = _labelled(probabilities, expression)
    confidence = np.clip(scores.max(axis=1), 0, 1)
    right = scores.argmax(axis=1) == true
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    faces = np.bincount(place, minlength=bins)
    stated = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            faces=int(count),
            confidence=float(stated[index] / count) if count else None,
            accuracy=float(hits[index] / count) if count else None,
        )
        for index, count in enumerate(faces)
    )


def fit_temperature(probabilities: FloatArray, expression: IntArray) -> float:
    """The temperature of least log loss, within 0.05 to 20 (Guo et al. 2017).

    Above 1 the model is too sure of itself, below 1 not sure enough.

    Raises:
        PocketAffectError: As `expected_calibration_error`.
    """
    from scipy.optimize import minimize_scalar

    scores, true = _labelled(probabilities, expression)
    logits = _logits(scores)
    chosen = logits[np.arange(len(true)), true]

    def loss(inverse: float) -> float:
        scaled = logits * inverse
        top = scaled.max(axis=1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - chosen * inverse).mean())

    # In the inverse of the temperature the loss is convex.
    bounds = (1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)


def scale(probabilities: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities [n, 8] after their logits are divided by `temperature`."""
    logits = _logits(probabilities) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _logits(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), _LEAST)))


def _log_loss(probabilities: FloatArray, expression: IntArray) -> float:
    chosen = probabilities[np.arange(len(expression)), expression].astype(np.float64)
    return abs(float(np.log(np.maximum(chosen, _LEAST)).mean()))  # never -0.0


def _labelled(probabilities: FloatArray, expression: IntArray) -> tuple[npt.NDArray[np.float64], IntArray]:
    check_probabilities(probabilities)
    check_expression(expression)
    check_same_rows(probabilities, expression)
    rows = labelled_expression(expression)
    return probabilities[rows].astype(np.float64), expression[rows]
