"""The columns that the rules of `rules` look at, and what is said of a row that breaks one.

Everything is computed for all rows at once: at a million rows a Python loop takes longer than all rules together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.data.contract.rules import VA_REGIONS
from pocketaffect.data.release.rows import BOX_COLUMNS
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, NO_VA_CODE, SOFT_COLUMNS, VALENCE_AROUSAL

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from pocketaffect.data.faces.probe import Probes

    Positions = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.int8]

PATH_PROBLEMS: Final = ("", "path without a file name", "path leaves the data folder", "path holds a NUL byte")
"""A list from elsewhere must not make us read other files; the same goes for paths in Windows' spelling."""
_PATH_PATTERNS: Final = (r"(^|[/\\])[.?]?$", r"^[/\\]|(^|[/\\])\.\.([/\\]|$)|^(?s:.):", r"\x00")
MAX_VALUE: Final = 300
"""Characters kept of what is said of a row."""
_CHUNK: Final = 1 << 16


class Evidence:
    """What is known of each row, by its position in the table that was read.

    Args:
        rows: As `layouts.read_annotations` gives them.
        probes: One entry for each of `rows`.
        has_votes: Whether any row has a soft label.
    """

    def __init__(self, rows: pd.DataFrame, probes: Probes, *, has_votes: bool) -> None:
        import numpy as np
        import pyarrow as pa

        self.rows = rows
        self.has_votes = has_votes
        self.problem: pa.Array = pa.array(probes.problem, pa.large_string())
        self.width, self.height = np.asarray(probes.width), np.asarray(probes.height)
        if not len(self.problem) == len(self.width) == len(self.height) == len(rows):
            raise ValueError(f"{len(rows)} rows, but {len(self.problem)} probes")
        self.path_problem = find_path_problems(strings(rows["listed_path"]))
        self.is_validation: npt.NDArray[np.bool_] = (rows["split"] == "validation").to_numpy(dtype=bool)
        self.has_va: npt.NDArray[np.bool_] = ~(
            (self.number("valence") == NO_VA_CODE) & (self.number("arousal") == NO_VA_CODE)
        )
        self.other: Positions = np.full(len(rows), -1, dtype=np.int64)
        """The row that a row repeats, and so the reason why it leaves."""
        self.distance: npt.NDArray[np.int16] = np.zeros(len(rows), dtype=np.int16)

    def __len__(self) -> int:
        return len(self.rows)

    def number(self, name: str) -> npt.NDArray[np.float64]:
        """A column of the rows, NaN where it holds no number."""
        values: npt.NDArray[np.float64] = self.rows[name].to_numpy(dtype="float64")
        return values

    def row_columns(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of the rules that look at one row and its image, for all rows."""
        import numpy as np
        import pyarrow.compute as pc

        found = pc.not_equal(self.problem, "").to_numpy(zero_copy_only=False)
        side = np.minimum(self.width, self.height).astype(np.float64)
        expression = self.number("expression")
        return {
            "path_problem": self.path_problem,
            "image_problem": (found & (self.path_problem == 0)).astype(np.int8),  # the others were never opened
            "image_side": np.where(found, np.nan, side),
            "box_overlap": self._box_overlap(found),
            "landmark_count": self.rows["landmark_count"].to_numpy(),
            # No number breaks the rules too, but NaN is what they do not ask about.
            "expression": np.where(np.isnan(expression), NO_EXPRESSION, expression),
            **{name: self._affect(name) for name in VALENCE_AROUSAL},
        }

    def _affect(self, name: str) -> npt.NDArray[np.float64]:
        """Valence or arousal; infinite where it is no number, NaN where nobody annotated it."""
        import numpy as np

        values = self.number(name)
        return np.where(self.has_va, np.where(np.isnan(values), np.inf, values), np.nan)

    def _box_overlap(self, unread: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Share of the box that lies on the image; NaN where no box or no image is there, 0 where it is no box."""
        import numpy as np

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

    def path_columns(self, alive: Positions) -> dict[str, npt.NDArray[Any]]:
        """Whether a path was listed before in its split, and whether validation lists it too."""
        import numpy as np
        import pandas as pd

        codes = _encode(strings(self.rows["path"]), alive)
        is_validation = self.is_validation[alive]
        repeated: npt.NDArray[np.bool_] = pd.Series(codes * 2 + is_validation).duplicated().to_numpy()
        first = np.full((2, int(codes.max(initial=-1)) + 1), -1, dtype=np.int64)
        firsts = np.flatnonzero(~repeated)
        first[is_validation[firsts].astype(np.int8), codes[firsts]] = alive[firsts]
        held = (first[1, codes] >= 0) & ~is_validation
        self.other[alive[repeated]] = first[is_validation[repeated].astype(np.int8), codes[repeated]]
        self.other[alive[held]] = first[1, codes[held]]
        return {"repeated": repeated.astype(np.int8), "held_by_validation": held.astype(np.int8)}

    def label_columns(self, alive: Positions) -> dict[str, npt.NDArray[Any]]:
        """The expression's code, and whether there is anything to learn from."""
        import numpy as np

        expression = self.number("expression")[alive]
        has_label = (expression < len(EXPRESSIONS)) | self.has_va[alive]
        if self.has_votes:
            has_label |= np.isfinite(self.rows[SOFT_COLUMNS[0]].to_numpy()[alive])
        return {"expression": expression, "has_label": has_label.astype(np.int8)}

    def identity_columns(self, alive: Positions) -> dict[str, npt.NDArray[Any]]:
        """Which training rows show a person whom validation holds."""
        import numpy as np

        identity: pd.Series[str] = self.rows["identity"].iloc[alive]
        is_validation = self.is_validation[alive]
        held = identity[is_validation & (identity != "").to_numpy(dtype=bool)].unique()
        shared = identity.isin(held).to_numpy(dtype=bool) & ~is_validation
        return {"identity_in_validation": shared.astype(np.int8)}

    def leak_columns(self, alive: Positions, pairs: Positions, distances: Positions) -> dict[str, npt.NDArray[Any]]:
        """Which training rows show a face that validation holds.

        Args:
            alive: Positions of the rows that are left.
            pairs: [m, 2] near-duplicates, as places in `alive`.
            distances: [m].
        """
        import numpy as np

        is_validation = self.is_validation[alive]
        across = is_validation[pairs[:, 0]] != is_validation[pairs[:, 1]]
        pairs, distances = pairs[across], distances[across]
        swap = is_validation[pairs[:, 0]]
        train, validation = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
        twin = np.zeros(len(alive), dtype=np.int8)
        twin[train] = 1
        nearest_last = np.lexsort((-validation, -distances))  # of several values for one place, numpy keeps the last
        self.other[alive[train[nearest_last]]] = alive[validation[nearest_last]]
        self.distance[alive[train[nearest_last]]] = distances[nearest_last]
        return {"validation_twin": twin}

    def doubt_columns(self, alive: Positions) -> dict[str, npt.NDArray[Any]]:
        """How far valence or arousal lies outside the region of the row's expression; NaN where one is missing."""
        import numpy as np

        excess = np.full(len(alive), np.nan)
        expression = self.number("expression")[alive]
        valence, arousal = (self.number(name)[alive] for name in VALENCE_AROUSAL)
        for code, name in enumerate(EXPRESSIONS):
            chosen = np.flatnonzero((expression == code) & self.has_va[alive])
            excess[chosen] = VA_REGIONS[name].excess(valence[chosen], arousal[chosen])
        return {"va_excess": excess}

    def describe(self, rule: str, positions: Positions) -> pa.Array:
        """What is said of rows that break a rule: the values that break it."""
        import pyarrow.compute as pc

        text = _DESCRIPTIONS[rule](self, positions)
        return pc.utf8_slice_codeunits(text, 0, MAX_VALUE)

    def _numbers(self, names: Sequence[str], positions: Positions) -> pa.Array:
        """`valence 1.5, arousal 0.1`, with what stood in cells that hold no number."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

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
        import pyarrow as pa

        problem = pa.array(PATH_PROBLEMS, pa.large_string()).take(pa.array(self.path_problem[positions]))
        return _join(problem, ": ", strings(self.rows["listed_path"]).take(pa.array(positions)))

    def _other_line(self, positions: Positions) -> pa.Array:
        other = self.other[positions]
        return _join(
            "also ", self.rows["list"].iloc[other].astype("str"), " line ", self.rows["line"].to_numpy()[other]
        )

    def _other_path(self, positions: Positions) -> pa.Array:
        path = self.rows["path"].iloc[self.other[positions]]
        return _join(path, ", ", self.distance[positions], " bits apart")

    def _column(self, name: str, positions: Positions) -> pa.Array:
        return _join(f"{name} ", self.rows[name].iloc[positions])

    def _landmarks(self, positions: Positions) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

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
    "identity_in_validation": lambda found, rows: found._column("identity", rows),
}


def find_path_problems(listed: pa.Array) -> Flags:
    """For each path as it is listed, where in PATH_PROBLEMS it stands; 0 for a sound one."""
    import numpy as np
    import pyarrow.compute as pc

    problem = np.zeros(len(listed), dtype=np.int8)
    for code, pattern in enumerate(_PATH_PATTERNS, start=1):
        problem[pc.match_substring_regex(listed, pattern).to_numpy(zero_copy_only=False)] = code
    return problem


def strings(column: pd.Series[str]) -> pa.Array:
    """A `str` column as one Arrow array, without a copy where pandas holds one."""
    import pyarrow as pa

    found = pa.array(column, pa.large_string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _encode(texts: pa.Array, positions: Positions) -> Positions:
    """Gives each text at `positions` the place of the first one that equals it.

    Arrow's own dictionary would hold every text once more; a hash of each does not, and only texts that share one
    have to be compared.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

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
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    columns = [pa.scalar(part, text) if isinstance(part, str) else pc.cast(pa.array(part), text) for part in parts]
    return pc.binary_join_element_wise(*columns, pa.scalar(separator, text), null_handling="skip")
