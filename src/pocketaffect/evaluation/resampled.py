"""The metrics of `metrics` over many weightings of the same rows at once, so that a resample costs no loop.

A resample of rows is a count for each row. Every metric here is a function of a few sums over rows, and a sum over
the rows of a thousand resamples is one product with the matrix of counts; the areas under curves are sums over the
rows in the order of their scores, which no resample changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.tables import FloatArray, IntArray
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

CLASSES = len(EXPRESSIONS)

Counts = npt.NDArray[np.float32]
"""[rows, resamples]. Whole numbers; float32 is exact up to 16 million rows, and what matrix products are fast in."""

Floats = npt.NDArray[np.float64]

_CONSTANT = 1e-12
"""A variance below this share of all rows' mean square is the rounding of a constant."""


class ExpressionResampler:
    """Metrics of an expression head for any weighting of its rows.

    Args:
        probabilities: float [n, 8] of the labelled rows, n > 0.
        expression: int [n], 0..7.
    """

    def __init__(self, probabilities: FloatArray, expression: IntArray) -> None:
        cells = expression.astype(np.int64) * CLASSES + probabilities.argmax(axis=1)
        self._cells = np.eye(CLASSES**2, dtype=np.float32)[cells]
        scores = np.clip(probabilities, 0, 1, dtype=np.float32)
        self._rankings = [_rank(scores[:, index], expression == index) for index in range(CLASSES)]

    def metrics(self, counts: Counts) -> dict[str, Floats]:
        """The metrics of `metrics.expression_metrics`, float64 [resamples] each; every resample has a row."""
        confusion = (counts.T @ self._cells).reshape(-1, CLASSES, CLASSES).astype(np.float64)
        areas = [ranking.areas(counts) for ranking in self._rankings]
        return {
            **_confusion_metrics(confusion),
            "auc": np.mean([auc for auc, _ in areas], axis=0),
            "aucpr": np.mean([aucpr for _, aucpr in areas], axis=0),
        }


def _confusion_metrics(confusion: Floats) -> dict[str, Floats]:
    """From confusion matrices [resamples, 8, 8], rows true."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, predicted = confusion.sum(2), confusion.sum(1)
    rows = true.sum(1)
    recall = _divide(hits, true, 0.0)
    f1 = _divide(2 * hits, true + predicted, 0.0)
    accuracy = hits.sum(1) / rows
    by_chance = (true * predicted).sum(1) / rows**2
    values = true + predicted
    twice = 2 * rows
    expected = (twice**2 - (values**2).sum(1)) / (twice - 1)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": recall.mean(1),
        "worst_class_recall": recall.min(1),
        "macro_f1": f1.mean(1),
        "kappa": _divide(accuracy - by_chance, 1 - by_chance, 0.0),
        "krippendorff_alpha": np.where(expected > 0, 1 - _divide(twice - 2 * hits.sum(1), expected, 0.0), 0.0),
    }


@dataclass(frozen=True)
class _Ranking:
    """Rows by falling score, and the groups of equal scores that hold a positive."""

    order: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    """The positive rows by falling score."""
    groups: npt.NDArray[np.int64]
    """Where in `positives` each group starts."""
    before: npt.NDArray[np.int64]
    """Rows that score higher than each group."""
    through: npt.NDArray[np.int64]
    """These and the group's own."""

    def areas(self, counts: Counts) -> tuple[Floats, Floats]:
        """Areas under the ROC curve (0.5 without both kinds of rows) and precision-recall curve (0 without positives).

        Tied scores count half in the first and share one point of the second curve, as in scikit-learn.
        """
        resamples = counts.shape[1]
        if not len(self.groups):
            return np.full(resamples, 0.5), np.zeros(resamples)
        above = np.zeros((len(self.order) + 1, resamples), np.float32)
        np.cumsum(counts[self.order], axis=0, out=above[1:])
        gained = np.add.reduceat(counts[self.positives], self.groups, axis=0).astype(np.float64)
        found = gained.cumsum(axis=0)
        ranked = above[self.through].astype(np.float64)
        positives, negatives = found[-1], above[-1] - found[-1]
        false = (ranked - found) + (above[self.before] - (found - gained))
        pairs = (gained * (negatives - false / 2)).sum(0)
        precision = _divide(found, ranked, 0.0)
        return (
            _divide(pairs, positives * negatives, 0.5),
            _divide((gained * precision).sum(0), positives, 0.0),
        )


def _rank(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> _Ranking:
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    positives = order[positive[order]]
    values, groups = np.unique(-scores[positives], return_index=True)
    return _Ranking(
        order=order,
        positives=positives,
        groups=groups,
        before=np.searchsorted(falling, values, side="left"),
        through=np.searchsorted(falling, values, side="right"),
    )


class ValenceArousalResampler:
    """Metrics of an affect head for any weighting of its rows.

    Args:
        prediction: float [n, 2] of the labelled rows, n > 0.
        truth: float [n, 2].
    """

    def __init__(self, prediction: FloatArray, truth: FloatArray) -> None:
        x, y = prediction.astype(np.float64), truth.astype(np.float64)
        agree = (np.sign(x) == np.sign(y)).astype(np.float64)
        # A median of equal numbers is exactly that number: what is constant becomes exactly 0.
        self._offset = np.median(x, axis=0) - np.median(y, axis=0)
        squared_error = (x - y) ** 2
        x, y = x - np.median(x, axis=0), y - np.median(y, axis=0)
        terms = np.stack([x, y, x * x, y * y, x * y, squared_error, agree])
        self._scales = terms[2:4].mean(1)
        self._terms = terms.transpose(1, 0, 2).reshape(len(x), -1)

    def metrics(self, counts: Counts) -> dict[str, Floats]:
        """The metrics of `metrics.valence_arousal_metrics`, float64 [resamples] each; every resample has a row."""
        sums = counts.T.astype(np.float64) @ self._terms
        means = (sums / counts.sum(0, dtype=np.float64)[:, None]).reshape(len(sums), 7, -1).transpose(1, 0, 2)
        mean_x, mean_y, xx, yy, xy, squared_error, agreement = means
        variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        constant = (variance_x <= _CONSTANT * self._scales[0]) | (variance_y <= _CONSTANT * self._scales[1])
        gap = mean_x - mean_y + self._offset
        spread = np.where(constant, 0.0, variance_x + variance_y + gap**2)
        scale = np.where(constant, 0.0, np.sqrt(np.maximum(variance_x, 0)) * np.sqrt(np.maximum(variance_y, 0)))
        values = {
            "rmse": np.sqrt(squared_error),
            "corr": np.clip(_divide(covariance, scale, 0.0), -1, 1),
            "sagr": agreement,
            "ccc": _divide(2 * covariance, spread, 0.0),
        }
        return {
            f"{name}_{dimension}": value[:, index]
            for name, value in values.items()
            for index, dimension in enumerate(VALENCE_AROUSAL)
        }


def _divide(above: Floats, below: Floats, undefined: float) -> Floats:
    """Their quotient, `undefined` where `below` is 0."""
    quotient: Floats = np.full(np.broadcast(above, below).shape, undefined)
    return np.divide(above, below, out=quotient, where=below != 0)
