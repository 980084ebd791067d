"""What export adds to a trained network: probabilities that can be believed, and when to call an answer unsure."""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketaffect.data.shards.split import Split
from pocketaffect.evaluation.calibration import Confidence, calibration_error, fit_confidence, measure_kept
from pocketaffect.export.measure import Faces, Predictions, predict_network
from pocketaffect.models.network import AffectNetwork

TEMPERATURE: Final = "temperature"
UNSURE_BELOW: Final = "unsure_below"
"""Keys of a package's metadata; files of version 0.1 have neither. A temperature of 1 says that nothing was scaled."""


@dataclass(frozen=True)
class MeasuredConfidence(Confidence):
    """How far the shipped file's probabilities can be believed, on the validation faces that have an expression.

    `calibration_error` is the expected one, in 15 bins; `kept` the share of the faces that it is not unsure of, and
    `kept_right` of these the share that are right, None where it is unsure of all.
    """

    calibration_error: float
    kept: float
    kept_right: float | None


def calibrate(network: AffectNetwork, confidence: Confidence | None) -> AffectNetwork:
    """Copies a network with the temperature that was fitted; None leaves it."""
    calibrated = copy.deepcopy(network)
    calibrated.temperature = 1.0 if confidence is None else confidence.temperature
    return calibrated


def choose_confidence(network: AffectNetwork, choosing: Split, *, calibrate: bool) -> Confidence | None:
    """Fits temperature and threshold to the network's answers to faces that it was not trained on.

    None where no face has an expression. Without `calibrate` the temperature is 1.
    """
    rows = choosing.expression >= 0
    if not rows.any():
        return None
    answers = predict_network(network, choosing.gather(np.flatnonzero(rows)))
    return fit_confidence(answers.probabilities, choosing.expression[rows], calibrate=calibrate)


def describe_confidence(confidence: Confidence | None) -> dict[str, str]:
    """Returns a package's metadata of it, as numbers of fixed width."""
    if confidence is None:
        return {}
    told = {TEMPERATURE: confidence.temperature, UNSURE_BELOW: confidence.unsure_below}
    return {key: f"{value:.4f}" for key, value in told.items()}


def measure_confidence(confidence: Confidence | None, answers: Predictions, faces: Faces) -> MeasuredConfidence | None:
    """Measures what the shipped file's answers are worth; None where no face tells."""
    rows = faces.has_expression
    if confidence is None or not rows.any():
        return None
    scores, true = answers.probabilities[rows], faces.expression[rows]
    kept = measure_kept(scores, true, confidence.unsure_below)
    return MeasuredConfidence(confidence.temperature, confidence.unsure_below, calibration_error(scores, true), *kept)
