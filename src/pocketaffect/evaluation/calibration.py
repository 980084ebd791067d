"""How far the stated probabilities can be believed: reliability by bins, temperature, and when to be unsure."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from pocketaffect.evaluation.metrics import BINS, EXPRESSION_METRICS, ExpressionRows
from pocketaffect.evaluation.tables import FloatArray, IntArray, Labels, Predictions, check_same_rows

SEED: Final = 2018

KEPT_RIGHT: Final = 0.90
"""Share of the answers that must be right among those that are not called unsure."""

_TEMPERATURES: Final = (0.25, 4.0)
"""Beyond them are few faces, all right or all wrong, and no network to mend."""
_LEAST: Final = 1e-12
"""A probability that half precision rounded to 0 is taken for this: its logarithm must be finite."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The faces whose top probability lies in (low, high], the first bin's in [0, high].

    Their mean top probability, and the share whose likeliest class is right, are None without any face.
    """

    low: float
    high: float
    faces: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Calibration of an expression head, as it is and with a temperature.

    Attributes:
        log_loss: Mean negative logarithm of the true class's probability, as it is.
        temperature: The one to divide the logits by, fitted on the faces set apart for choosing, else on these.
        unsure_below: Confidence, so scaled, below which answers are unsure; chosen likewise.
        kept: Share of the faces that have as much or more.
        kept_right: Share of these that are right; None where there are none.
        scaled_error: The error at that temperature, as the log loss after it; where it was fitted on these faces, of
            each half of them at the temperature that the other half gave.
    """

    bins: tuple[ReliabilityBin, ...]
    error: float
    log_loss: float
    temperature: float
    unsure_below: float
    kept: float
    kept_right: float | None
    scaled_error: float
    scaled_log_loss: float


@dataclass(frozen=True)
class Confidence:
    """A temperature that divides a network's logits, 1 leaving them, and what its answers are unsure below.

    That is the least probability of the likeliest class, after the scaling, at which `KEPT_RIGHT` of the faces with
    this much or more are right: 0 where that many of all are, 1 where no threshold does it.
    """

    temperature: float
    unsure_below: float


def fit_confidence(scores: FloatArray, true: IntArray, *, calibrate: bool = True) -> Confidence:
    """Fits the temperature, to four decimals, and then the threshold of the scaled answers.

    Scores are float [n, 8] whose rows sum to 1, at least one; truths int [n], 0..7. Uncalibrated, the temperature is 1.
    """
    temperature = round(fit_temperature(scores, true), 4) if calibrate else 1.0
    confidence, kept, accuracy = trace_coverage(scale(scores, temperature), true)
    enough = np.flatnonzero(accuracy >= KEPT_RIGHT)
    if not len(enough):
        return Confidence(temperature, 1.0)
    last = enough[-1]
    return Confidence(temperature, 0.0 if kept[last] == 1 else float(confidence[last]))


def trace_coverage(scores: FloatArray, true: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Computes what is kept at each confidence that could be asked for, from the surest face to all.

    Scores are float [n, 8] whose rows sum to 1, truths int [n], 0..7.

    Returns:
        The confidences, falling, to four decimals as packages say them; the share of the faces that have as much or
        more; the share of these that are right.
    """
    top = np.floor(scores.max(axis=1) * 1e4) / 1e4
    order = np.argsort(-top, kind="stable")
    confidence, count = top[order], np.arange(1, len(top) + 1)
    accuracy = np.cumsum((scores.argmax(axis=1) == true)[order]) / count
    steps = np.append(confidence[1:] < confidence[:-1], True)  # equally sure faces are kept or left together
    return confidence[steps], count[steps] / len(top), accuracy[steps]


def measure_kept(scaled: FloatArray, true: IntArray, unsure_below: float) -> tuple[float, float | None]:
    """Measures the share of the faces that is not unsure, and the share of these that is right: None without any."""
    kept = scaled.max(axis=1) >= unsure_below
    return float(kept.mean()), float((scaled.argmax(axis=1) == true)[kept].mean()) if kept.any() else None


def measure_calibration(
    predictions: Predictions, labels: Labels, *, choosing: tuple[Predictions, Labels] | None = None, seed: int = SEED
) -> Calibration | None:
    """Measures reliability, calibration error and the temperature that would fix it; None where no face is labelled.

    A temperature judged on the faces that it was fitted on would flatter. It is fitted on `choosing`, answers and
    labels of faces that were set apart; without any it is cross-fitted for the scaled figures: each half of the faces
    (drawn by `seed`) at the temperature of the other half.

    Raises:
        PocketAffectError: Lengths differ.
    """
    check_same_rows(predictions, labels)
    rows = labels.has_expression
    if not rows.any():
        return None
    scores, true = predictions.probabilities[rows].astype(np.float64), labels.expression[rows]
    if choosing is not None and (others := choosing[1].has_expression).any():
        chosen = fit_confidence(choosing[0].probabilities[others], choosing[1].expression[others])
        scaled = scale(scores, chosen.temperature)
    else:
        chosen, scaled = fit_confidence(scores, true), _cross_fit(scores, true, seed)
    kept, kept_right = measure_kept(scale(scores, chosen.temperature), true, chosen.unsure_below)
    return Calibration(
        bins=reliability(scores, true),
        error=calibration_error(scores, true),
        log_loss=_log_loss(scores, true),
        temperature=chosen.temperature,
        unsure_below=chosen.unsure_below,
        kept=kept,
        kept_right=kept_right,
        scaled_error=calibration_error(scaled, true),
        scaled_log_loss=_log_loss(scaled, true),
    )


def _cross_fit(scores: FloatArray, true: IntArray, seed: int) -> npt.NDArray[np.float64]:
    order = np.random.default_rng(seed).permutation(len(true))
    halves = (order[::2], order[1::2])
    scaled = scores.astype(np.float64)
    for own, other in (halves, halves[::-1]):
        if len(other):
            scaled[own] = scale(scores[own], fit_temperature(scores[other], true[other]))
    return scaled


def reliability(scores: FloatArray, true: IntArray) -> tuple[ReliabilityBin, ...]:
    """Measures confidence and accuracy by bins of the top probability: scores float [n, 8], truths int [n], 0..7."""
    (table,) = ExpressionRows(scores, true).statistics().reliability.tolist()
    return tuple(
        ReliabilityBin(
            low=index / BINS,
            high=(index + 1) / BINS,
            faces=int(faces),
            confidence=confidence / faces if faces else None,
            accuracy=right / faces if faces else None,
        )
        for index, (faces, confidence, right) in enumerate(table)
    )


def fit_temperature(scores: FloatArray, true: IntArray) -> float:
    """Fits the temperature of least log loss, within 1/4 to 4 (Guo et al. 2017): scores [n, 8], truths [n], 0..7.

    Above 1 the model is too sure of itself, below 1 not sure enough.
    """
    logits = _logits(scores)
    chosen = logits[np.arange(len(true)), true]

    def loss(inverse: float) -> float:
        return float((logsumexp(logits * inverse, axis=1) - chosen * inverse).mean())

    # In the inverse of the temperature the loss is convex.
    bounds = (1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)


def scale(probabilities: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    """Computes probabilities [n, 8] whose logits are divided by `temperature`."""
    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1))


def _logits(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), _LEAST)))


def calibration_error(scores: FloatArray, true: IntArray) -> float:
    """Computes the expected calibration error over `BINS` bins of the top probability."""
    return float(EXPRESSION_METRICS["expected_calibration_error"].compute(ExpressionRows(scores, true).statistics())[0])


def _log_loss(probabilities: FloatArray, expression: IntArray) -> float:
    chosen = probabilities[np.arange(len(expression)), expression].astype(np.float64)
    return abs(float(np.log(np.maximum(chosen, _LEAST)).mean()))  # never -0.0
