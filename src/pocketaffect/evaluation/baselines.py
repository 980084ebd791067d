"""What a model's figures stand beside: floor rows, which it must beat before they mean anything, and the paper's.

Valence and arousal on AffectNet are nearly a function of the expression, so that a model's affect head says something
only where it beats the mean affect of the class that its own first head predicts (Hewitt & Gunes 2018: RMSE
.409/.369 by sixteen numbers, against .41/.37 by a second 15 MB network).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.metrics import expression_metrics, valence_arousal_metrics
from pocketaffect.evaluation.tables import Labels
from pocketaffect.labels import EXPRESSIONS

FLOOR_TITLES = {
    "constant": "constant (majority class, mean affect of training)",
    "class_lookup": "class lookup (mean affect of the predicted class)",
    "oracle": "oracle (mean affect of the true class)",
}


def mean_affect(training: Labels) -> npt.NDArray[np.float64] | None:
    """Computes the mean (valence, arousal) of the training rows that have them, float64 [2]; None where none has."""
    labelled = training.valence_arousal[training.has_valence_arousal]
    return np.asarray(labelled.mean(0, dtype=np.float64)) if len(labelled) else None


def mean_affect_of_classes(training: Labels, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Computes the mean (valence, arousal) of each expression in training, float64 [8, 2].

    A class without such a row gets `mean`.
    """
    means = np.tile(mean, (len(EXPRESSIONS), 1))
    for index in range(len(EXPRESSIONS)):
        rows = training.has_valence_arousal & (training.expression == index)
        if rows.any():
            means[index] = training.valence_arousal[rows].mean(0, dtype=np.float64)
    return means


def floor_rows(
    predicted_expression: npt.NDArray[np.int64], training: Labels, labels: Labels
) -> dict[str, dict[str, float]]:
    """Measures three predictors that look at no face, on the rows that the model is judged by.

    Means and majority are those of the labels of `training`; `predicted_expression` is int64 [n], `labels` have n rows.

    Returns:
        constant: training's commonest class (with certainty) and mean affect; all metrics.
        class_lookup: training's mean affect of the predicted class; affect metrics only, since its expression is
        the model's own.
        oracle: training's mean affect of the true class, the constant where a row has none; affect metrics only.
        Without what neither training nor `labels` can tell, and without a row that then says nothing.
    """
    floors: dict[str, dict[str, float]] = {"constant": {}, "class_lookup": {}, "oracle": {}}
    if training.has_expression.any():
        counts = np.bincount(training.expression[training.has_expression], minlength=len(EXPRESSIONS))
        majority = np.zeros((len(labels), len(EXPRESSIONS)), np.float32)
        majority[:, int(np.argmax(counts))] = 1
        floors["constant"] |= expression_metrics(majority, labels.expression)
    mean = mean_affect(training)
    if mean is not None:
        constant, means = np.tile(mean, (len(labels), 1)), mean_affect_of_classes(training, mean)
        oracle = np.where(labels.has_expression[:, None], means[labels.expression], constant)
        guesses = {"constant": constant, "class_lookup": means[predicted_expression], "oracle": oracle}
        for name, guess in guesses.items():
            floors[name] |= valence_arousal_metrics(guess, labels.valence_arousal)
    return {name: row for name, row in floors.items() if row}


PAPER_SOURCE: Final = "Hewitt & Gunes 2018, AffectNet validation, not this data"

_PAPER_COLUMNS: Final = (
    *("accuracy", "macro_f1", "kappa", "krippendorff_alpha", "auc", "aucpr", "rmse_valence", "rmse_arousal"),
    *("corr_valence", "corr_arousal", "sagr_valence", "sagr_arousal", "ccc_valence", "ccc_arousal"),
)
PAPER_METRICS: Final[dict[str, dict[str, float]]] = {
    name: dict(zip(_PAPER_COLUMNS, values, strict=True))
    for name, values in {
        "AlexNet variant": (0.56, 0.56, 0.50, 0.50, 0.90, 0.61, 0.41, 0.39, 0.59, 0.53, 0.73, 0.74, 0.54, 0.43),
        "VGGNet variant": (0.58, 0.58, 0.52, 0.52, 0.90, 0.62, 0.41, 0.37, 0.62, 0.56, 0.75, 0.75, 0.57, 0.48),
        "MobileNet variant": (0.56, 0.56, 0.50, 0.50, 0.89, 0.60, 0.42, 0.38, 0.59, 0.53, 0.73, 0.74, 0.55, 0.47),
    }.items()
}
"""Hewitt & Gunes 2018 (arXiv 1807.08775). Each row is a pair of networks, one per task, of up to 15 MB each."""
