"""Floor rows: what a model must beat before its numbers mean anything, and the ceiling of its second head.

Valence and arousal on AffectNet are nearly a function of the expression, so that a model's affect head says something
only where it beats the mean affect of the class that its own first head predicts (Hewitt & Gunes 2018: RMSE
.409/.369 by sixteen numbers, against .41/.37 by a second 15 MB network).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.metrics import expression_metrics, valence_arousal_metrics
from pocketaffect.evaluation.tables import Labels
from pocketaffect.labels import EXPRESSIONS

FLOOR_TITLES = {
    "constant": "constant (majority class, mean affect of training)",
    "class_lookup": "class lookup (mean affect of the predicted class)",
    "oracle": "oracle (mean affect of the true class)",
}


def mean_affect(training: Labels) -> npt.NDArray[np.float64]:
    """Mean (valence, arousal) of the training rows that have them, float64 [2].

    Raises:
        PocketAffectError: No training row has valence and arousal.
    """
    if not training.has_valence_arousal.any():
        raise PocketAffectError(
            "training labels: no row has valence and arousal",
            found=f"{len(training)} row(s) without",
            todo="look at the training split that the validate stage reports",
        )
    labelled = training.valence_arousal[training.has_valence_arousal]
    return np.asarray(labelled.mean(0, dtype=np.float64))


def mean_affect_of_classes(training: Labels) -> npt.NDArray[np.float64]:
    """Mean (valence, arousal) of each expression in training, float64 [8, 2].

    A class without such a row gets the mean of all.
    """
    means = np.tile(mean_affect(training), (len(EXPRESSIONS), 1))
    for index in range(len(EXPRESSIONS)):
        rows = training.has_valence_arousal & (training.expression == index)
        if rows.any():
            means[index] = training.valence_arousal[rows].mean(0, dtype=np.float64)
    return means


def floor_rows(
    predicted_expression: npt.NDArray[np.int64], training: Labels, labels: Labels
) -> dict[str, dict[str, float]]:
    """Metrics of three predictors that look at no face, on the rows that the model is judged by.

    Args:
        predicted_expression: The model's class of each row of `labels`, int64 [n].
        training: The labels that means and majority are taken from.
        labels: The labels to compare with, n rows.

    Returns:
        constant: training's commonest class (with certainty) and mean affect; all metrics.
        class_lookup: training's mean affect of the predicted class; affect metrics only, since its expression is
        the model's own.
        oracle: training's mean affect of the true class, the constant where a row has none; affect metrics only.

    Raises:
        PocketAffectError: Training or `labels` have no row of a kind.
    """
    if not training.has_expression.any():
        raise PocketAffectError(
            "training labels: no row has one of the eight expressions", found=f"{len(training)} row(s) without"
        )
    counts = np.bincount(training.expression[training.has_expression], minlength=len(EXPRESSIONS))
    majority = np.zeros((len(labels), len(EXPRESSIONS)), np.float32)
    majority[:, int(np.argmax(counts))] = 1
    constant = np.tile(mean_affect(training), (len(labels), 1))
    means = mean_affect_of_classes(training)
    oracle = np.where(labels.has_expression[:, None], means[labels.expression], constant)
    truth = labels.valence_arousal
    return {
        "constant": {
            **expression_metrics(majority, labels.expression),
            **valence_arousal_metrics(constant, truth),
        },
        "class_lookup": valence_arousal_metrics(means[predicted_expression], truth),
        "oracle": valence_arousal_metrics(oracle, truth),
    }
