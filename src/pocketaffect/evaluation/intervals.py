"""Intervals of metrics and of the difference between two models, by resampling faces (the bootstrap, Efron 1979).

Faces are drawn with replacement, as many as there are, again and again; the middle 95 % of the values that a metric
takes is its interval. Two models are compared on the same draws: what makes a draw easy for both cancels out, which
is why a difference can be certain where the intervals of the two overlap.

A task's metrics are taken over the faces that are labelled for it, and these are drawn; a task without a labelled
face has none. A class that a draw leaves out counts as `metrics` says of an absent class. Nothing here needs torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.metrics import AffectRows, ExpressionRows, defined, less_is_better
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows

RESAMPLES: Final = 1000
SEED: Final = 2018
COVERAGE: Final = 0.95

_BLOCK: Final = 64
_BLOCK_CELLS: Final = 1 << 24
"""Draws at a time: few enough for the processor's cache, and for memory where there are millions of faces."""

_NORMAL_QUANTILE: Final = 1.959963984540054

Values = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A metric and its 95 % interval.

    `low` and `high` are the resampled values' 2.5 and 97.5 % quantiles; NaN where the metric is not resampled.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One metric of two models on the same faces.

    `difference` is `ours - theirs`; `low` and `high` are the 2.5 and 97.5 % quantiles of the resampled differences, NaN
    where the metric has no interval.
    """

    metric: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """The interval's verdict on the first model; undecided where it holds 0, or where there is none."""
        if not (self.low > 0 or self.high < 0):
            return "undecided"
        return "better" if (self.difference > 0) != less_is_better(self.metric) else "worse"


def bootstrap_metrics(
    predictions: Predictions, labels: Labels, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Computes every metric that the labels allow and the bootstrap resamples, with its percentile interval.

    With 1000 resamples a bound is good to some hundredths of the interval's width. The same seed gives the same
    intervals.

    Raises:
        PocketAffectError: Lengths differ, or there are fewer than 2 resamples.
    """
    (measured,), (resampled,) = _resample([predictions], labels, resamples, seed)
    return {
        name: Interval(measured[name], *find_bounds(values)) for name, values in resampled.items() if name in measured
    }


def compare_predictions(
    ours: Predictions, theirs: Predictions, labels: Labels, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Comparison]:
    """Compares every metric's difference between two models on the same faces, with its percentile interval.

    Raises:
        PocketAffectError: Lengths differ, or there are fewer than 2 resamples.
    """
    (first, second), (drawn_first, drawn_second) = _resample([ours, theirs], labels, resamples, seed)
    differences = {name: values - drawn_second[name] for name, values in drawn_first.items()}
    return {
        name: Comparison(name, ours, second[name], ours - second[name], *find_bounds(differences.get(name)))
        for name, ours in first.items()
    }


def find_bounds(values: npt.NDArray[np.float64] | None) -> tuple[float, float]:
    """Finds the two quantiles of the interval, over the draws that leave something to measure."""
    tail = (1 - COVERAGE) / 2
    known = np.empty(0) if values is None else values[np.isfinite(values)]
    low, high = np.quantile(known, (tail, 1 - tail)).tolist() if len(known) else (math.nan, math.nan)
    return low, high


def _resample(
    models: list[Predictions], labels: Labels, resamples: int, seed: int
) -> tuple[list[dict[str, float]], list[Values]]:
    """Measures each model over the faces as they are, and over each draw of them."""
    if resamples < 2:
        raise PocketAffectError("intervals: too few resamples", found=resamples, allowed="2 and more; 1000 is usual")
    for predictions in models:
        check_same_rows(predictions, labels)
    expressed, felt = labels.has_expression, labels.has_valence_arousal
    tasks: list[Sequence[ExpressionRows | AffectRows]] = [
        [ExpressionRows(model.probabilities[expressed], labels.expression[expressed]) for model in models],
        [AffectRows(model.valence_arousal[felt], labels.valence_arousal[felt]) for model in models],
    ]
    measured: list[dict[str, float]] = [{} for _ in models]
    resampled: list[Values] = [{} for _ in models]
    for stream, (of_models, labelled) in enumerate(zip(tasks, (expressed, felt), strict=True)):
        rows = int(labelled.sum())
        if not rows:
            continue
        # A stream for each task: what one task draws does not depend on how many faces the other has.
        blocks: list[list[Values]] = [[] for _ in models]
        for counts in _draw_counts(rows, resamples, np.random.default_rng([seed, stream])):
            for one, found in zip(of_models, blocks, strict=True):
                found.append(one.metrics(counts))
        for one, found, values, drawn in zip(of_models, blocks, measured, resampled, strict=True):
            values |= defined(one.metrics())
            drawn |= {name: np.concatenate([block[name] for block in found]) for name in found[0]}
    return measured, resampled


def _draw_counts(rows: int, resamples: int, generator: np.random.Generator) -> Iterator[npt.NDArray[np.float32]]:
    """Draws how often each row is in each draw, float32 [rows, draws of a block]."""
    block = max(1, min(_BLOCK, _BLOCK_CELLS // rows))
    for start in range(0, resamples, block):
        width = min(block, resamples - start)
        drawn = generator.integers(0, rows, (width, rows))
        drawn *= width
        drawn += np.arange(width)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * width).reshape(rows, width).astype(np.float32)


def wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """Computes the 95 % interval of a share, without continuity correction (Wilson 1927)."""
    square = _NORMAL_QUANTILE**2
    centre = (hits + square / 2) / (rows + square)
    reach = _NORMAL_QUANTILE / (rows + square) * math.sqrt(hits * (rows - hits) / max(rows, 1) + square / 4)
    return max(0.0, centre - reach), min(1.0, centre + reach)
