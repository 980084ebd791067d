"""The columns that the rules of `rules` look at, and what is said of a row that breaks one.

Everything is computed for all rows at once: at a million rows a Python loop takes longer than all rules together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.contract.rules import PATH_PROBLEMS, STEPS, Step
from pocketaffect.data.faces.probe import Probes
from pocketaffect.labels import BOX_COLUMNS, NO_VA_CODE, SOFT_COLUMNS, VALENCE_AROUSAL

Positions = npt.NDArray[np.int64]

MAX_VALUE: Final = 300
"""Characters kept of what is said of a row."""
_CHUNK: Final = 1 << 16


class Evidence:
    """What is known of each row, by its position in the table that was read.

    Attributes:
        table: The columns that the suite looks at, all rows long; missing where a rule does not ask about the row.
        other: The row that a row repeats, and so the reason why it leaves; -1 for none.
        distance: Number of bits in which the two rows' hashes differ.
    """

    def __init__(self, rows: pd.DataFrame, probes: Probes, *, has_votes: bool) -> None:
        self.rows = rows
        self.problem: pa.Array = pa.array(probes.problem, pa.large_string())
        self.width, self.height = np.asarray(probes.width), np.asarray(probes.height)
        if not len(self.problem) == len(self.width) == len(self.height) == len(rows):
            raise ValueError(f"{len(rows)} rows, but {len(self.problem)} probes")
        self.is_validation: npt.NDArray[np.bool_] = (rows["split"] == "validation").to_numpy(dtype=bool)
        self.has_va: npt.NDArray[np.bool_] = ~(
            (self.number("valence") == NO_VA_CODE) & (self.number("arousal") == NO_VA_CODE)
        )
        self.other: Positions = np.full(len(rows), -1, dtype=np.int64)
        self.distance: npt.NDArray[np.int16] = np.zeros(len(rows), dtype=np.int16)
        unread = pc.not_equal(self.problem, "").to_numpy(zero_copy_only=False)
        self.table = pd.DataFrame(
            {
                "list": rows["list"],
                "line": rows["line"],
                "listed_path": rows["listed_path"],
                "image_problem": self._image_problem(np.flatnonzero(unread)),
                "image_width": np.where(unread, np.nan, self.width),
                "image_height": np.where(unread, np.nan, self.height),
                "box_overlap": self._box_overlap(unread),
                "landmark_count": rows["landmark_count"],
                "expression": rows["expression"],
                **{name: self._affect(name) for name in VALENCE_AROUSAL},
                "votes": rows[SOFT_COLUMNS[0]] if has_votes else np.nan,
                "step": np.zeros(len(rows), dtype=np.int8),
            },
            copy=False,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def number(self, name: str) -> npt.NDArray[np.float64]:
        """Reads a column of the rows, NaN where it holds no number."""
        values: npt.NDArray[np.float64] = self.rows[name].to_numpy(dtype="float64")
        return values

    def enter(self, step: Step, alive: Positions, **columns: npt.NDArray[Any]) -> None:
        """Notes which rows came to a step, and columns that only they have."""
        self.table.loc[alive, "step"] = STEPS.index(step)
        for name, values in columns.items():
            whole = np.full(len(self), np.nan)
            whole[alive] = values
            self.table[name] = whole

    def _image_problem(self, unread: Positions) -> pd.Series[str]:
        """Says what is wrong with an image; missing for a sound one, and for a path that must not be opened."""
        listed = strings(self.rows["listed_path"]).take(pa.array(unread))
        opened = unread[~pc.match_substring_regex(listed, "|".join(PATH_PROBLEMS.values())).to_numpy(False)]
        told = np.ones(len(self), dtype=bool)
        told[opened] = False
        text: pd.Series[str] = pc.if_else(pa.array(told), pa.scalar(None, pa.large_string()), self.problem).to_pandas()
        return text.astype("str")

    def _affect(self, name: str) -> npt.NDArray[np.float64]:
        """Reads valence or arousal; infinite where it is no number, NaN where nobody annotated it."""
        values = self.number(name)
        return np.where(self.has_va, np.where(np.isnan(values), np.inf, values), np.nan)

    def _box_overlap(self, unread: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Computes the share of a box that lies on the image; NaN without box or image, 0 where it is no box."""
        x, y, width, height = (self.number(name) for name in BOX_COLUMNS)
        with np.errstate(invalid="ignore", over="ignore"):
            is_box = np.isfinite(x) & np.isfinite(y) & np.isfinite(width) & np.isfinite(height)
            is_box &= (width > 0) & (height > 0)
            share = np.ones(len(self))
            for corner, side, image in ((x, width, self.width), (y, height, self.height)):
                shared = np.minimum(corner + side, image) - np.maximum(corner, 0)
                share *= np.clip(shared, 0, None) / side
        share[unread] = np.nan
        share[~is_box] = 0.0
        share[~self.rows["box_given"].to_numpy(dtype=bool)] = np.nan
        return share

    def enter_path(self, alive: Positions) -> None:
        """Finds which paths were listed before in their split, and which ones validation lists too."""
        codes = _encode(strings(self.rows["path"]), alive)
        is_validation = self.is_validation[alive]
        repeated: npt.NDArray[np.bool_] = pd.Series(codes * 2 + is_validation).duplicated().to_numpy()
        first = np.full((2, int(codes.max(initial=-1)) + 1), -1, dtype=np.int64)
        firsts = np.flatnonzero(~repeated)
        first[is_validation[firsts].astype(np.int8), codes[firsts]] = alive[firsts]
        held = (first[1, codes] >= 0) & ~is_validation
        self.other[alive[repeated]] = first[is_validation[repeated].astype(np.int8), codes[repeated]]
        self.other[alive[held]] = first[1, codes[held]]
        self.enter("path", alive, repeated=repeated, held_by_validation=held)

    def enter_identity(self, alive: Positions) -> None:
        """Finds the training rows that show a person whom validation holds."""
        identity: pd.Series[str] = self.rows["identity"].iloc[alive]
        is_validation = self.is_validation[alive]
        held = identity[is_validation & (identity != "").to_numpy(dtype=bool)].unique()
        shared = identity.isin(held).to_numpy(dtype=bool) & ~is_validation
        self.enter("identity", alive, identity_in_validation=shared)

    def enter_leak(self, alive: Positions, pairs: Positions, distances: Positions) -> None:
        """Finds the training rows that show a face that validation holds; `pairs` [m, 2] are places in `alive`."""
        is_validation = self.is_validation[alive]
        across = is_validation[pairs[:, 0]] != is_validation[pairs[:, 1]]
        pairs, distances = pairs[across], distances[across]
        swap = is_validation[pairs[:, 0]]
        train, validation = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
        twin = np.zeros(len(alive), dtype=bool)
        twin[train] = True
        nearest_last = np.lexsort((-validation, -distances))  # of several values for one place, numpy keeps the last
        self.other[alive[train[nearest_last]]] = alive[validation[nearest_last]]
        self.distance[alive[train[nearest_last]]] = distances[nearest_last]
        self.enter("leak", alive, validation_twin=twin)

    def describe(self, rule: str, positions: Positions) -> pa.Array:
        """Says of rows that break a rule which values break it."""
        text = _DESCRIPTIONS[rule](self, positions)
        return pc.utf8_slice_codeunits(text, 0, MAX_VALUE)

    def _numbers(self, names: Sequence[str], positions: Positions) -> pa.Array:
        """Writes `valence 1.5, arousal 0.1`, with what stood in cells that hold no number."""
        parts, missing = [], np.zeros(len(positions), dtype=bool)
        for name in names:
            values = self.number(name)[positions]
            unread = np.isnan(values)
            named = _join(f"{name} ", values).to_numpy(zero_copy_only=False)
            parts.append(pa.array(named, pa.large_string(), mask=unread))
            missing |= unread
        unread_text = strings(self.rows["unread"]).take(pa.array(positions))
        shown = pa.array(missing & pc.not_equal(unread_text, "").to_numpy(zero_copy_only=False))
        parts.append(pc.if_else(shown, unread_text, pa.scalar(None, pa.large_string())))
        return _join(*parts, separator=", ")

    def _size(self, positions: Positions) -> pa.Array:
        return _join(self.width[positions], " x ", self.height[positions], " pixels")

    def _box(self, positions: Positions) -> pa.Array:
        return _join(self._numbers(BOX_COLUMNS, positions), "; image ", self._size(positions))

    def _path(self, positions: Positions) -> pa.Array:
        listed = strings(self.rows["listed_path"]).take(pa.array(positions))
        return _join(find_path_problems(listed), ": ", listed)

    def _other_line(self, positions: Positions) -> pa.Array:
        other = self.other[positions]
        return _join(
            "also ", self.rows["list"].iloc[other].astype("str"), " line ", self.rows["line"].to_numpy()[other]
        )

    def _other_path(self, positions: Positions) -> pa.Array:
        path = self.rows["path"].iloc[self.other[positions]]
        return _join(path, ", ", self.distance[positions], " bits apart")

    def _landmarks(self, positions: Positions) -> pa.Array:
        counts = pa.array(self.rows["landmark_count"].to_numpy()[positions])
        text = _join(counts, " numbers")
        return pc.if_else(pc.less(counts, 0), "a value that is no finite number", text)


_DESCRIPTIONS: Final[Mapping[str, Callable[[Evidence, Positions], pa.Array]]] = {
    "path_inside_folder": Evidence._path,
    "image_readable": lambda found, rows: found.problem.take(rows),
    "image_large_enough": Evidence._size,
    "box_on_image": Evidence._box,
    "landmarks_complete": Evidence._landmarks,
    "expression_known": lambda found, rows: found._numbers(("expression",), rows),
    "valence_in_range": lambda found, rows: found._numbers(VALENCE_AROUSAL, rows),
    "arousal_in_range": lambda found, rows: found._numbers(VALENCE_AROUSAL, rows),
    "path_in_one_split": Evidence._other_line,
    "path_unique": Evidence._other_line,
    "non_face": lambda found, rows: found._numbers(("expression",), rows),
    "no_label": lambda found, rows: found._numbers(("expression", *VALENCE_AROUSAL), rows),
    "near_duplicate_of_validation": Evidence._other_path,
    "identity_in_validation": lambda found, rows: _join("identity ", found.rows["identity"].iloc[rows]),
}


def find_path_problems(listed: pa.Array) -> pa.Array:
    """Says why each path must not be opened; an empty string for a sound one."""
    problem = pa.array([""] * len(listed), pa.large_string())
    for text, pattern in PATH_PROBLEMS.items():
        problem = pc.if_else(pc.match_substring_regex(listed, pattern), text, problem)
    return problem


def strings(column: pd.Series[str]) -> pa.Array:
    """Gives a `str` column as one Arrow array, without a copy where pandas holds one."""
    found = pa.array(column, pa.large_string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _encode(texts: pa.Array, positions: Positions) -> Positions:
    """Gives each text at `positions` the place of the first one that equals it.

    Arrow's own dictionary would hold every text once more; a hash of each does not, and only texts that share one
    have to be compared.
    """
    hashes = np.empty(len(positions), dtype=np.uint64)
    for start in range(0, len(positions), _CHUNK):
        chunk = texts.take(pa.array(positions[start : start + _CHUNK])).to_numpy(zero_copy_only=False)
        hashes[start : start + _CHUNK] = pd.util.hash_array(chunk, categorize=False)
    shared = np.flatnonzero(pd.Series(hashes).duplicated(keep=False).to_numpy())
    del hashes
    codes = np.arange(len(positions), dtype=np.int64)
    equal = texts.take(pa.array(positions[shared])).dictionary_encode().indices.to_numpy()
    codes[shared] = shared[np.unique(equal, return_index=True)[1]][equal]
    return codes


def _join(*parts: Any, separator: str = "") -> pa.Array:
    """Joins texts and columns row by row; a null in a row is left out."""
    text = pa.large_string()
    columns = [pa.scalar(part, text) if isinstance(part, str) else pc.cast(pa.array(part), text) for part in parts]
    return pc.binary_join_element_wise(*columns, pa.scalar(separator, text), null_handling="skip")
