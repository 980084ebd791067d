"""Recognises a data set's layout by what lies in its folder, and reads it into one table of annotations."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect.data.release.class_folders import find_splits, read_class_folders
from pocketaffect.data.release.csv_release import LISTS, find_lists, find_votes, read_csv_release
from pocketaffect.data.release.delimited import tidy_paths
from pocketaffect.data.release.fer import FER_FOLDERS, FOLDER_LIST, LABELS_FILE, PIXELS_FILE, read_fer, read_fer_folders
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.npy_release import SETS, read_npy_release
from pocketaffect.data.release.rows import ListSummary, RowTable
from pocketaffect.data.release.votes import VoteCounts, find_soft_labels, read_votes
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import DERIVED_VA, SOFT_COLUMNS

CSV: Final = "csv"
NPY8: Final = "npy8"
FER: Final = "fer2013"
FERPLUS: Final = "ferplus"
CLASSES: Final = "classes"
LAYOUTS: Final = {
    CSV: "AffectNet's CSV release (training.csv, validation.csv and Manually_Annotated_Images/ side by side)",
    NPY8: "AffectNet's 8-label release (train_set/ and val_set/, each with images/ and annotations/)",
    FER: f"FER2013 with FER+'s votes ({PIXELS_FILE} beside {LABELS_FILE})",
    FERPLUS: f"FER+'s folders ({' and '.join(f'{name}/{FOLDER_LIST}' for name in FER_FOLDERS)} beside the pictures)",
    CLASSES: "a folder a class (train/happy/… and val/, valid/, validation/ or test/)",
}
"""The layouts that are read, in words."""

FORMS: Final = f"{'; '.join(LAYOUTS.values())}. Pictures loose, or in .tar or .zip archives"


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
    derived_va: bool = False
    """Whether valence and arousal are class means averaged under votes, and no annotator's."""
    notes: tuple[str, ...] = ()
    """What is to be said aloud: what is held out, where a split comes from."""


def name_layout(layout: str) -> str:
    """Names a layout, without its parts."""
    return LAYOUTS[layout].partition(" (")[0]


def recognise(folder: DataFolder) -> str:
    """Tells the layout, one of LAYOUTS.

    Raises:
        PocketAffectError: The folder holds no known layout, half of one, or two.
    """
    lists, splits = {file.kind.name for file in find_lists(folder)}, find_splits(folder)
    there = {
        CSV: {kind.name: kind.name in lists for kind in LISTS if kind.required or kind.name in lists},
        NPY8: {f"{name}/": folder.has(f"{name}/") for name in SETS},
        FER: {name: folder.has(name) for name in (PIXELS_FILE, LABELS_FILE)},
        FERPLUS: {f"{name}/{FOLDER_LIST}": folder.has(f"{name}/{FOLDER_LIST}") for name in FER_FOLDERS},
        CLASSES: {"train/": "train" in splits} | {place: True for split, place in splits.items() if split != "train"},
    }
    begun = [layout for layout, parts in there.items() if any(parts.values())]
    if len(begun) > 1:
        raise PocketAffectError(
            f"{folder.root}: two layouts in one folder",
            found=", ".join(name for layout in begun for name, found in there[layout].items() if found),
            allowed=f"one of {FORMS}",
            todo="move one of the two data sets to a folder of its own",
        )
    missing = [name for layout in begun for name, found in there[layout].items() if not found]
    if begun and not missing:
        return begun[0]
    problem = (
        f"not all of {name_layout(begun[0])}, {' and '.join(missing)} missing" if begun else "no layout that is known"
    )
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
    table, votes = RowTable(), None
    unsplit: list[tuple[str, int, str]] = []
    notes: list[str] = []
    if layout in (FER, FERPLUS):
        summaries, soft, notes = (read_fer if layout == FER else read_fer_folders)(folder, table)
        columns = table.to_columns()
    elif layout == CLASSES:
        summaries, unsplit, notes = read_class_folders(folder, table)
        columns = table.to_columns()
        soft = np.full((len(columns["path"]), len(SOFT_COLUMNS)), np.nan, dtype=np.float32)
    else:
        lists = find_lists(folder) if layout == CSV else []
        if layout == CSV:
            summaries, unsplit = read_csv_release(folder, lists, table)
        else:
            summaries, unsplit = read_npy_release(folder, table)
        columns = table.to_columns()
        soft, votes = _find_soft(folder, find_votes(folder, lists), columns["listed_path"])
    columns |= {name: soft[:, place].copy() for place, name in enumerate(SOFT_COLUMNS)}
    del soft
    located = folder.locate(pd.Series(columns["path"], copy=False))
    columns |= {name: located[name].array for name in ("archive", "offset", "length", "deflated")}
    rows = pd.DataFrame(columns, copy=False)
    derived = layout in (FER, FERPLUS)
    frame = pd.DataFrame(unsplit, columns=["list", "line", "text"])
    return Annotations(
        layout,
        rows,
        frame.astype({"list": "str", "line": "int64", "text": "str"}),
        has_identity=any(summary.identity for summary in summaries),
        has_votes=votes is not None or derived,
        lists=tuple(summaries),
        votes=votes,
        derived_va=derived,
        notes=(*notes, *[DERIVED_VA] * derived),
    )


def _find_soft(
    folder: DataFolder, votes_path: str | None, listed: pd.api.extensions.ExtensionArray
) -> tuple[npt.NDArray[np.float32], VoteCounts | None]:
    if votes_path is None:
        return np.full((len(listed), len(SOFT_COLUMNS)), np.nan, dtype=np.float32), None
    paths = tidy_paths(pa.chunked_array([pa.array(listed, pa.large_string())]))
    return find_soft_labels(read_votes(folder, votes_path), paths)
