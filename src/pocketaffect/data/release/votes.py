"""FER+ votes as soft labels: ten people's judgements of a face become a distribution over the eight expressions.

`ferplus_votes.csv` beside the lists has one line an image: its path as in the lists, then how many voted for each
expression, for "unknown" and for NF ("no face"), in FER+'s own order. See Barsoum et al. 2016, "Training deep networks
for facial expression recognition with crowd-sourced label distribution".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.release.delimited import Lines, parse_numbers, read_lines, split_cells, split_columns, tidy_paths
from pocketaffect.data.release.headers import check_header, match_header
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import (
    CLASS_MEAN_VA,
    EXPRESSIONS,
    NO_VA_CODE,
    NON_FACE_CODE,
    OTHER_EXPRESSIONS,
)

if TYPE_CHECKING:
    from pocketaffect.data.release.folder import DataFolder

VOTES_FILE: Final = "ferplus_votes.csv"
PATH_COLUMN: Final = "subDirectory_filePath"
VOTE_COLUMNS: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
UNCERTAIN_CODE: Final = len(EXPRESSIONS) + OTHER_EXPRESSIONS.index("uncertain")
_HEADER: Final = f"a header with {', '.join((PATH_COLUMN, *VOTE_COLUMNS))}"


@dataclass(frozen=True)
class Votes:
    """Who was judged how."""

    paths: pa.StringArray
    """[n] as the lists write them, tidied; each once."""
    shares: npt.NDArray[np.float32]
    """[n, 8] shares of the votes for EXPRESSIONS, in their order, sum 1; NaN where nobody chose one of them."""


@dataclass(frozen=True)
class VoteCounts:
    """How the votes fit the lists."""

    rows: int
    without_expression: int
    """Nobody voted for one of the eight expressions."""
    unlisted: int
    """Votes whose path is in no list."""
    labelled: int
    """Listed rows that have a soft label now."""


def read_votes(folder: DataFolder, path: str = VOTES_FILE) -> Votes:
    """Reads the votes.

    Raises:
        PocketAffectError: Columns missing, unknown or given twice, a line without them, a vote that is no number from
            0 up, a path given twice; each with its line.
    """
    name = f"{folder.root / path}"
    names: list[str] | None = None
    paths: list[pa.Array] = []
    numbers: list[npt.NDArray[np.int64]] = []
    votes: list[npt.NDArray[np.float64]] = []
    with folder.open_file(path) as stream:
        for lines in read_lines(stream, name):
            if names is None:
                names = _read_names(lines, name)
                lines = Lines(lines.numbers[1:], lines.text[1:])
            rows = split_columns(lines, names, names)
            if len(rows.unsplit.numbers):
                raise PocketAffectError(
                    f"{name}, line {rows.unsplit.numbers[0]}: not the {len(names)} columns",
                    found=repr(rows.unsplit.text[0].as_py()[:80]),
                    allowed=", ".join(names),
                )
            votes.append(
                np.stack([_read_column(rows.columns[vote], vote, rows.numbers, name) for vote in VOTE_COLUMNS], 1)
            )
            paths.append(tidy_paths(rows.columns[PATH_COLUMN]))
            numbers.append(rows.numbers)
    if names is None or not sum(map(len, paths)):
        raise PocketAffectError(
            f"{name}: no rows", found="an empty file" if names is None else "a header line alone", allowed=_HEADER
        )
    joined = pa.chunked_array(paths).combine_chunks()
    _refuse_repeated(joined, np.concatenate(numbers), name)
    return Votes(joined, _share(np.concatenate(votes)))


def find_soft_labels(
    votes: Votes, listed: pa.StringArray | pa.ChunkedArray
) -> tuple[npt.NDArray[np.float32], VoteCounts]:
    """Finds each listed row's soft label by its path.

    Returns:
        float32 [len(listed), 8], NaN where there is none; and how the votes fit.
    """
    place = pc.index_in(listed, value_set=votes.paths.cast(listed.type)).to_numpy(zero_copy_only=False)
    found = np.flatnonzero(~np.isnan(place))
    chosen = place[found].astype(np.int64)
    soft = np.full((len(listed), len(EXPRESSIONS)), np.nan, dtype=np.float32)
    soft[found] = votes.shares[chosen]
    counts = VoteCounts(
        rows=len(votes.paths),
        without_expression=int(np.isnan(votes.shares[:, 0]).sum()),
        unlisted=len(votes.paths) - len(np.unique(chosen)),
        labelled=int((~np.isnan(soft[:, 0])).sum()),
    )
    return soft, counts


def judge_votes(
    votes: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Labels faces by their votes alone, where no list says more.

    The class is the one of the eight that alone has most votes, "unknown" and NF counted among its rivals. Without
    such a class a face has no label at all: code 10, non-face, where NF alone has most, else 9, uncertain.

    Args:
        votes: float64 [n, 10], in VOTE_COLUMNS' order.

    Returns:
        expression: float64 [n], AffectNet's codes.
        soft: float32 [n, 8], shares of the votes for EXPRESSIONS; NaN for no label.
        valence_arousal: float64 [n, 2], derived: the classes' means (`labels.CLASS_MEAN_VA`) averaged under these
            shares; -2 for no label.
    """
    ahead = votes == votes.max(axis=1, keepdims=True)
    first = np.where(ahead.sum(axis=1) == 1, ahead.argmax(axis=1), VOTE_COLUMNS.index("unknown"))
    codes = [*map(EXPRESSIONS.index, VOTE_COLUMNS[: len(EXPRESSIONS)]), UNCERTAIN_CODE, NON_FACE_CODE]
    expression = np.array(codes, dtype=np.float64)[first]
    clear = (expression < len(EXPRESSIONS))[:, None]
    soft = np.where(clear, _share(votes), np.float32(np.nan)).astype(np.float32)
    means = soft[:, :, None].astype(np.float64) * np.array(CLASS_MEAN_VA)
    affect = np.where(clear, means.sum(axis=1), NO_VA_CODE)
    return expression, soft, affect


def _read_names(lines: Lines, name: str) -> list[str]:
    first = lines.text[0].as_py()
    known = (PATH_COLUMN, *VOTE_COLUMNS)
    names = match_header(split_cells(first), known)
    if names is None:
        raise PocketAffectError(
            f"{name}, line {lines.numbers[0]}: no header line", found=repr(first[:80]), allowed=_HEADER
        )
    check_header(names, known, f"{name}, line {lines.numbers[0]}", others=False)
    return names


def _read_column(text: pa.StringArray, column: str, lines: npt.NDArray[np.int64], name: str) -> npt.NDArray[np.float64]:
    values = parse_numbers(text)
    wrong = np.flatnonzero(~(values >= 0))
    if len(wrong):
        raise PocketAffectError(
            f"{name}, line {lines[wrong[0]]}: {column} is no count of votes",
            found=repr(text[int(wrong[0])].as_py()[:80]) + (f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""),
            allowed="a number, 0 or more",
        )
    return values


def _refuse_repeated(paths: pa.StringArray, lines: npt.NDArray[np.int64], name: str) -> None:
    first = np.asarray(pc.index_in(paths, value_set=pc.unique(paths)).to_numpy(), dtype=np.int64)
    _, starts, counts = np.unique(first, return_index=True, return_counts=True)
    if (counts > 1).any():
        start = int(starts[counts > 1].min())
        same = lines[first == first[start]]
        raise PocketAffectError(
            f"{name}, line {same[1]}: path given twice",
            found=f"{paths[start].as_py()[:200]!r}, also in line {same[0]}"
            + (f" ({int((counts > 1).sum())} such paths)" if (counts > 1).sum() > 1 else ""),
            allowed="each path once",
        )


def _share(votes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Turns float64 [n, 10] votes in FER+'s order into float32 [n, 8] shares in EXPRESSIONS' order."""
    chosen = votes[:, [VOTE_COLUMNS.index(expression) for expression in EXPRESSIONS]]
    largest = chosen.max(axis=1, keepdims=True)
    chosen = chosen / np.where(largest > 0, largest, np.nan)  # so that no sum overflows
    shares: npt.NDArray[np.float32] = (chosen / chosen.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
