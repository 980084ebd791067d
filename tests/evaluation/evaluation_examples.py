"""Labels and predictions that the evaluation tests share."""

import numpy as np

from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import CLASS_MEAN_VA

PAPER_CONFUSION = np.array(
    [
        [247, 7, 52, 60, 11, 22, 34, 67],
        [20, 358, 6, 26, 4, 15, 4, 67],
        [63, 9, 279, 22, 38, 41, 37, 11],
        [33, 22, 15, 298, 97, 20, 7, 8],
        [21, 6, 32, 72, 320, 32, 12, 5],
        [29, 9, 36, 24, 31, 316, 42, 13],
        [71, 4, 39, 22, 29, 98, 216, 21],
        [71, 56, 12, 21, 3, 33, 26, 278],
    ]
)
"""The VGG variant of Hewitt & Gunes 2018 on AffectNet's validation set, rows true."""


def rows_of_confusion(confusion):
    """Truth and prediction, one row per count."""
    true, predicted = np.indices(confusion.shape).reshape(2, -1)
    return np.repeat(true, confusion.ravel()), np.repeat(predicted, confusion.ravel())


def certain(predicted):
    """One-hot probabilities."""
    return np.eye(8, dtype=np.float32)[predicted]


def draw_rows(rows=400, seed=0, unlabelled=0.1):
    """Plausible labels and predictions, some rows without one label or the other."""
    rng = np.random.default_rng(seed)
    means = np.array(CLASS_MEAN_VA)
    expression = rng.choice(8, rows, p=[0.2, 0.3, 0.12, 0.08, 0.07, 0.05, 0.1, 0.08])
    affect = np.clip(means[expression] + rng.normal(0, 0.16, (rows, 2)), -1, 1).astype(np.float32)
    logits = rng.normal(0, 1.3, (rows, 8))
    logits[np.arange(rows), expression] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    guess = probabilities @ means + rng.normal(0, 0.1, (rows, 2))
    expression[rng.random(rows) < unlabelled] = -1
    affect[rng.random(rows) < unlabelled] = np.nan
    labels = Labels(expression.astype(np.int64), affect)
    return Predictions(probabilities.astype(np.float32), guess.astype(np.float32)), labels
