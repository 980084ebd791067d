"""FER+ votes as soft labels: ten people's judgements of a face become a distribution over the eight expressions.

`ferplus_votes.csv` beside the lists has one line an image: its path as in the lists, then how many voted for each
expression, for "unknown" and for NF ("no face"), in FER+'s own order. See Barsoum et al. 2016, "Training deep networks
for facial expression recognition with crowd-sourced label distribution".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.release.delimited import check_header, match_header, tidy_paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, NO_VA_CODE, NON_FACE_CODE, OTHER_EXPRESSIONS

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
    file = folder.root / path
    with folder.open_file(path) as stream:
        faces = name_columns(read_cells(stream, file), (PATH_COLUMN, *VOTE_COLUMNS), file, others=False)
    if faces.empty:
        raise PocketAffectError(f"{file}: no rows", found="a header line alone", allowed="a row for each image")
    paths = tidy_paths(pa.array(faces[PATH_COLUMN], pa.string()))
    again = pd.Series(paths.to_pylist(), faces.index).duplicated(keep=False)
    if again.any():
        first = faces.index[again][0]
        same = faces.index[pc.equal(paths, paths[faces.index.get_loc(first)]).to_numpy(zero_copy_only=False)]
        raise PocketAffectError(
            f"{file}, line {same[1]}: path given twice",
            found=f"{faces.loc[first, PATH_COLUMN][:200]!r}, also in line {first}",
            allowed="each path once",
        )
    return Votes(paths, _share(count_votes(faces, file)))


def read_cells(stream: BinaryIO, file: Path) -> pd.DataFrame:
    """Reads a table's cells as texts, by line; lines of nothing but separators are left out, short ones filled up.

    Raises:
        PocketAffectError: It is empty or no CSV, or a line has more cells than the first.
    """
    try:
        cells = pd.read_csv(
            stream,
            header=None,
            dtype="str",
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
            encoding_errors="backslashreplace",
        )
    except pd.errors.EmptyDataError:
        cells = pd.DataFrame()
    except ValueError as error:
        raise PocketAffectError(f"{file}: not readable as CSV", found=" ".join(str(error).split())) from None
    cells = pd.DataFrame({name: cells[name].str.strip() for name in cells}).set_axis(cells.index + 1)
    cells = cells[(cells != "").any(axis=1)]
    if cells.empty:
        raise PocketAffectError(f"{file}: no rows", found="an empty file", allowed="a row for each image")
    return cells


def name_columns(cells: pd.DataFrame, wanted: Sequence[str], file: Path, *, others: bool = True) -> pd.DataFrame:
    """Takes the first line of `read_cells` as the header, and gives the columns that are `wanted`.

    `others` tells whether more columns may be there.

    Raises:
        PocketAffectError: No header line, or none with these columns.
    """
    first = [cell.strip('"') for cell in cells.iloc[0]]
    where = f"{file}, line {cells.index[0]}"
    names = match_header(first, wanted)
    if names is None:
        raise PocketAffectError(
            f"{where}: no header line", found=repr(",".join(first)[:80]), allowed=f"a header with {', '.join(wanted)}"
        )
    check_header(names, wanted, where, others=others)
    return cells.iloc[1:].set_axis(names, axis="columns")[list(wanted)]


def count_votes(faces: pd.DataFrame, file: Path) -> npt.NDArray[np.float64]:
    """Reads the columns VOTE_COLUMNS as numbers: float64 [n, 10].

    Raises:
        PocketAffectError: One is no number from 0 up.
    """
    votes = np.stack([pd.to_numeric(faces[vote], errors="coerce").to_numpy(np.float64) for vote in VOTE_COLUMNS], 1)
    if not (sound := (votes >= 0) & np.isfinite(votes)).all():
        row, column = np.argwhere(~sound)[0].tolist()
        more = int((~sound).any(axis=1).sum())
        raise PocketAffectError(
            f"{file}, line {faces.index[row]}: {VOTE_COLUMNS[column]} is no count of votes",
            found=repr(faces[VOTE_COLUMNS[column]].iloc[row][:80]) + (f" ({more} such rows)" if more > 1 else ""),
            allowed="a number, 0 or more",
        )
    return votes


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
    """Labels faces by their votes alone, float64 [n, 10] in VOTE_COLUMNS' order, where no list says more.

    The class is the one of the eight that alone has most votes, "unknown" and NF counted among its rivals. Without
    such a class a face has no label at all: code 10, non-face, where NF alone has most, else 9, uncertain.

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


def _share(votes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Turns float64 [n, 10] votes in FER+'s order into float32 [n, 8] shares in EXPRESSIONS' order."""
    chosen = votes[:, [VOTE_COLUMNS.index(expression) for expression in EXPRESSIONS]]
    largest = chosen.max(axis=1, keepdims=True)
    chosen = chosen / np.where(largest > 0, largest, np.nan)  # so that no sum overflows
    shares: npt.NDArray[np.float32] = (chosen / chosen.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
