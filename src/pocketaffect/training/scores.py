"""The metrics that are followed while training."""

from __future__ import annotations

from typing import Final

import torch
from torchmetrics.functional import concordance_corrcoef, mean_squared_error
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL

SCORE: Final = "score"
"""The mean of balanced accuracy and CCC, itself averaged over both dimensions."""

SELECTION: Final = {"score": (SCORE, 1.0), "accuracy": ("accuracy", 1.0), "loss": ("validation_loss", -1.0)}
"""`train.select` to the history's column that the kept epoch is the best of, and the sign that makes best highest."""


def find_best(history: list[dict[str, float]], select: str) -> int:
    """The number, from 0, of the first epoch that no other is better than."""
    column, sign = SELECTION[select]
    values = [sign * row[column] for row in history]
    return values.index(max(values))


def score_epoch(
    logits: torch.Tensor, prediction: torch.Tensor, expression: torch.Tensor, truth: torch.Tensor
) -> dict[str, float]:
    """The metrics of a whole split; a task without labels in it scores 0.

    Args:
        logits: float [n, 8].
        prediction: float [n, 2].
        expression: int64 [n], 0..7 or NO_EXPRESSION.
        truth: float [n, 2], NaN for no label.
    """
    has_class = expression != NO_EXPRESSION
    has_va = ~truth.isnan().any(dim=1)
    row = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.0)
    if bool(has_class.any()):
        guess, target = logits[has_class].argmax(dim=1), expression[has_class]
        classes = len(EXPRESSIONS)
        row["accuracy"] = float(multiclass_accuracy(guess, target, classes, average="micro"))
        row["balanced_accuracy"] = float(multiclass_accuracy(guess, target, classes, average="macro"))
        row["macro_f1"] = float(multiclass_f1_score(guess, target, classes, average="macro"))
    concordance = [0.0, 0.0]
    if int(has_va.sum()) > 1:
        guess, target = prediction[has_va], truth[has_va]
        concordance = [float(value) for value in concordance_corrcoef(guess, target).nan_to_num(0.0)]
        for dimension, name in enumerate(VALENCE_AROUSAL):
            row[f"rmse_{name}"] = float(mean_squared_error(guess[:, dimension], target[:, dimension], squared=False))
    row.update({f"ccc_{name}": value for name, value in zip(VALENCE_AROUSAL, concordance, strict=True)})
    row[SCORE] = (row["balanced_accuracy"] + sum(concordance) / 2) / 2
    return row
