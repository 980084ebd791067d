"""Computes the study's figures and writes them as one page that stands alone: the paper's tables 7 to 9.

One person's rows are alike, so it is runs, not rows, that are drawn with replacement for an interval (the cluster
bootstrap): ten prompts of one person are not ten people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.app.study.protocol import PROBABILITY_COLUMNS, PROMPTS
from pocketaffect.app.study.store import EXPORT_COLUMNS
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import RESAMPLES, SEED, Interval, find_bounds
from pocketaffect.evaluation.metrics import CLASSES, AffectRows, ExpressionRows
from pocketaffect.evaluation.plots import draw_confusion
from pocketaffect.figures import BLUE, GREY, ORANGE, inline_svg, make_axes, page_template, render_svg, styled
from pocketaffect.files import write_atomically
from pocketaffect.labels import VALENCE_AROUSAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


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
    """A number with its 95 % interval; without bounds for fewer than two runs, which tell nothing of other people."""

    rows: int
    """Number of rows behind it."""


@dataclass(frozen=True)
class StudyAnalysis:
    """All figures of a study: of participants' runs with a row, of those with one for every prompt, of all rows."""

    runs: int
    complete: int
    rows: int
    metrics: dict[str, Figure]
    """Figures by the names of `evaluation.metrics`: expressions against the prompts that enter them, valence and
    arousal against the participants' own annotation, neutral's (0, 0) among them."""
    confusion: npt.NDArray[np.int64]
    """int64 [8, 8], rows expected, columns predicted, of the same rows as the expression metrics."""
    ratings: dict[str, Figure]
    """Mean stars: "all", "right" and "wrong" predictions over all prompts, their difference, each prompt by its id."""


def analyse(rows: Sequence[Sequence[str | int | float]], *, seed: int = SEED) -> StudyAnalysis:
    """Computes all figures of rows as `StudyStore.rows` gives them; `seed` draws the runs.

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
        metrics={**_resample(expressions.metrics, run[in_classes], seed), **_resample(felt.metrics, run, seed)},
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


EXPRESSION_METRICS: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "kappa": "Cohen's kappa",
    "krippendorff_alpha": "Krippendorff's alpha",
    "aucpr": "area under precision-recall",
    "auc": "area under ROC",
}
AFFECT_METRICS: Final = {"rmse": "RMSE", "corr": "correlation", "sagr": "sign agreement", "ccc": "concordance"}
RATINGS: Final = {
    "all": ("all", "rating"),
    "right": ("where the expression was right", "rating_right"),
    "wrong": ("where it was wrong", "rating_wrong"),
    "right_minus_wrong": ("right minus wrong", None),
}


def write_study_report(rows: Sequence[Sequence[str | int | float]], target: Path) -> None:
    """Writes the page about rows as `StudyStore.rows` gives them.

    Raises:
        PocketAffectError: There are no rows, or the file cannot be written.
    """
    analysis = analyse(rows)
    pictures = (draw_confusion(analysis.confusion), _draw_ratings(analysis.ratings), _draw_affect(rows))
    confusion, ratings, affect = (
        inline_svg(render_svg(picture), f"f{number}") for number, picture in enumerate(pictures)
    )
    page = page_template("app/study/report.html.jinja", {"number": _number}).render(
        analysis=analysis,
        paper=PAPER_STUDY,
        expression_metrics=EXPRESSION_METRICS,
        affect_metrics=AFFECT_METRICS,
        dimensions=VALENCE_AROUSAL,
        ratings=RATINGS,
        prompts=PROMPTS,
        confusion=confusion,
        rating_figure=ratings,
        affect_figure=affect,
    )
    with write_atomically(target) as draft:
        draft.write_text(page, encoding="utf-8")


def _number(value: float) -> str:
    """Rounds to three decimals; NaN becomes a dash."""
    return "–" if math.isnan(value) else f"{value:.3f}"  # noqa: RUF001 - typography


@styled
def _draw_ratings(ratings: Mapping[str, Figure]) -> Drawing:
    """Draws the mean stars of each prompt with its interval, and the mean of all."""
    figure, (axis,) = make_axes(1, 1, (7.2, 3.2))
    names = [each.id for each in PROMPTS]
    for place, name in enumerate(names):
        rating = ratings[name]
        axis.plot([rating.low, rating.high], [place, place], color=BLUE, linewidth=2, solid_capstyle="butt")
        axis.plot([rating.value], [place], marker="o", color=BLUE)
    axis.axvline(ratings["all"].value, color=ORANGE, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(names)), [f"{name} ({ratings[name].rows})" for name in names])
    axis.set(xlim=(0.9, 5.1), ylim=(len(names) - 0.5, -0.5), xlabel="stars (dashed: mean of all rows)")
    axis.set_title("Mean rating of the songs by prompt (rows), with 95 % interval")
    axis.grid(visible=True, axis="x")
    return figure


@styled
def _draw_affect(rows: Sequence[Sequence[str | int | float]]) -> Drawing:
    """Draws annotated against predicted affect, a panel for each dimension."""
    figure, axes = make_axes(1, 2, (7.2, 3.6))
    table = pd.DataFrame(rows, columns=list(EXPORT_COLUMNS))
    for axis, dimension in zip(axes, VALENCE_AROUSAL, strict=True):
        axis.plot([-1, 1], [-1, 1], color=GREY, linewidth=1)
        axis.scatter(table[f"annotated_{dimension}"], table[dimension], s=14, color=BLUE, alpha=0.5, linewidths=0)
        axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        axis.set(xlabel=f"{dimension}, the participant's own", ylabel="predicted", title=dimension.capitalize())
        axis.grid(visible=True)
    return figure
