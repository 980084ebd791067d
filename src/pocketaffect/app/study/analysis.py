"""Computes the study's figures: the paper's metrics, confusion and ratings, each with an interval over participants.

One person's rows are alike, so it is runs, not rows, that are drawn with replacement for an interval (the cluster
bootstrap): ten prompts of one person are not ten people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.app.study.protocol import PROBABILITY_COLUMNS, PROMPTS
from pocketaffect.app.study.store import EXPORT_COLUMNS
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import RESAMPLES, SEED, Interval, find_bounds
from pocketaffect.evaluation.metrics import CLASSES, AffectRows, ExpressionRows
from pocketaffect.labels import VALENCE_AROUSAL

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]

PAPER_STUDY: Final[dict[str, float]] = {
    "accuracy": 0.49,
    "macro_f1": 0.45,
    "kappa": 0.41,
    "krippendorff_alpha": 0.41,
    "auc": 0.88,
    "aucpr": 0.60,
    "rmse_valence": 0.40,
    "rmse_arousal": 0.40,
    "corr_valence": 0.74,
    "corr_arousal": 0.44,
    "sagr_valence": 0.74,
    "sagr_arousal": 0.65,
    "ccc_valence": 0.68,
    "ccc_arousal": 0.39,
    "rating": 3.17,
    "rating_right": 3.31,
    "rating_wrong": 3.02,
}
"""Figures of the paper's ten participants (Hewitt & Gunes 2018)."""


@dataclass(frozen=True)
class Figure(Interval):
    """A number with its 95 % interval; without bounds for fewer than two runs, which tell nothing of other people.

    Attributes:
        rows: Number of rows behind it.
    """

    rows: int


@dataclass(frozen=True)
class StudyAnalysis:
    """All figures of a study.

    Attributes:
        runs: Participants' runs with at least one row.
        complete: Those with a row for every prompt.
        rows: All rows.
        metrics: Figures by the names of `evaluation.metrics`: expressions against the prompts that enter them,
            valence and arousal against the participants' own annotation, neutral's (0, 0) among them.
        confusion: int64 [8, 8], rows expected, columns predicted, of the same rows as the expression metrics.
        ratings: Mean stars: "all", "right" and "wrong" predictions over all prompts, their difference
            "right_minus_wrong", and each prompt by its id.
    """

    runs: int
    complete: int
    rows: int
    metrics: dict[str, Figure]
    confusion: npt.NDArray[np.int64]
    ratings: dict[str, Figure]


def analyse(rows: Sequence[Sequence[str | int | float]], *, seed: int = SEED) -> StudyAnalysis:
    """Computes all figures of some rows.

    Args:
        rows: Rows as `StudyStore.rows` gives them, in the order of `store.EXPORT_COLUMNS`.
        seed: Seed of the draws of runs.

    Raises:
        PocketAffectError: There is no row, or none of a prompt that enters the expression metrics.
    """
    if not rows:
        raise PocketAffectError("study: nothing to report", found="no row", todo="pocketaffect serve, and participants")
    table = pd.DataFrame(rows, columns=list(EXPORT_COLUMNS))
    run, names = pd.factorize(table.run, sort=True)
    in_classes = table.prompt.isin([each.number for each in PROMPTS if each.in_class_metrics])
    classed = table[in_classes]
    if classed.empty:
        raise PocketAffectError(
            "study: no row of the eight prompts that stand for the classes",
            found=f"{len(rows)} row(s) of happy and sad",
        )
    expected = classed.expected.to_numpy()
    expressions = ExpressionRows(classed[list(PROBABILITY_COLUMNS)].to_numpy(np.float64), expected)
    felt = AffectRows(_affect(table, ""), _affect(table, "annotated_"))
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(confusion, (expected, classed.predicted.to_numpy()), 1)
    return StudyAnalysis(
        runs=len(names),
        complete=int((np.bincount(run) == len(PROMPTS)).sum()),
        rows=len(rows),
        metrics={
            **_resample(expressions.metrics, run[in_classes], seed),
            **_resample(felt.metrics, run, seed),
        },
        confusion=confusion,
        ratings=_rate(table, run, seed),
    )


def _affect(table: pd.DataFrame, prefix: str) -> Floats:
    return table[[f"{prefix}{name}" for name in VALENCE_AROUSAL]].to_numpy(np.float64)


def _rate(table: pd.DataFrame, run: npt.NDArray[np.int64], seed: int) -> dict[str, Figure]:
    right, rating = (table.predicted == table.expected).to_numpy(), table.rating.to_numpy(np.float64)
    groups = {"all": np.ones(len(right), np.bool_), "right": right, "wrong": ~right}
    groups |= {each.id: (table.prompt == each.number).to_numpy() for each in PROMPTS}

    def means(counts: Counts) -> dict[str, Floats]:
        found = {}
        for name, rows in groups.items():
            weights = counts[rows].astype(np.float64)
            with np.errstate(invalid="ignore"):
                found[name] = rating[rows] @ weights / weights.sum(0)
        return {**found, "right_minus_wrong": found["right"] - found["wrong"]}

    figures = _resample(means, run, seed)
    counted = {**groups, "right_minus_wrong": groups["all"]}
    return {name: replace(figure, rows=int(counted[name].sum())) for name, figure in figures.items()}


def _resample(
    measure: Callable[[Counts], Mapping[str, Floats]], run: npt.NDArray[np.int64], seed: int
) -> dict[str, Figure]:
    """Measures some rows as they are, and over draws of the runs that they belong to."""
    once = measure(np.ones((len(run), 1), np.float32))
    names, number = np.unique(run, return_inverse=True)
    drawn: Mapping[str, Floats] = {}
    if len(names) > 1:
        draws = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
        counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws], axis=1).astype(np.float32)
        drawn = measure(counts[number])
    return {name: Figure(float(value[0]), *find_bounds(drawn.get(name)), len(run)) for name, value in once.items()}
