"""Charts of a checked data set: class balance, valence-arousal density, and what differs from the stored profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.data.contract.profile import Drift, Profile, list_figures, profile_of
from pocketaffect.data.contract.rules import VA_REGIONS
from pocketaffect.figures import BLUE, GREY, GRID, INK, ORANGE, PAPER, make_axes, styled
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SPLITS: Final = {"train": "training", "validation": "validation"}
SPLIT_COLOURS: Final = {"train": ORANGE, "validation": BLUE}
NO_CLASS: Final = "no class"
UNKNOWN_CLASS: Final = "not known"
BINS: Final = 40
"""Bins of the valence-arousal square in each direction: 0.05 wide."""

PANEL: Final = (2.35, 2.55)
"""Distance of neighbouring valence-arousal panels' middles, across and down, where a panel is 2 wide."""


@styled
def draw_class_balance(kept: pd.DataFrame, *left_out: pd.DataFrame) -> Figure:
    """Draws rows of each class that are kept and that are left out (quarantined, dropped), a panel for each split.

    The scale is logarithmic from one row on, so that a class of ten shows beside one of a hundred thousand; the
    counts stand beside the bars.
    """
    from matplotlib.patches import Patch

    none = np.zeros(len(EXPRESSIONS) + 2, dtype=np.int64)
    counts = {
        split: (count_classes(kept, split), sum((count_classes(table, split) for table in left_out), start=none))
        for split in SPLITS
    }
    names = [*EXPRESSIONS, NO_CLASS, UNKNOWN_CLASS]
    shown = [
        row
        for row in range(len(names))
        if row < len(EXPRESSIONS) or any(part[row] for parts in counts.values() for part in parts)
    ]
    size, margins = (9.6, 1.1 + 0.4 * len(shown)), (0.85, 0.1, 0.35, 0.7)
    figure, axes = make_axes(1, len(SPLITS), size, margins=margins, gap=0.2, share_y=True)
    most = max(int(part.max()) for parts in counts.values() for part in parts)
    places = np.arange(len(shown))
    for axis, (split, title) in zip(axes, SPLITS.items(), strict=True):
        kept_rows, lost_rows = (part[shown] for part in counts[split])
        for values, offset, height, colour, letters, zeros in (
            (kept_rows, -0.13, 0.46, SPLIT_COLOURS[split], 8, True),
            (lost_rows, 0.27, 0.26, GREY, 6.5, False),
        ):
            axis.barh(places + offset, values, height=height, color=colour)
            for place, value in zip(places, values, strict=True):
                if not value and not zeros:
                    continue
                axis.annotate(
                    f"{value:,}",
                    (value, place + offset),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=letters,
                    color=INK if value else GREY,
                )
        axis.set_xscale("symlog", linthresh=1, linscale=0.4)
        axis.set_xlim(0, max(10.0, most * 1.2) ** 1.22)  # room for the longest bar's number
        ticks = [10**power for power in range(max(2, math.ceil(math.log10(most + 1)) + 1))]
        axis.set_xticks([0, *ticks], ["0", *map(_shorten, ticks)])
        axis.minorticks_off()
        axis.grid(visible=True, axis="x")
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"{title.capitalize()}: {_describe_count(counts[split][0])}")
    axes[0].set_yticks(places, [names[row] for row in shown])
    axes[0].invert_yaxis()
    meanings = {"kept for training": ORANGE, "kept for validation": BLUE, "quarantined or dropped": GREY}
    handles = [Patch(color=colour, label=label) for label, colour in meanings.items()]
    figure.legend(handles=handles, loc="lower center", ncols=3)
    return figure


@styled
def draw_va_density(kept: pd.DataFrame) -> Figure:
    """Draws how many rows lie where in the valence-arousal square, for all and for each class, in both splits."""
    from matplotlib.colors import LogNorm

    counts = count_va_cells(kept)
    if not counts.any():
        return _draw_nothing("Valence and arousal: no kept row has them")
    # One pair of axes for all panels: the ticks of eighteen pairs take seconds.
    figure, axes = make_axes(1, len(SPLITS), (10.4, 6.3), margins=(0.2, 0.1, 0.3, 0.4), gap=0.3)
    for number, (axis, title) in enumerate(zip(axes, SPLITS.values(), strict=True)):
        most = int(counts[number].max())
        norm = LogNorm(1, max(10, most))
        for panel, (name, cells) in enumerate(zip(("all", *EXPRESSIONS), counts[number], strict=True)):
            across, down = PANEL[0] * (panel % 3), -PANEL[1] * (panel // 3)
            image = axis.imshow(
                np.ma.masked_equal(cells, 0),
                norm=norm,
                cmap="viridis",
                origin="lower",
                extent=(across - 1, across + 1, down - 1, down + 1),
                interpolation="nearest",
                zorder=2,
            )
            _draw_va_frame(axis, name, across, down)
            axis.text(across - 1, down + 1.08, f"{name}  n = {cells.sum():,}", fontsize=8, va="bottom")
        axis.set(xlim=(-1.35, 2 * PANEL[0] + 1.05), ylim=(-2 * PANEL[1] - 1.3, 1.4))
        axis.set_axis_off()
        axis.set_title(f"{title.capitalize()}: {counts[number, 0].sum():,} rows with valence and arousal")
        ticks = [10**power for power in range(len(str(most)))]
        bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.7, aspect=40, fraction=0.06, pad=0.02)
        bar.set_ticks(ticks, labels=[_shorten(tick) for tick in ticks])
        bar.minorticks_off()
        bar.set_label("rows in a cell of 0.05 x 0.05; orange: what the contract calls plausible", fontsize=8)
    return figure


def count_va_cells(kept: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Counts rows, int64 [splits, 1 + classes, BINS of arousal, BINS of valence]; the first "class" is all rows."""
    affect = kept[list(VALENCE_AROUSAL)].to_numpy(dtype=np.float64)
    given = np.isfinite(affect).all(axis=1)
    cells = np.clip(((affect[given] + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
    expression = kept["expression"].to_numpy(dtype=np.int64)[given]
    counts = np.zeros((len(SPLITS), 1 + len(EXPRESSIONS), BINS, BINS), dtype=np.int64)
    for number, name in enumerate(SPLITS):
        rows = (kept["split"] == name).to_numpy(dtype=bool)[given]
        place = ((expression[rows] + 1) * BINS + cells[rows, 1]) * BINS + cells[rows, 0]
        found = np.bincount(place, minlength=counts[number].size).reshape(counts[number].shape)
        counts[number] = found
        counts[number, 0] = found.sum(axis=0)  # found[0] are the rows without a class
    return counts


def _draw_va_frame(axis: Axes, name: str, across: float, down: float) -> None:
    """Draws around the panel's middle: the square, the unit circle and a class's plausible region."""
    from matplotlib.patches import Circle, Rectangle

    axis.add_patch(Rectangle((across - 1, down - 1), 2, 2, fill=False, edgecolor=GRID, linewidth=0.6, zorder=1))
    axis.add_patch(Circle((across, down), 1, fill=False, edgecolor=GREY, linewidth=0.7, zorder=3))
    axis.plot([across - 1, across + 1], [down, down], color=GRID, linewidth=0.6, zorder=1)
    axis.plot([across, across], [down - 1, down + 1], color=GRID, linewidth=0.6, zorder=1)
    for value in (-1, 0, 1):
        if across == 0:
            axis.text(-1.06, down + value, f"{value:g}", fontsize=6.5, ha="right", va="center", color=GREY)
        if down == -2 * PANEL[1]:
            axis.text(across + value, down - 1.06, f"{value:g}", fontsize=6.5, ha="center", va="top", color=GREY)
    if across == 0:
        axis.text(-1.32, down, "arousal", fontsize=7, rotation=90, ha="right", va="center")
    if down == -2 * PANEL[1]:
        axis.text(across, down - 1.24, "valence", fontsize=7, ha="center", va="top")
    if name in VA_REGIONS:
        region = VA_REGIONS[name]
        left, low = (-1.0 if ends[0] is None else ends[0] for ends in (region.valence, region.arousal))
        right, high = (1.0 if ends[1] is None else ends[1] for ends in (region.valence, region.arousal))
        corner, sides = (across + left, down + low), (right - left, high - low)
        axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=ORANGE, linewidth=0.9, zorder=4))


@styled
def draw_split_drift(kept: pd.DataFrame, drift: Sequence[Drift]) -> Figure:
    """Draws class shares and means: training beside validation, each beside the stored profile where there is one."""
    profile = profile_of(kept)
    findings = {finding.what: finding for finding in drift}
    figure, axes = make_axes(1, 3, (11.2, 4.4), margins=(0.85, 1.0, 0.6, 0.7), gap=1.0, share_y=True)
    names = ["all", *EXPRESSIONS]
    for axis, (title, figures) in zip(axes, _list_drift_figures(profile).items(), strict=True):
        for split, colour in SPLIT_COLOURS.items():
            offset = -0.14 if split == "train" else 0.14
            for row, values in enumerate(figures):
                if split not in values:
                    continue
                what, value = values[split]
                if what in findings:
                    stored, warned = findings[what].stored, findings[what].warned
                    line = [row + offset, row + offset]
                    axis.plot([stored, value], line, color=colour, linewidth=2.5 if warned else 1, zorder=2)
                    axis.plot(stored, row + offset, "o", markersize=6, mfc=PAPER, mec=colour, zorder=3)
                axis.plot(value, row + offset, "o", markersize=4.5, color=colour, zorder=4)
        _write_differences(axis, figures, findings, percent=axis is axes[0])
        axis.set_title(title, pad=22)
        axis.grid(visible=True, axis="x")
        axis.grid(visible=True, axis="y", linewidth=0.3)
        axis.tick_params(axis="y", length=0)
        if axis is axes[0]:
            axis.set_xlim(left=-0.01)
            axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        else:
            axis.set_xlim(-1.05, 1.05)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    _add_drift_legend(figure, has_profile=bool(drift))
    return figure


def _list_drift_figures(profile: Profile) -> dict[str, list[dict[str, tuple[str, float]]]]:
    """Lists for each panel and row the splits' figures: the name that `list_figures` gives one, and its value."""
    figures = list_figures(profile)
    panels = {}
    for title, key in (("Class shares", "share"), ("Mean valence", "mean valence"), ("Mean arousal", "mean arousal")):
        rows = []
        for of in ("", *(f" of {label}" for label in EXPRESSIONS)):
            names = {split: f"{split} {key}{of}" for split in profile.splits}
            rows.append({split: (name, figures[name]) for split, name in names.items() if name in figures})
        panels[title] = rows
    return panels


def _write_differences(
    axis: Axes, rows: list[dict[str, tuple[str, float]]], findings: dict[str, Drift], *, percent: bool
) -> None:
    """Writes columns of numbers right of a panel: found minus stored; without a profile, validation minus training."""
    scale, form = (100, "+.1f") if percent else (1, "+.2f")
    where = axis.get_yaxis_transform()
    columns = [("train", 1.15), ("validation", 1.34)] if findings else [("", 1.16)]
    for split, place in columns:
        head = {"train": "train.", "validation": "valid."}.get(split, "valid.\n- train.")
        axis.text(place, -0.6, head, transform=where, ha="right", va="bottom", fontsize=7, color=GREY)
        for row, values in enumerate(rows):
            warned = False
            if split:
                finding = findings.get(values.get(split, ("", 0.0))[0])
                difference = None if finding is None else finding.difference
                warned = finding is not None and finding.warned
            else:
                both = len(values) == len(SPLITS)
                difference = values["validation"][1] - values["train"][1] if both else None
            if difference is None:
                continue
            text = f"{scale * difference:{form}}"
            text = text if float(text) else text[1:]  # nothing is neither +0.0 nor -0.0
            weight = "bold" if warned else "normal"
            label = text + " !" * warned
            axis.text(place, row, label, transform=where, ha="right", va="center", fontsize=7, weight=weight)


def _add_drift_legend(figure: Figure, *, has_profile: bool) -> None:
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], marker="o", linestyle="", color=SPLIT_COLOURS[split], label=name)
        for split, name in SPLITS.items()
    ]
    if has_profile:
        dots.append(
            Line2D([], [], marker="o", linestyle="", mfc=PAPER, mec=GREY, label="stored profile (numbers: difference)")
        )
    note = "bold, !: more than validate.max_drift" if has_profile else "no stored profile (validate.profile)"
    dots.append(Line2D([], [], linestyle="", label=note))
    figure.legend(handles=dots, loc="lower center", ncols=len(dots))


def count_classes(table: pd.DataFrame, split: str) -> npt.NDArray[np.int64]:
    """Counts rows of a split by class: int64 [10], the expressions, NO_CLASS (other numbers), UNKNOWN_CLASS (NaN)."""
    code = table.loc[(table["split"] == split).to_numpy(), "expression"].to_numpy(dtype=np.float64)
    other = np.where(np.isfinite(code), len(EXPRESSIONS), len(EXPRESSIONS) + 1)
    place = np.where(np.isin(code, np.arange(len(EXPRESSIONS))), code, other).astype(np.int64)
    return np.bincount(place, minlength=len(EXPRESSIONS) + 2)


def _describe_count(counts: npt.NDArray[np.int64]) -> str:
    classes = [name for name, count in zip(EXPRESSIONS, counts, strict=False) if count]
    alone = f" (only {classes[0]})" if len(classes) == 1 else ""
    return f"{counts.sum():,} rows kept{alone}"


def _shorten(number: int) -> str:
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1000}k" if number >= 1000 else str(number)


def _draw_nothing(sentence: str) -> Figure:
    """Draws a picture that says why there is none."""
    figure, (axis,) = make_axes(1, 1, (7.2, 1.1), margins=(0, 0, 0, 0))
    axis.set_axis_off()
    axis.text(0.5, 0.5, sentence, ha="center", va="center", color=GREY, fontsize=11)
    return figure
