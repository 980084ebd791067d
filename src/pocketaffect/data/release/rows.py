"""The table that every layout is read into: one row an image, a few hundred bytes each, built a block at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS, NO_VA_CODE, VALENCE_AROUSAL

LABEL_COLUMNS: Final = ("expression", *VALENCE_AROUSAL)
NUMBER_COLUMNS: Final = (*BOX_COLUMNS, *LABEL_COLUMNS)
LANDMARK_NUMBERS: Final = 136
"""x and y of the 68 points of the iBUG scheme, in turn."""

EYE_NUMBERS: Final = range(72, 96)
"""Points 36..41 and 42..47: the eye on the image's left, then the one on its right, six points each."""

NO_LANDMARK: Final = -2.0
"""Number in place of all landmarks where the 8-label release has none."""

MAX_SHOWN: Final = 80
"""Characters kept of a cell that holds no number."""

ROW_COLUMNS: Final = (
    "list",
    "line",
    "split",
    "path",
    "listed_path",
    *BOX_COLUMNS,
    "box_given",
    *LABEL_COLUMNS,
    "unread",
    "landmark_count",
    *EYE_COLUMNS,
    "identity",
)


@dataclass(frozen=True)
class ListSummary:
    """What a list of annotations turned out to be."""

    name: str
    header: bool
    rows: int
    unsplit: int
    identity: str
    """Name of the column that says who is pictured, or an empty string."""


class RowTable:
    """Collects blocks of rows and turns them into one table without holding them twice."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, str, int]] = []
        self._columns: dict[str, list[pa.Array]] = {}

    def add(self, list_name: str, split: str, columns: Mapping[str, object]) -> None:
        """Adds a block: arrays of one length for all ROW_COLUMNS but `list` and `split`."""
        arrays = {
            name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()
        }
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) != 1 or arrays.keys() != set(ROW_COLUMNS) - {"list", "split"}:
            raise ValueError(f"a block of lengths {lengths} with columns {sorted(arrays)}")
        self._blocks.append((list_name, split, lengths.pop()))
        for name, array in arrays.items():
            self._columns.setdefault(name, []).append(array)

    def __len__(self) -> int:
        return sum(length for _, _, length in self._blocks)

    def to_columns(self) -> dict[str, Any]:
        """Gives all rows as ROW_COLUMNS for a data frame. The blocks are given up as their columns are joined."""
        lengths = [length for _, _, length in self._blocks]
        columns: dict[str, Any] = {}
        for name in ROW_COLUMNS:
            if name in ("list", "split"):
                names = [block[0 if name == "list" else 1] for block in self._blocks]
                kinds = list(dict.fromkeys(names))
                codes = np.repeat(np.array([kinds.index(kind) for kind in names], dtype=np.int8), lengths)
                columns[name] = pd.Categorical.from_codes(codes.tolist(), dtype=pd.CategoricalDtype(kinds))
                continue
            blocks = self._columns.pop(name, [])
            if name in ("path", "listed_path", "unread", "identity"):
                columns[name] = join_strings(blocks)
            else:
                columns[name] = pa.chunked_array(blocks).to_numpy() if blocks else np.empty(0)
        return columns


def label_rows(
    lines: npt.NDArray[np.int64],
    paths: Sequence[str] | pd.Series[str],
    expression: npt.NDArray[np.float64],
    affect: npt.NDArray[np.float64] | None = None,
) -> dict[str, object]:
    """Makes a block of n rows that have labels and nothing else: no box, no landmarks, no identity.

    Lines are int64 [n], expressions float64 [n] in AffectNet's codes, `affect` float64 [n, 2]: valence and arousal,
    none where nobody annotated them. Paths are those of the images below the data folder.
    """
    none = np.full(len(lines), np.nan)
    if affect is None:
        affect = np.full((len(lines), 2), NO_VA_CODE)
    text = pa.array(paths, pa.string())
    return {
        "line": lines,
        "path": text,
        "listed_path": text,
        **dict.fromkeys(BOX_COLUMNS, none),
        "box_given": np.zeros(len(lines), dtype=bool),
        "expression": expression,
        **{name: affect[:, place].copy() for place, name in enumerate(VALENCE_AROUSAL)},
        "unread": pa.repeat("", len(lines)),
        "landmark_count": np.zeros(len(lines), dtype=np.int32),
        **dict.fromkeys(EYE_COLUMNS, none.astype(np.float32)),
        "identity": pa.repeat("", len(lines)),
    }


def join_strings(blocks: Sequence[pa.Array]) -> pd.api.extensions.ExtensionArray:
    """Joins Arrow strings to one pandas array of dtype `str`."""
    joined = pa.chunked_array([block.cast(pa.large_string()) for block in blocks], pa.large_string())
    text: pd.Series[str] = joined.combine_chunks().to_pandas().astype("str")
    return text.array


def describe_unread(length: int, cells: Sequence[tuple[str, npt.NDArray[np.int64], Sequence[str]]]) -> pa.Array:
    """Writes the column `unread` for `length` rows: what stands in number cells that hold no finite number.

    `cells` has each number column's name, its rows without a number, and what to say of each.

    Returns:
        Strings, "" for a row that is all numbers, else as `valence 'abc', arousal ''`.
    """
    if not any(len(found) for _, _, found in cells):
        return pa.repeat("", length)
    said: dict[int, list[str]] = {}
    for name, rows, found in cells:
        for row, what in zip(rows.tolist(), found, strict=True):
            said.setdefault(row, []).append(f"{name} {what}")
    return pa.array([", ".join(said[row]) if row in said else "" for row in range(length)], pa.string())


def reduce_landmarks(
    values: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Counts each row's landmark numbers and finds the centres of its eyes.

    Row i has `values[offsets[i]:offsets[i + 1]]`, NaN where something else than a number stands.

    Returns:
        Counts [n] (0 none, -1 where one is no finite number) and EYE_COLUMNS [n, 4] in pixels, NaN unless there
        are exactly LANDMARK_NUMBERS.
    """
    counts = np.diff(offsets).astype(np.int32)
    unread = np.flatnonzero(~np.isfinite(values))
    counts[np.searchsorted(offsets, unread, side="right") - 1] = -1
    eyes = np.full((len(counts), 4), np.nan, dtype=np.float32)
    full = np.flatnonzero(counts == LANDMARK_NUMBERS)
    absent = full[(values[offsets[full]] == NO_LANDMARK) & (values[offsets[full] + 1] == NO_LANDMARK)]
    for row in absent.tolist():
        if (values[offsets[row] : offsets[row + 1]] == NO_LANDMARK).all():
            counts[row] = 0
    full = full[counts[full] == LANDMARK_NUMBERS]
    points = values[offsets[full, None] + np.arange(EYE_NUMBERS.start, EYE_NUMBERS.stop)]
    eyes[full] = points.reshape(-1, 2, 6, 2).mean(axis=2).reshape(-1, 4)
    return counts, eyes
