"""Pictures of a sweep, in the look of `pocketaffect.figures`: history, front, importance, parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketaffect.figures import BLUE, GREY, GRID, INK, ORANGE, make_axes, styled
from pocketaffect.sweep.results import TrialRow, best_first, find_front
from pocketaffect.sweep.space import Choice, Dimension, Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def draw_history(rows: Sequence[TrialRow]) -> Figure:
    """Draws score by trial, and the best so far."""
    figure, (axis,) = make_axes(1, 1, (8.2, 3.6), margins=(0.65, 0.15, 0.5, 0.5))
    done, stopped = _with(rows, "done"), _with(rows, "stopped early")
    axis.scatter(*_points(stopped), s=16, facecolors="none", edgecolors=GREY, label="stopped early: its last epoch")
    axis.scatter(*_points(done), s=20, color=BLUE, label="trained to the end", zorder=3)
    if done:
        ordered = sorted(done, key=lambda row: row.number)
        best = np.maximum.accumulate([row.score or 0.0 for row in ordered])
        axis.step([row.number for row in ordered], best, where="post", color=ORANGE, label="best so far")
    floor = axis.get_ylim()[0]
    aside = [row.number for row in rows if row.outcome in ("over budget", "failed")]
    axis.plot(aside, [floor] * len(aside), color=GREY, linestyle="", marker="|", label="over budget or failed")
    axis.set(xlabel="trial", ylabel="score")
    axis.locator_params(axis="x", integer=True)
    axis.grid(visible=True)
    figure.legend(*axis.get_legend_handles_labels(), loc="upper right", ncols=4)
    return figure


@styled
def draw_front(rows: Sequence[TrialRow], budget: int) -> Figure:
    """Draws score against predicted bytes, the Pareto front, and the budget."""
    figure, (axis,) = make_axes(1, 1, (8.2, 4.0), margins=(0.65, 0.15, 0.5, 0.5))
    done, front = _with(rows, "done"), find_front(rows)
    axis.scatter([_kilobytes(row) for row in done], _points(done)[1], s=20, color=GREY, label="trial")
    places, scores = [_kilobytes(row) for row in front], [row.score or 0.0 for row in front]
    if front:
        axis.step([*places, budget / 1000], [*scores, scores[-1]], where="post", color=BLUE, label="Pareto front")
    axis.scatter(places, scores, s=26, color=BLUE, zorder=3)
    for row in best_first(rows)[:1]:
        axis.annotate(
            f"trial {row.number}", (_kilobytes(row), row.score or 0.0), (0, 7), textcoords="offset points", ha="center"
        )
    axis.axvline(budget / 1000, color=ORANGE, linestyle="--", linewidth=1, label="budget")
    axis.margins(y=0.14)
    axis.set(xlabel="predicted bytes of the package, thousands", ylabel="score")
    axis.grid(visible=True)
    figure.legend(*axis.get_legend_handles_labels(), loc="upper right", ncols=3)
    return figure


@styled
def draw_importance(importance: Mapping[str, float]) -> Figure:
    """Draws a bar for each setting; empty where there are too few trials to say."""
    height = 1.0 + 0.3 * max(1, len(importance))
    figure, (axis,) = make_axes(1, 1, (8.2, height), margins=(2.3, 0.5, 0.35, 0.5))
    names = sorted(importance, key=lambda name: importance[name])
    axis.barh(names, [importance[name] for name in names], color=BLUE, height=0.65)
    for place, name in enumerate(names):
        axis.text(importance[name], place, f" {importance[name]:.2f}", va="center")
    axis.set_xlim(0, max([*importance.values(), 0.1]) * 1.08)
    axis.set_xlabel("share of what sets the best tenth apart (PED-ANOVA)")
    axis.tick_params(axis="y", length=0)
    if not names:
        axis.text(0.5, 0.5, "too few trained trials", transform=axis.transAxes, ha="center", va="center", color=GREY)
        axis.set_yticks([])
    return figure


@styled
def draw_parallel(rows: Sequence[TrialRow], space: Space) -> Figure:
    """Draws a line for each trained trial through all its settings, bytes and score; the darker, the better."""
    from matplotlib import colormaps

    done = sorted(_with(rows, "done"), key=lambda row: row.score or 0.0)
    scales = [
        (name.split(".", 1)[-1], *_place([row.settings[name] for row in done], dimension))
        for name, dimension in space.items()
    ]
    scales.append(("bytes / 1000", *_place([_kilobytes(row) for row in done])))
    scales.append(("score", *_place([row.score or 0.0 for row in done])))
    titles, heights, ticks = zip(*scales, strict=True)
    columns = len(titles)
    figure, (axis,) = make_axes(1, 1, (max(8.2, 1.25 * columns), 4.4), margins=(0.75, 0.75, 0.3, 0.75))
    for place, line in enumerate(zip(*heights, strict=True)):
        best = place == len(done) - 1
        shade = colormaps["Blues"](0.25 + 0.65 * place / max(1, len(done) - 1))
        axis.plot(range(columns), line, color=ORANGE if best else shade, linewidth=2 if best else 1)
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7, "color": INK, "zorder": 4}
    for column, written in enumerate(ticks):
        axis.axvline(column, color=GRID, linewidth=1, zorder=0)
        for height, text in written:
            axis.annotate(text, (column, height), (3, 0), **style)
    axis.set(xlim=(-0.02, columns - 0.98), ylim=(-0.04, 1.04))
    axis.set_xticks(range(columns), titles, rotation=18, ha="right", rotation_mode="anchor")
    axis.set_yticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title("Trained trials; orange: the best")
    return figure


def _place(values: Sequence[Any], dimension: Dimension | None = None) -> tuple[list[float], list[tuple[float, str]]]:
    """Places values on an upright axis from 0 to 1, and lists what is written beside it, and where."""
    from matplotlib.colors import LogNorm, Normalize

    if isinstance(dimension, Choice):
        numbers, scale = [dimension.values.index(value) for value in values], Normalize(0, len(dimension.values) - 1)
        written = [(float(scale(number)), str(value)) for number, value in enumerate(dimension.values)]
    else:
        numbers = list(values)
        ends = (
            (min(values, default=0), max(values, default=1)) if dimension is None else (dimension.low, dimension.high)
        )
        scale = (LogNorm if dimension and dimension.log else Normalize)(*ends)
        written = [(float(scale(end)), f"{end:.3g}") for end in ends]
    return [float(scale(number)) for number in numbers], written


def _with(rows: Sequence[TrialRow], outcome: str) -> list[TrialRow]:
    return [row for row in rows if row.outcome == outcome and row.score is not None]


def _points(rows: Sequence[TrialRow]) -> tuple[list[int], list[float]]:
    return [row.number for row in rows], [row.score or 0.0 for row in rows]


def _kilobytes(row: TrialRow) -> float:
    return (row.bytes or 0) / 1000
