"""Pictures of a sweep, in the look of `pocketaffect.figures`: history, front, importance, parallel coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pocketaffect.figures import BLUE, GREY, GRID, INK, ORANGE, make_axes, styled
from pocketaffect.sweep.results import Cost, TrialRow, best_first, find_front
from pocketaffect.sweep.space import Choice, Dimension, Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pocketaffect.config import SweepParams
    from pocketaffect.evaluation.intervals import Interval
    from pocketaffect.sweep.references import Reference

COSTS: Final[tuple[tuple[Cost, float, str], ...]] = (
    ("bytes", 1e3, "kilobytes of the package"),
    ("macs", 1e6, "million multiply-accumulates of one face"),
)
MARKERS: Final = "osD^vPX<>h"


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
def draw_fronts(
    rows: Sequence[TrialRow], sweep: SweepParams, architecture: str, references: Sequence[Reference] = ()
) -> Figure:
    """Draws score against bytes and against multiply-accumulates, by architecture, with fronts, budgets and references.

    A reference without a score on these faces is a line at what it costs. `architecture` is what trials have that did
    not search it. What was trained on a part of the faces is hollow.
    """
    figure, axes = make_axes(1, 2, (9.6, 4.6), margins=(0.75, 0.15, 0.75, 0.5), gap=0.35, share_y=True)
    best = best_first(rows)[:1]
    for axis, (cost, unit, title) in zip(axes, COSTS, strict=True):
        done = [row for row in _with(rows, "done") if getattr(row, cost)]
        designs = [str(row.settings.get("model.architecture", architecture)) for row in done]
        for design, marker in zip(dict.fromkeys(sorted(designs)), itertools.cycle(MARKERS), strict=False):
            own = [row for row, name in zip(done, designs, strict=True) if name == design]
            whole, part = ([row for row in own if (row.faces is None) == wanted] for wanted in (True, False))
            drawn = axis.scatter(*_costs(whole, cost, unit), s=20, marker=marker, alpha=0.75, label=design)
            axis.scatter(
                *_costs(part, cost, unit), s=20, marker=marker, edgecolors=drawn.get_facecolor(), facecolors="none"
            )
        places, scores = _costs([row for row in find_front(rows, cost) if getattr(row, cost)], cost, unit)
        limit = getattr(sweep, f"budget_{cost}")
        if places:
            end = places[-1] if limit is None else limit / unit
            axis.step([*places, end], [*scores, scores[-1]], where="post", color=BLUE, label="front", zorder=0)
        if limit is not None:
            axis.axvline(limit / unit, color=ORANGE, linestyle="--", linewidth=1, label="budget")
        for row in best:
            place = ((getattr(row, cost) or 0) / unit, row.score or 0.0)
            axis.annotate(f"trial {row.number}", place, (0, 7), textcoords="offset points", ha="center")
        for number, one in enumerate(references):
            place = getattr(one, cost) / unit
            if one.score is not None:
                axis.scatter(place, one.score, s=60, marker="*", color=ORANGE, label=one.name, zorder=3)
                continue
            axis.axvline(place, color=GREY, linestyle=":", linewidth=1)
            style: dict[str, Any] = {"rotation": 90, "fontsize": 7, "color": GREY, "ha": "right", "va": "bottom"}
            axis.text(place, 0.02 + 0.25 * number, one.name, transform=axis.get_xaxis_transform(), **style)
        axis.set(xlabel=title, xscale="log")
        axis.xaxis.set_major_formatter("{x:g}")  # its own writes powers in TeX, which nothing here parses
        axis.xaxis.set_minor_formatter("")
        axis.margins(y=0.14)
        axis.grid(visible=True)
    axes[0].set_ylabel("score")
    named = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="upper right", ncols=5)
    return figure


@styled
def draw_importance(importance: Mapping[str, Interval]) -> Figure:
    """Draws a bar for each setting, with its interval; empty where there are too few trials to say."""
    height = 1.0 + 0.3 * max(1, len(importance))
    figure, (axis,) = make_axes(1, 1, (8.2, height), margins=(2.3, 0.5, 0.35, 0.5))
    names = list(importance)[::-1]
    shown = [name.split(".", 1)[-1] for name in names]
    axis.barh(shown, [importance[name].value for name in names], color=BLUE, height=0.65)
    for place, share in enumerate(importance[name] for name in names):
        axis.plot([share.low, share.high], [place, place], color=INK, linewidth=1.5)
        axis.text(max(share.value, share.high), place, f" {share.value:.2f}", va="center")
    axis.set_xlim(0, max([*(share.high for share in importance.values()), 0.1]) * 1.08)
    axis.set_xlabel("share of what sets the best tenth apart (PED-ANOVA), 95 % of resampled trials")
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


def _costs(rows: Sequence[TrialRow], cost: str, unit: float) -> tuple[list[float], list[float]]:
    return [getattr(row, cost) / unit for row in rows], [row.score or 0.0 for row in rows]


def _kilobytes(row: TrialRow) -> float:
    return (row.bytes or 0) / 1000
