"""The study's pictures: stars by prompt, and what was predicted beside what people said they felt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pocketaffect.app.study.prompts import PROMPTS
from pocketaffect.app.study.store import EXPORT_COLUMNS
from pocketaffect.figures import BLUE, GREY, ORANGE, make_axes, styled
from pocketaffect.labels import VALENCE_AROUSAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from pocketaffect.app.study.analysis import Figure


@styled
def draw_ratings(ratings: Mapping[str, Figure]) -> Drawing:
    """Mean stars of each prompt with its interval, and the mean of all."""
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
def draw_affect(rows: Sequence[Sequence[str | int | float]]) -> Drawing:
    """Annotated against predicted, a panel for each dimension."""
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
