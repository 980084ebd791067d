"""Every metric of expressions and of valence and arousal: name, title and formula, each written once.

A metric is a pure function of sums over faces, as in torchmetrics: rows become statistics (`ExpressionRows`,
`AffectRows`), statistics become values (`METRICS`). Each face has a weight, and a sum may be taken for many weightings
at once: a resample of the bootstrap is a count for each face, and the sums of a thousand resamples are one product of
matrices. The areas under curves are sums over the faces in the order of their scores, which no weighting changes.

What cannot be measured is left out: a metric whose task has no labelled face is absent, and macro means run over the
expressions that have a face. (Counted as 0 they would hold a network back that has nothing to find; `Evaluation.counts`
says how many are missing, and every table names them.) A constant prediction or truth has correlation and
concordance 0, where torchmetrics gives NaN: a search over tiny networks must not mistake one for its best.

numpy alone, so that `pocketaffect compare` and the registry need not wait for torch; `evaluate.FaceMetrics` is the
same as a torchmetrics metric.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.tables import FloatArray, IntArray, Labels, Predictions, check_same_rows
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL

CLASSES: Final = len(EXPRESSIONS)
BINS: Final = 15
"""Bins of equal width of the top probability, for reliability and calibration error."""

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]
"""[rows, weightings]. float32 is exact for whole numbers up to 16 million, and what matrix products are fast in."""

_CONSTANT: Final = 1e-12
"""A variance below this share of all rows' mean square is the rounding of a constant."""


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    `↓` in the title marks those of which less is better. `compute` turns statistics into float64 [weightings], or
    [weightings, 2] for valence and arousal; NaN where the weighting leaves nothing to measure.
    """

    title: str
    compute: Callable[[Any], Floats]
    resampled: bool = True


class ExpressionStatistics:
    """Sums over faces that every metric of expressions is a function of."""

    def __init__(self, rows: ExpressionRows, weights: Weights) -> None:
        self._rows, self._weights = rows, weights
        sums = weights.T @ rows.cells
        self.confusion: Floats = sums.reshape(-1, CLASSES, CLASSES).astype(np.float64)
        """Faces by true class (rows) and predicted class (columns), [weightings, 8, 8]."""
        self.true: Floats = self.confusion.sum(2)
        """Faces of each class, [weightings, 8]."""
        self.predicted: Floats = self.confusion.sum(1)
        """Faces predicted as each class, [weightings, 8]."""
        self.hits: Floats = np.diagonal(self.confusion, axis1=1, axis2=2)
        """Faces of each class that are predicted as it, [weightings, 8]."""
        self.faces: Floats = self.true.sum(1)
        """All faces, [weightings]."""

    @cached_property
    def recall(self) -> Floats:
        """Share of each class's faces that are predicted as it, [weightings, 8]; NaN for a class without a face."""
        return _divide(self.hits, self.true)

    @cached_property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, [weightings, 8]; NaN for a class without a face."""
        return np.where(self.true > 0, _divide(2 * self.hits, self.true + self.predicted), np.nan)

    @cached_property
    def accuracy(self) -> Floats:
        """Share of the faces whose likeliest class is right, [weightings]."""
        return _divide(self.hits.sum(1), self.faces)

    @cached_property
    def areas(self) -> tuple[Floats, Floats]:
        """Areas under each class's ROC and precision-recall curve, [weightings, 8] each; NaN for no curve."""
        roc, precision_recall = zip(*(curve.areas(self._weights) for curve in self._rows.rankings), strict=True)
        return np.stack(roc, axis=1), np.stack(precision_recall, axis=1)

    @cached_property
    def reliability(self) -> Floats:
        """Faces, sum of top probabilities and right answers of each bin, [weightings, bins, 3]."""
        bins, terms = self._rows.reliability_terms
        inside = np.eye(BINS)[bins]
        return np.stack([(self._weights * term[:, None]).T @ inside for term in terms], axis=2)


def _kappa(sums: ExpressionStatistics) -> Floats:
    """Computes Cohen's kappa; 0 where truth and predictions are of one single class."""
    by_chance = (sums.true * sums.predicted).sum(1) / sums.faces**2
    return _divide(sums.accuracy - by_chance, 1 - by_chance, 0.0)


def _krippendorff_alpha(sums: ExpressionStatistics) -> Floats:
    r"""Computes Krippendorff's alpha for nominal data and two raters, the truth and the prediction.

    .. math::
        \alpha = 1 - \frac{D_o}{D_e} = 1 - (m - 1) \frac{m - \sum_c o_{cc}}{m^2 - \sum_c m_c^2}

    where :math:`o` is the symmetric matrix of coincidences (confusion matrix plus its transpose), :math:`m_c` its row
    sums and :math:`m` twice the number of rows. Truth and predictions of one single class give 0, where the formula is
    0/0: nothing to disagree about is not the 1 that a perfect rater earns. (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability".)
    """
    values, twice = sums.true + sums.predicted, 2 * sums.faces
    expected = (twice**2 - (values**2).sum(1)) / (twice - 1)
    return np.where(expected > 0, 1 - _divide(twice - 2 * sums.hits.sum(1), expected, 0.0), 0.0)


def _calibration_error(sums: ExpressionStatistics) -> Floats:
    r"""Computes the expected calibration error of the likeliest class (Naeini et al. 2015; Guo et al. 2017).

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over bins of equal width of the top probability. 0 is perfect. It is biased upward where faces are few (at 500
    faces in 15 bins a perfectly calibrated model shows about .05), so that resampling shifts it.
    """
    _, confidence, right = np.moveaxis(sums.reliability, 2, 0)
    return _divide(np.abs(right - confidence).sum(1), sums.faces)


class AffectStatistics:
    """Moments over faces that every metric of valence and arousal is a function of, [weightings, 2] each."""

    def __init__(self, rows: AffectRows, weights: Weights) -> None:
        sums = weights.T.astype(np.float64) @ rows.terms
        means = _divide(sums, weights.sum(0, dtype=np.float64)[:, None]).reshape(len(sums), 7, -1).transpose(1, 0, 2)
        mean_x, mean_y, xx, yy, xy, self.squared_error, self.agreement = means
        self.variance_x, self.variance_y, self.covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        scale_x, scale_y = rows.scales
        self.constant = (self.variance_x <= _CONSTANT * scale_x) | (self.variance_y <= _CONSTANT * scale_y)
        self.gap = mean_x - mean_y + rows.offset


def _correlation(sums: AffectStatistics) -> Floats:
    """Computes Pearson's correlation coefficient; 0 where a side is constant."""
    # Two roots: the product of two tiny variances would underflow.
    scale = np.sqrt(np.maximum(sums.variance_x, 0)) * np.sqrt(np.maximum(sums.variance_y, 0))
    return np.clip(_divide(sums.covariance, np.where(sums.constant, 0.0, scale), 0.0), -1, 1)


def _concordance(sums: AffectStatistics) -> Floats:
    r"""Computes Lin's concordance correlation coefficient (CCC), from population moments; 0 where a side is constant.

    .. math::
        \rho_c = \frac{2 \sigma_{xy}}{\sigma_x^2 + \sigma_y^2 + (\mu_x - \mu_y)^2}

    with variances over n, as the AffectNet literature computes it (torchmetrics divides by n - 1: .79175 against
    .79159 at n = 50). (Lin 1989.)
    """
    spread = np.where(sums.constant, 0.0, sums.variance_x + sums.variance_y + sums.gap**2)
    return _divide(2 * sums.covariance, spread, 0.0)


EXPRESSION_METRICS: Final[dict[str, Metric]] = {
    "accuracy": Metric("Accuracy", lambda sums: sums.accuracy),
    "balanced_accuracy": Metric("Balanced accuracy", lambda sums: _mean_present(sums.recall)),
    "worst_class_recall": Metric("Worst class recall", lambda sums: np.fmin.reduce(sums.recall, axis=1)),
    "macro_f1": Metric("Macro F1", lambda sums: _mean_present(sums.f1)),
    "kappa": Metric("Cohen's kappa", _kappa),
    "krippendorff_alpha": Metric("Krippendorff's alpha", _krippendorff_alpha),
    "auc": Metric("AUC, macro", lambda sums: _mean_present(sums.areas[0])),
    "aucpr": Metric("AUCPR, macro", lambda sums: _mean_present(sums.areas[1])),
    "expected_calibration_error": Metric("Calibration error ↓", _calibration_error, resampled=False),
}
AFFECT_METRICS: Final[dict[str, Metric]] = {
    "rmse": Metric("RMSE {} ↓", lambda sums: np.sqrt(sums.squared_error)),
    "corr": Metric("CORR {}", _correlation),
    # Sign agreement (Nicolaou et al. 2011). Zero is a sign of its own: AffectNet holds truths of exactly 0, and a
    # network hardly ever outputs 0, so that even a perfect ranking of faces stays a little below 1.
    "sagr": Metric("SAGR {}", lambda sums: sums.agreement),
    "ccc": Metric("CCC {}", _concordance),
}
METRIC_TITLES: Final[dict[str, str]] = {
    **{name: metric.title for name, metric in EXPRESSION_METRICS.items()},
    **{
        f"{name}_{dimension}": metric.title.format(dimension)
        for name, metric in AFFECT_METRICS.items()
        for dimension in VALENCE_AROUSAL
    },
}


def list_missing(measured: Container[str]) -> list[str]:
    """Lists the titles of the metrics that the labels did not allow."""
    return [title for name, title in METRIC_TITLES.items() if name not in measured]


def less_is_better(metric: str) -> bool:
    """Tells whether the smaller value of a metric, by its name, is the better one."""
    return METRIC_TITLES.get(metric, metric).endswith("↓")


class ExpressionRows:
    """Faces with an expression, ready to be summed under any weighting.

    Probabilities are float [n, 8], expressions int [n], 0..7.
    """

    def __init__(self, probabilities: FloatArray, expression: IntArray) -> None:
        self._scores, self._true = probabilities, expression.astype(np.int64)
        self._predicted = probabilities.argmax(axis=1)
        self.cells = np.eye(CLASSES**2, dtype=np.float32)[self._true * CLASSES + self._predicted]

    @cached_property
    def rankings(self) -> list[_Ranking]:
        """The order of the faces by each class's score."""
        scores = np.clip(self._scores, 0, 1, dtype=np.float32)
        return [_rank(scores[:, index], self._true == index) for index in range(CLASSES)]

    @property
    def reliability_terms(self) -> tuple[npt.NDArray[np.int64], tuple[Floats, Floats, Floats]]:
        """Bin of each face's top probability, and what is summed: 1, that probability, whether it is right."""
        confidence = np.clip(self._scores.max(axis=1).astype(np.float64), 0, 1)
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="left") - 1
        right = (self._predicted == self._true).astype(np.float64)
        return np.clip(bins, 0, BINS - 1), (np.ones_like(confidence), confidence, right)

    def statistics(self, weights: Weights | None = None) -> ExpressionStatistics:
        """Sums the faces up under each weighting; under weights of 1 by default."""
        return ExpressionStatistics(self, _or_ones(weights, len(self._true)))

    def metrics(self, weights: Weights | None = None) -> dict[str, Floats]:
        """Computes metrics, float64 [weightings] each; with weights only those that the bootstrap resamples."""
        sums = self.statistics(weights)
        return {
            name: metric.compute(sums)
            for name, metric in EXPRESSION_METRICS.items()
            if weights is None or metric.resampled
        }


class AffectRows:
    """Faces with valence and arousal, ready to be summed under any weighting.

    Prediction and truth are float [n, 2].
    """

    def __init__(self, prediction: FloatArray, truth: FloatArray) -> None:
        x, y = prediction.astype(np.float64), truth.astype(np.float64)
        agree = (np.sign(x) == np.sign(y)).astype(np.float64)
        # A median of equal numbers is exactly that number: what is constant becomes exactly 0.
        centre_x, centre_y = (np.median(part, axis=0) if len(part) else np.zeros(2) for part in (x, y))
        self.offset = centre_x - centre_y
        squared_error = (x - y) ** 2
        x, y = x - centre_x, y - centre_y
        terms = np.stack([x, y, x * x, y * y, x * y, squared_error, agree])
        self.scales = terms[2:4].sum(1) / max(len(x), 1)
        self.terms = terms.transpose(1, 0, 2).reshape(len(x), 7 * len(VALENCE_AROUSAL))

    def metrics(self, weights: Weights | None = None) -> dict[str, Floats]:
        """Computes metrics of valence and arousal, float64 [weightings] each."""
        sums = AffectStatistics(self, _or_ones(weights, len(self.terms)))
        values = {name: metric.compute(sums) for name, metric in AFFECT_METRICS.items()}
        return {
            f"{name}_{dimension}": value[:, index]
            for name, value in values.items()
            for index, dimension in enumerate(VALENCE_AROUSAL)
        }


def measure(predictions: Predictions, labels: Labels) -> dict[str, float]:
    """Measures every metric that the labels allow, by name; what nothing can be said of is left out.

    Raises:
        PocketAffectError: Lengths differ.
    """
    check_same_rows(predictions, labels)
    return {
        **expression_metrics(predictions.probabilities, labels.expression),
        **valence_arousal_metrics(predictions.valence_arousal, labels.valence_arousal),
    }


def expression_metrics(probabilities: FloatArray, expression: IntArray) -> dict[str, float]:
    """Computes metrics of probabilities [n, 8] over the rows with an expression, int [n]; empty where none has one."""
    rows = expression != NO_EXPRESSION
    return defined(ExpressionRows(probabilities[rows], expression[rows]).metrics()) if rows.any() else {}


def valence_arousal_metrics(prediction: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Measures valence and arousal [n, 2] per dimension, over the rows where truth is not NaN; empty without any."""
    rows = ~np.isnan(truth[:, 0])
    return defined(AffectRows(prediction[rows], truth[rows]).metrics()) if rows.any() else {}


def defined(values: dict[str, Floats]) -> dict[str, float]:
    """Takes the first weighting's values, without what it leaves nothing to measure of."""
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


@dataclass(frozen=True)
class _Ranking:
    """Rows by falling score, and the groups of equal scores that hold a positive."""

    order: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    """The positive rows by falling score."""
    groups: npt.NDArray[np.int64]
    """Start of each group in `positives`."""
    before: npt.NDArray[np.int64]
    """Rows that score higher than each group."""
    through: npt.NDArray[np.int64]
    """These and the group's own."""

    def areas(self, weights: Weights) -> tuple[Floats, Floats]:
        """Computes areas under the ROC (NaN without both kinds of rows) and precision-recall curve (without positives).

        Tied scores count half in the first and share one point of the second curve, as in scikit-learn.
        """
        weightings = weights.shape[1]
        if not len(self.groups):
            return np.full(weightings, np.nan), np.full(weightings, np.nan)
        above = np.zeros((len(self.order) + 1, weightings), np.float32)
        np.cumsum(weights[self.order], axis=0, out=above[1:])
        gained = np.add.reduceat(weights[self.positives], self.groups, axis=0).astype(np.float64)
        found = gained.cumsum(axis=0)
        ranked = above[self.through].astype(np.float64)
        positives, negatives = found[-1], above[-1] - found[-1]
        false = (ranked - found) + (above[self.before] - (found - gained))
        pairs = (gained * (negatives - false / 2)).sum(0)
        precision = _divide(found, ranked, 0.0)
        return _divide(pairs, positives * negatives), _divide((gained * precision).sum(0), positives)


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


def _or_ones(weights: Weights | None, rows: int) -> Weights:
    return np.ones((rows, 1), np.float32) if weights is None else weights


def _mean_present(values: Floats) -> Floats:
    """Averages over the classes [weightings, 8] that have a value; NaN where none has."""
    return _divide(np.nansum(values, axis=1), np.isfinite(values).sum(1))


def _divide(above: npt.ArrayLike, below: npt.ArrayLike, undefined: float = np.nan) -> Floats:
    """Divides; `undefined` where `below` is 0."""
    quotient: Floats = np.full(np.broadcast(above, below).shape, undefined)
    return np.divide(above, below, out=quotient, where=np.asarray(below) != 0)
