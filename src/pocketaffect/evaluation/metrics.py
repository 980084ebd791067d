"""The paper's metrics of expressions and of valence and arousal, from arrays to a dictionary of numbers.

Every macro mean runs over all eight expressions. A class without a true row scores there what a model that knows
nothing of it would score: 0 for recall, F1 and average precision, 0.5 for the area under the ROC curve.
(torchmetrics and scikit-learn leave such classes out, some of them silently: two perfect classes of eight then read
as a macro-F1 of 1.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_accuracy,
    multiclass_cohen_kappa,
    multiclass_f1_score,
    multiclass_recall,
)

from pocketaffect.evaluation.agreement import KrippendorffAlpha, SignAgreement
from pocketaffect.evaluation.correlation import Concordance, Pearson
from pocketaffect.evaluation.tables import (
    FloatArray,
    IntArray,
    check_expression,
    check_probabilities,
    check_same_rows,
    check_valence_arousal_prediction,
    check_valence_arousal_truth,
    labelled_affect,
    labelled_expression,
)
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

CLASSES = len(EXPRESSIONS)


def expression_metrics(probabilities: FloatArray, expression: IntArray) -> dict[str, float]:
    """Metrics of the expression head, over the rows that have an expression.

    Args:
        probabilities: float [n, 8], rows sum to 1.
        expression: int [n], 0..7 or `labels.NO_EXPRESSION`.

    Returns:
        accuracy, balanced_accuracy (mean recall), worst_class_recall, macro_f1, kappa (Cohen), krippendorff_alpha,
        auc (macro one-versus-rest), aucpr (macro average precision). Where truth and prediction are of one single
        class, kappa and alpha are 0.

    Raises:
        PocketAffectError: No row has an expression, lengths differ or a value is impossible.
    """
    check_probabilities(probabilities)
    check_expression(expression)
    check_same_rows(probabilities, expression)
    labelled = labelled_expression(expression)
    scores = torch.from_numpy(np.clip(probabilities[labelled], 0, 1, dtype=np.float32))
    target = torch.from_numpy(expression[labelled].astype(np.int64))
    preds = torch.from_numpy(np.argmax(probabilities[labelled], axis=1))
    alpha = KrippendorffAlpha(CLASSES)
    alpha.update(preds, target)
    recall = multiclass_recall(preds, target, CLASSES, average="none")
    return {
        "accuracy": float(multiclass_accuracy(preds, target, CLASSES, average="micro")),
        "balanced_accuracy": float(recall.mean()),
        "worst_class_recall": float(recall.min()),
        "macro_f1": float(multiclass_f1_score(preds, target, CLASSES, average="none").mean()),
        "kappa": float(multiclass_cohen_kappa(preds, target, CLASSES).nan_to_num(0)),
        "krippendorff_alpha": float(alpha.compute()),
        **_ranking_metrics(scores, target),
    }


def _ranking_metrics(scores: Tensor, target: Tensor) -> dict[str, float]:
    """Macro one-versus-rest areas under the ROC and the precision-recall curve."""
    auc, aucpr = [], []
    for index in range(CLASSES):
        positive = (target == index).long()
        both_sides = 0 < int(positive.sum()) < len(positive)
        auc.append(float(binary_auroc(scores[:, index], positive)) if both_sides else 0.5)
        aucpr.append(float(binary_average_precision(scores[:, index], positive)) if positive.any() else 0.0)
    return {"auc": float(np.mean(auc)), "aucpr": float(np.mean(aucpr))}


def valence_arousal_metrics(prediction: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Metrics of the affect head per dimension, over the rows that have valence and arousal.

    Args:
        prediction: float [n, 2].
        truth: float [n, 2] in [-1, 1], both NaN where there is none.

    Returns:
        rmse, corr, sagr and ccc of each dimension: `rmse_valence`, `rmse_arousal`, `corr_valence`, … For a
        constant prediction corr and ccc are 0.

    Raises:
        PocketAffectError: No row has valence and arousal, lengths differ or a value is impossible.
    """
    check_valence_arousal_prediction(prediction)
    check_valence_arousal_truth(truth)
    check_same_rows(prediction, truth)
    labelled = labelled_affect(truth)
    preds = torch.from_numpy(prediction[labelled].astype(np.float64))
    target = torch.from_numpy(truth[labelled].astype(np.float64))
    dimensions = len(VALENCE_AROUSAL)
    values = {"rmse": mean_squared_error(preds, target, squared=False, num_outputs=dimensions)}
    for name, metric in (
        ("corr", Pearson(dimensions)),
        ("sagr", SignAgreement(dimensions)),
        ("ccc", Concordance(dimensions)),
    ):
        metric.update(preds, target)
        values[name] = metric.compute()
    return {
        f"{name}_{dimension}": float(value[index])
        for name, value in values.items()
        for index, dimension in enumerate(VALENCE_AROUSAL)
    }
