"""Recognises AffectNet's releases by what lies in a data folder, and reads either into one table of annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect.data.release.csv_release import LISTS, find_lists, read_csv_release
from pocketaffect.data.release.delimited import tidy_paths
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.npy_release import SETS, read_npy_release
from pocketaffect.data.release.rows import ListSummary, RowTable
from pocketaffect.data.release.votes import VOTES_FILE, VoteCounts, find_soft_labels, read_votes
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import SOFT_COLUMNS

CSV: Final = "csv"
NPY8: Final = "npy8"
FORMS: Final = (
    "the CSV release (training.csv, validation.csv and Manually_Annotated_Images/ side by side), or the 8-label "
    "release (train_set/ and val_set/, each with images/ and annotations/); loose, or in .tar or .zip archives"
)
"""The layouts that are read, for error messages."""


@dataclass(frozen=True)
class Annotations:
    """All that the lists of a data folder say."""

    layout: str
    rows: pd.DataFrame
    """`rows.ROW_COLUMNS`, then SOFT_COLUMNS, then `archive`, `offset`, `length`, `deflated`; index 0..n-1."""
    unsplit: pd.DataFrame
    """Lines that could not be split into columns: `list`, `line`, `text`."""
    has_identity: bool
    has_votes: bool
    lists: tuple[ListSummary, ...] = ()
    votes: VoteCounts | None = None


def recognise(folder: DataFolder) -> str:
    """Tells the layout, CSV or NPY8.

    Raises:
        PocketAffectError: The folder holds neither layout, half of one, or both.
    """
    lists = {file.kind.name for file in find_lists(folder)}
    sets = {name for name in SETS if folder.has(f"{name}/")}
    missing_lists = [kind.name for kind in LISTS if kind.required and kind.name not in lists]
    missing_sets = [f"{name}/" for name in SETS if name not in sets]
    if lists and sets:
        raise PocketAffectError(
            f"{folder.root}: two layouts in one folder",
            found=", ".join([*sorted(lists), *(f"{name}/" for name in sorted(sets))]),
            allowed=f"one of {FORMS}",
            todo="move one of the two releases to a folder of its own",
        )
    if not missing_lists:
        return CSV
    if not missing_sets:
        return NPY8
    if lists or sets:
        release = "AffectNet's CSV release" if lists else "AffectNet's 8-label release"
        problem = f"not all of {release}, {' and '.join(missing_lists if lists else missing_sets)} missing"
    else:
        problem = "no layout of AffectNet's that is known"
    raise PocketAffectError(
        f"{folder.root}: {problem}",
        found=_describe_entries(folder),
        allowed=FORMS,
        todo="`pocketaffect data use PATH` with the folder that holds them",
    )


def _describe_entries(folder: DataFolder) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.root.iterdir())
    entries = [entry for entry in entries if not entry.startswith(".")]
    return ", ".join(entries[:8]) + (" …" if len(entries) > 8 else "") if entries else "an empty folder"


def read_annotations(folder: DataFolder) -> Annotations:
    """Reads all lists of the folder, whatever its layout; every line is a row or in `unsplit`.

    Raises:
        PocketAffectError: As `recognise`; a list without its columns or without rows; bad votes.
    """
    layout = recognise(folder)
    table = RowTable()
    if layout == CSV:
        lists = find_lists(folder)
        summaries, unsplit = read_csv_release(folder, lists, table)
        places = ["", *(file.path.removesuffix(file.kind.name) for file in lists)]
    else:
        summaries, unsplit = read_npy_release(folder, table)
        places = [""]
    columns = table.to_columns()
    votes_path = next((place + VOTES_FILE for place in places if folder.has(place + VOTES_FILE)), None)
    soft, votes = _find_soft(folder, votes_path, columns["listed_path"])
    columns |= {name: soft[:, place].copy() for place, name in enumerate(SOFT_COLUMNS)}
    del soft
    located = folder.locate(pd.Series(columns["path"], copy=False))
    columns |= {name: located[name].array for name in ("archive", "offset", "length", "deflated")}
    rows = pd.DataFrame(columns, copy=False)
    return Annotations(
        layout,
        rows,
        unsplit,
        has_identity=any(summary.identity for summary in summaries),
        has_votes=votes is not None,
        lists=tuple(summaries),
        votes=votes,
    )


def _find_soft(
    folder: DataFolder, votes_path: str | None, listed: pd.api.extensions.ExtensionArray
) -> tuple[npt.NDArray[np.float32], VoteCounts | None]:
    if votes_path is None:
        return np.full((len(listed), len(SOFT_COLUMNS)), np.nan, dtype=np.float32), None
    paths = tidy_paths(pa.chunked_array([pa.array(listed, pa.large_string())]))
    return find_soft_labels(read_votes(folder, votes_path), paths)
