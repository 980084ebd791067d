"""Figures of a training and an evaluation, in the look of `pocketaffect.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.evaluation.calibration import KEPT_RIGHT, Calibration, scale, trace_coverage
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.figures import BLUE, GREY, INK, ORANGE, make_axes, styled
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pocketaffect.evaluation.evaluate import Evaluation
    from pocketaffect.evaluation.slices import ClassRow

MODEL: Final = BLUE
OTHER: Final = ORANGE
FLOOR: Final = GREY

_SPLITS: Final = {"train": ("training", OTHER), "validation": ("validation", MODEL)}


@styled
def draw_training_curves(history: Sequence[Mapping[str, float]], best_epoch: int | None = None) -> Figure:
    """Draws one panel per quantity, training and validation in the same one.

    Each row holds `epoch`, and `train_<name>`, `validation_<name>` or a plain name; a line marks the best epoch.
    """
    panels: dict[str, list[str]] = {}
    for key in history[0]:
        split, _, name = key.partition("_")
        panels.setdefault(name if split in _SPLITS else key, []).append(key)
    del panels["epoch"]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    height = 2.5 * rows + 0.3
    margins = (0.6, 0.1, 0.65, 0.45)
    figure, axes = make_axes(rows, columns, (3.4 * columns, height), margins=margins, gap=0.65)
    between = 0.75
    figure.subplots_adjust(hspace=between / ((height - margins[2] - margins[3] - between * (rows - 1)) / rows))
    for axis, (name, keys) in zip(axes, panels.items(), strict=False):
        for key in keys:
            label, colour = (None, INK) if key == name else _SPLITS[key.partition("_")[0]]
            points = [(row["epoch"], row[key]) for row in history]
            axis.plot(*zip(*points, strict=True), color=colour, label=label, marker="o", markersize=2.5)
        if best_epoch is not None:
            axis.axvline(best_epoch, color=FLOOR, linewidth=1, linestyle=":", label="kept epoch")
        axis.set_title(_title(name))
        axis.set_xlabel("epoch")
        axis.locator_params(axis="x", integer=True)
        axis.grid(visible=True)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    for axis in axes[len(panels) :]:
        axis.remove()
    if handles:
        figure.legend(handles.values(), handles, loc="upper right", ncols=len(handles))
    return figure


@styled
def draw_confusion(confusion: npt.NDArray[np.int64]) -> Figure:
    """Draws the row-normalised confusion matrix, each cell with its share of the true class and its count."""
    figure, (axis,) = make_axes(1, 1, (7.2, 6.4), margins=(1.35, 0.15, 0.4, 1.05))
    support = confusion.sum(1, keepdims=True)
    share = confusion / np.maximum(support, 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(confusion.shape):
        colour = "#fcfcfc" if share[row, column] > 0.55 else "#24292e"
        # Not `figures.PAPER`, which a page may turn dark: the cell stays blue.
        style: dict[str, Any] = {"ha": "center", "color": colour, "in_layout": False}
        axis.text(column, row - 0.02, f"{share[row, column]:.0%}", va="bottom", fontsize=9, **style)
        axis.text(column, row + 0.08, f"{confusion[row, column]}", va="top", fontsize=7, **style)
    ticks = range(len(EXPRESSIONS))
    axis.set_xticks(ticks, EXPRESSIONS, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, [f"{name} ({count})" for name, count in zip(EXPRESSIONS, support[:, 0], strict=True)])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title("Share of each true expression, above the number of faces")
    return figure


@styled
def draw_affect_scatter(predictions: Predictions, labels: Labels, evaluation: Evaluation) -> Figure:
    """Draws prediction against truth, a panel per dimension, with identity and the constant floor."""
    figure, axes = make_axes(1, 2, (8.8, 5.0), margins=(0.7, 0.1, 0.4, 0.9), gap=0.8)
    rows = labels.has_valence_arousal
    for index, (axis, dimension) in enumerate(zip(axes, VALENCE_AROUSAL, strict=True)):
        truth, guess = labels.valence_arousal[rows, index], predictions.valence_arousal[rows, index]
        axis.plot([-1, 1], [-1, 1], color=INK, linewidth=1, label="prediction = truth", zorder=3)
        floor = ""
        if evaluation.training_mean is not None:
            mean, label = evaluation.training_mean[index], "constant floor"
            axis.axhline(mean, color=OTHER, linewidth=1, linestyle="--", label=label, zorder=3)
            floor = f" (floor {evaluation.floors['constant'][f'rmse_{dimension}']:.3f})"
        alpha = float(np.clip(600 / max(len(truth), 1), 0.12, 0.6))
        axis.scatter(
            truth, guess, s=9, color=MODEL, alpha=alpha, linewidths=0, rasterized=True, label="a face", zorder=2
        )
        axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xlabel=f"true {dimension}")
        axis.set_ylabel(f"predicted {dimension}")
        axis.grid(visible=True)
        rmse, ccc = evaluation.metrics[f"rmse_{dimension}"], evaluation.metrics[f"ccc_{dimension}"]
        axis.set_title(f"{_title(dimension)}: RMSE {rmse:.3f}{floor}, CCC {ccc:.3f}", fontsize=8.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3)
    return figure


@styled
def draw_class_bars(per_class: Sequence[ClassRow]) -> Figure:
    """Draws precision, recall and F1 of each expression, with its support."""
    figure, (axis,) = make_axes(1, 1, (8.2, 3.4), margins=(0.45, 0.1, 0.45, 0.5))
    place = np.arange(len(per_class))
    for offset, (name, colour) in enumerate((("precision", MODEL), ("recall", OTHER), ("f1", FLOOR))):
        values = [getattr(row, name) or 0.0 for row in per_class]
        label = "F1" if name == "f1" else name
        axis.bar(place + (offset - 1) * 0.27, values, width=0.25, color=colour, label=label)
    axis.set_xticks(place, [f"{row.name}\nn = {row.support}" for row in per_class])
    axis.tick_params(axis="x", length=0)
    axis.set_ylim(0, 1)
    axis.grid(visible=True, axis="y")
    figure.legend(*axis.get_legend_handles_labels(), loc="upper right", ncols=3)
    axis.set_title("Precision, recall and F1 per expression")
    return figure


@styled
def draw_reliability(calibration: Calibration) -> Figure:
    """Draws accuracy beside stated confidence by bins, above the number of faces in each."""
    figure, (diagram, histogram) = make_axes(1, 2, (8.2, 3.4), margins=(0.6, 0.1, 0.35, 0.5), gap=0.7)
    bins = [row for row in calibration.bins if row.faces]
    centres = [(row.low + row.high) / 2 for row in bins]
    width = 0.9 * (bins[0].high - bins[0].low)
    diagram.bar(centres, [row.accuracy or 0.0 for row in bins], width=width, color=MODEL, label="right")
    stated = [row.confidence or 0.0 for row in bins]
    mark: dict[str, Any] = {"linestyle": "", "marker": "_", "markersize": 13, "markeredgewidth": 2}
    diagram.plot(centres, stated, color=OTHER, label="stated", **mark)
    diagram.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of the faces")
    diagram.set_title("Share that is right, and share stated")
    diagram.legend(loc="upper left")
    histogram.bar(centres, [row.faces for row in bins], width=width, color=FLOOR)
    histogram.set(xlim=(0, 1), ylabel="faces")
    histogram.set_title("Faces")
    for axis in (diagram, histogram):
        axis.set_xlabel("probability of the likeliest expression")
        axis.grid(visible=True, axis="y")
    return figure


@styled
def draw_coverage(predictions: Predictions, labels: Labels, calibration: Calibration) -> Figure:
    """Draws how many answers are right among those that are kept, from the surest face to all, and the threshold."""
    figure, (axis,) = make_axes(1, 1, (8.2, 3.4), margins=(0.6, 0.1, 0.35, 0.5))
    rows = labels.has_expression
    scaled = scale(predictions.probabilities[rows], calibration.temperature)
    _, kept, accuracy = trace_coverage(scaled, labels.expression[rows])
    axis.plot(kept, accuracy, color=MODEL)
    axis.axhline(KEPT_RIGHT, color=INK, linewidth=1, linestyle=":")
    if calibration.kept_right is not None:
        label = f"unsure below {calibration.unsure_below:.2f}"
        axis.plot([calibration.kept], [calibration.kept_right], color=OTHER, marker="o", linestyle="", label=label)
        axis.legend(loc="lower left")
    axis.set(xlim=(0, 1), ylim=(min(accuracy[-1], KEPT_RIGHT) - 0.05, 1.005))
    axis.set(xlabel="share of the faces that is kept", ylabel="share of these that is right")
    axis.set_title("Coverage against accuracy: unsure answers are left out")
    axis.grid(visible=True)
    return figure


def _title(name: str) -> str:
    words = name.replace("_", " ")
    for short in ("rmse", "ccc", "auc", "f1"):
        words = words.replace(short, short.upper())
    return words[:1].upper() + words[1:]
