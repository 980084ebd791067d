"""The metrics that are followed while training."""

from typing import Final

import torch
from torchmetrics.functional import concordance_corrcoef, mean_squared_error
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL

SCORE: Final = "score"
"""The mean of balanced accuracy and CCC, itself averaged over both dimensions; of what the labels allow."""

SELECTION: Final = {"score": (SCORE, 1.0), "accuracy": ("accuracy", 1.0), "loss": ("validation_loss", -1.0)}
"""`train.select` to the history's column that the kept epoch is the best of, and the sign that makes best highest."""


def find_best(history: list[dict[str, float]], select: str) -> int:
    """Finds the number, from 0, of the first epoch that no other is better than.

    Raises:
        PocketAffectError: The validation split has no label for what `train.select` asks for.
    """
    column, sign = SELECTION[select]
    if any(column not in row for row in history):
        raise PocketAffectError(
            f"params.yaml: train.select {select}: no validation face has an expression", allowed="score or loss"
        )
    values = [sign * row[column] for row in history]
    return values.index(max(values))


def is_stale(history: list[dict[str, float]], select: str, patience: int) -> bool:
    """Tells whether the best epoch is `patience` or more epochs ago; never for 0."""
    return bool(patience and history) and len(history) - 1 - find_best(history, select) >= patience


def score_epoch(
    logits: torch.Tensor, prediction: torch.Tensor, expression: torch.Tensor, truth: torch.Tensor
) -> dict[str, float]:
    """Computes the metrics of a whole split, without those of a task that has no labels in it.

    Logits are float [n, 8], prediction and truth float [n, 2] with NaN for no label, expressions int64 [n], 0..7 or
    NO_EXPRESSION.
    """
    has_class = expression != NO_EXPRESSION
    has_va = ~truth.isnan().any(dim=1)
    row: dict[str, float] = {}
    tasks = []
    if bool(has_class.any()):
        guess, target = logits[has_class].argmax(dim=1), expression[has_class]
        classes = len(EXPRESSIONS)
        row["accuracy"] = float(multiclass_accuracy(guess, target, classes, average="micro"))
        row["balanced_accuracy"] = float(multiclass_accuracy(guess, target, classes, average="macro"))
        row["macro_f1"] = float(multiclass_f1_score(guess, target, classes, average="macro"))
        tasks.append(row["balanced_accuracy"])
    if int(has_va.sum()) > 1:
        guess, target = prediction[has_va], truth[has_va]
        for dimension, name in enumerate(VALENCE_AROUSAL):
            row[f"rmse_{name}"] = float(mean_squared_error(guess[:, dimension], target[:, dimension], squared=False))
        concordance = [float(value) for value in concordance_corrcoef(guess, target).nan_to_num(0.0)]
        row.update({f"ccc_{name}": value for name, value in zip(VALENCE_AROUSAL, concordance, strict=True)})
        tasks.append(sum(concordance) / 2)
    row[SCORE] = sum(tasks) / max(len(tasks), 1)
    return row
