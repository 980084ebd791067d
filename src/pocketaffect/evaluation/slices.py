"""Metrics over parts of the faces: by expression, source list, size of the face and the contract's warnings."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pocketaffect.data.shards.split import INDEX_FILE
from pocketaffect.evaluation.intervals import wilson_interval
from pocketaffect.evaluation.metrics import ExpressionRows, ExpressionStatistics, valence_arousal_metrics
from pocketaffect.evaluation.tables import Labels, Predictions, check_same_rows
from pocketaffect.labels import EXPRESSIONS

FEW_FACES: Final = 50
"""A slice of fewer is marked: its accuracy is known to .14 at best."""

SIDE_EDGES: Final = (48, 96, 192, 384)
"""Pixels of the face box's shorter side; fixed, so that reports on different data can be compared."""

_SHOWN: Final = ("rmse_valence", "rmse_arousal", "ccc_valence", "ccc_arousal")

Groups = Mapping[str, Mapping[str, npt.NDArray[np.bool_]]]
"""Kind of slice -> name -> which faces, bool [n]. A face may lie in none or several of a kind."""


@dataclass(frozen=True)
class ClassRow:
    """One expression's row of the per-class table.

    Precision, recall and F1 are None for an expression without a row; precision is 0 where no row is predicted as it.
    The errors are mean absolute ones over its rows that have valence and arousal; None without any.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    error_valence: float | None
    error_arousal: float | None


@dataclass(frozen=True)
class Slice:
    """One part of the faces.

    `low` and `high` are Wilson's 95 % bounds of the accuracy over `expression_rows`. `from_class_mix` is the accuracy
    that the model's recall of each expression over all faces, and this slice's shares of the expressions, would give:
    what differs from it is not a matter of easy or hard classes. What no face of it has a label for is None.
    """

    kind: str
    name: str
    faces: int
    expression_rows: int
    accuracy: float | None
    low: float | None
    high: float | None
    from_class_mix: float | None
    rmse_valence: float | None
    rmse_arousal: float | None
    ccc_valence: float | None
    ccc_arousal: float | None

    @property
    def few(self) -> bool:
        """Whether there are too few faces to conclude from."""
        return min(self.faces, self.expression_rows or self.faces) < FEW_FACES


def class_rows(predictions: Predictions, labels: Labels) -> tuple[ClassRow, ...]:
    """Computes a row for each expression."""
    sums = _sum_up(predictions, labels)
    precision = sums.hits[0] / np.maximum(sums.predicted[0], 1)
    error = np.abs(predictions.valence_arousal.astype(np.float64) - labels.valence_arousal)
    table = []
    for index, name in enumerate(EXPRESSIONS):
        support = int(sums.true[0, index])
        figures = (precision[index], sums.recall[0, index], sums.f1[0, index]) if support else (None, None, None)
        rows = (labels.expression == index) & labels.has_valence_arousal
        affect = error[rows].mean(0) if rows.any() else (None, None)
        table.append(ClassRow(name, support, *(None if one is None else float(one) for one in (*figures, *affect))))
    return tuple(table)


def _sum_up(predictions: Predictions, labels: Labels) -> ExpressionStatistics:
    rows = labels.has_expression
    return ExpressionRows(predictions.probabilities[rows], labels.expression[rows]).statistics()


def read_groups(shards: Path, split: str) -> Groups:
    """Reads the groups of one split's faces, in its order, as the shards' index has them."""
    columns = ["list", "image_side", "warnings"]
    rows = pq.read_table(shards / INDEX_FILE, columns=columns, filters=[("split", "==", split)])
    return group_faces(rows["list"].to_pylist(), rows["image_side"].to_numpy(), rows["warnings"].to_pylist())


def group_faces(lists: Sequence[str], sides: npt.NDArray[np.number], warned: Sequence[str]) -> Groups:
    """Groups n faces by their source list, by their side in pixels and by the contract's warnings, comma-joined."""
    names = np.array(lists, dtype=object)
    bands = np.searchsorted(SIDE_EDGES, sides, side="right")
    warnings = [frozenset(filter(None, text.split(","))) for text in warned]
    named = sorted(frozenset[str]().union(*warnings))
    by_side = {name: bands == band for band, name in enumerate(_band_names())}
    return {
        "source list": {name: names == name for name in sorted(set(lists))},
        "face side": {name: mask for name, mask in by_side.items() if mask.any()},
        "contract warnings": {
            "none": np.array([not found for found in warnings], dtype=bool),
            **{name: np.array([name in found for found in warnings], dtype=bool) for name in named},
        },
    }


def _band_names() -> Sequence[str]:
    between = [f"{low} to {high - 1} px" for low, high in itertools.pairwise(SIDE_EDGES)]
    return [f"under {SIDE_EDGES[0]} px", *between, f"{SIDE_EDGES[-1]} px and more"]


def slice_metrics(predictions: Predictions, labels: Labels, groups: Groups) -> list[Slice]:
    """Computes the metrics of every group that has a face.

    Raises:
        PocketAffectError: Lengths differ.
    """
    check_same_rows(predictions, labels)
    recall = _sum_up(predictions, labels).recall[0]
    table = []
    for kind, members in groups.items():
        for name, mask in members.items():
            if mask.any():
                table.append(_slice(kind, name, predictions, labels, mask, recall))
    return table


def _slice(
    kind: str,
    name: str,
    predictions: Predictions,
    labels: Labels,
    mask: npt.NDArray[np.bool_],
    recall: npt.NDArray[np.float64],
) -> Slice:
    rows = mask & labels.has_expression
    count = int(rows.sum())
    accuracy = low = high = expected = None
    if count:
        hits = int((predictions.expression[rows] == labels.expression[rows]).sum())
        accuracy, (low, high) = hits / count, wilson_interval(hits, count)
        expected = float(recall[labels.expression[rows]].mean())
    affect = valence_arousal_metrics(predictions.valence_arousal[mask], labels.valence_arousal[mask])
    return Slice(
        kind, name, int(mask.sum()), count, accuracy, low, high, expected, *(affect.get(metric) for metric in _SHOWN)
    )
