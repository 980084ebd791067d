"""Writes the study's page: the paper's tables 7 to 9 for the collected rows, as one HTML file that stands alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pocketaffect.app.study.analysis import PAPER_STUDY, Figure, analyse
from pocketaffect.app.study.protocol import PROMPTS
from pocketaffect.app.study.store import EXPORT_COLUMNS
from pocketaffect.evaluation.plots import draw_confusion
from pocketaffect.figures import BLUE, GREY, ORANGE, inline_svg, make_axes, page_template, render_svg, styled
from pocketaffect.files import write_atomically
from pocketaffect.labels import VALENCE_AROUSAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

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
    """Writes the page.

    Args:
        rows: The rows that `StudyStore.rows` gives.
        target: The HTML file.

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
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0.9, 5.1)
    axis.set_xlabel("stars (dashed: mean of all rows)")
    axis.grid(visible=True, axis="x")
    axis.set_title("Mean rating of the songs by prompt (rows), with 95 % interval")
    return figure


@styled
def _draw_affect(rows: Sequence[Sequence[str | int | float]]) -> Drawing:
    """Draws annotated against predicted affect, a panel for each dimension."""
    figure, axes = make_axes(1, 2, (7.2, 3.6))
    columns = dict(zip(EXPORT_COLUMNS, zip(*rows, strict=True), strict=True))
    for axis, dimension in zip(axes, VALENCE_AROUSAL, strict=True):
        annotated = np.array(columns[f"annotated_{dimension}"], np.float64)
        predicted = np.array(columns[dimension], np.float64)
        axis.plot([-1, 1], [-1, 1], color=GREY, linewidth=1)
        axis.scatter(annotated, predicted, s=14, color=BLUE, alpha=0.5, linewidths=0)
        axis.set_xlim(-1.05, 1.05)
        axis.set_ylim(-1.05, 1.05)
        axis.set_aspect("equal")
        axis.grid(visible=True)
        axis.set_xlabel(f"{dimension}, the participant's own")
        axis.set_ylabel("predicted")
        axis.set_title(dimension.capitalize())
    return figure
