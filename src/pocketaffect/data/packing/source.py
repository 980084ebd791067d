"""What of a data set goes into a pack: the files that its lists mean, in a fixed order, and what is left out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.data.release.class_folders import CLASSES_FILE, find_splits
from pocketaffect.data.release.csv_release import find_lists, find_votes
from pocketaffect.data.release.fer import FER_FOLDERS, PIXELS_FILE
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import CSV, FER, FERPLUS, NPY8, read_annotations, recognise
from pocketaffect.data.release.npy_release import SETS
from pocketaffect.data.release.places import Place, describe_path_problem
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import PLACE_COLUMNS
from pocketaffect.names import SYSTEM_FILE, find_on_disk

EXAMPLES: Final = 5
CHUNK: Final = 8192


@dataclass(frozen=True)
class LeftOut:
    """Files that did not go into a pack: how many, and the first few."""

    count: int
    examples: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> LeftOut:
        """Counts `names`."""
        rest = iter(names)
        examples = tuple(islice(rest, EXAMPLES))
        return cls(len(examples) + sum(1 for _ in rest), examples)


@dataclass(frozen=True)
class PackSource:
    """The files to pack, sorted by path."""

    root: Path
    layout: str
    lists: dict[str, str]
    """Files that are copied beside the parts, with their SHA-256."""
    rows: pd.DataFrame
    """path, archive, offset, length (of a loose file, too), deflated; changed: int64, ns, when the file or its archive
    last did."""
    missing: LeftOut
    unlisted: LeftOut

    def places(self, start: int) -> Iterator[Place]:
        """Lists where the files are, from row `start` on."""
        for first in range(start, len(self.rows), CHUNK):
            chunk = self.rows.iloc[first : first + CHUNK]
            for place in zip(*(chunk[name].tolist() for name in PLACE_COLUMNS), strict=True):
                yield Place(*place)

    def digest(self) -> str:
        """Digests all that shows from outside whether the files are still the same: their places, lengths and times."""
        found = hashlib.sha256(json.dumps(self.lists, sort_keys=True).encode())
        for column in self.rows:
            values = self.rows[column]
            found.update(values.to_numpy().tobytes() if values.dtype.kind in "ib" else "\n".join(values).encode())
        return found.hexdigest()


def list_source(folder: DataFolder) -> PackSource:
    """Lists what is to be packed, without reading it.

    Raises:
        PocketAffectError: No known layout, or lists that are not readable.
    """
    layout = recognise(folder)
    if layout == FER:
        raise PocketAffectError(
            f"{folder.root}: nothing to pack",
            found=f"{PIXELS_FILE}, one file",
            todo="`pocketaffect data use` takes it so",
        )
    if layout == CSV:
        paths, lists, folders = _list_csv(folder)
    else:
        folders = {NPY8: [f"{name}/" for name in SETS], FERPLUS: [f"{name}/" for name in FER_FOLDERS]}.get(
            layout, [*find_splits(folder).values()]
        )
        paths, lists = _list_folders(folder, folders), tuple(filter(folder.has, [CLASSES_FILE]))
    present = pd.Series([name for prefix in folders for name in folder.names(prefix)], dtype="str")
    unlisted = LeftOut.of(present[~present.isin(paths)])
    del present
    digests = {name: _hash(folder, name) for name in lists}
    rows = pd.concat([paths.rename("path"), folder.locate(paths)], axis=1)
    found, rows["length"], rows["changed"] = _look_up(folder, rows)
    missing = LeftOut.of(rows["path"][~found])
    return PackSource(folder.root, layout, digests, rows[found].reset_index(drop=True), missing, unlisted)


def has_changed(folder: DataFolder, files: PackSource) -> bool:
    """Tells whether a file got another length or time since it was listed, or is gone."""
    found, length, changed = _look_up(folder, files.rows)
    return not (found.all() and (length == files.rows["length"]).all() and (changed == files.rows["changed"]).all())


def _list_csv(folder: DataFolder) -> tuple[pd.Series[str], tuple[str, ...], list[str]]:
    """Lists paths, lists and image folders of the CSV release."""
    files = find_lists(folder)
    votes = find_votes(folder, files)
    lists = [file.path for file in files] + ([votes] if votes else [])
    paths = read_annotations(folder).rows["path"].drop_duplicates().sort_values(ignore_index=True)
    return paths.astype("str"), tuple(sorted(lists)), sorted({f"{file.image_folder}/" for file in files})


def _list_folders(folder: DataFolder, folders: Iterable[str]) -> pd.Series[str]:
    """Lists all files of layouts that have no list of them."""
    names = (name for place in folders for name in folder.names(place))
    return pd.Series(sorted(name for name in names if not re.search(SYSTEM_FILE, name)), dtype="str")


def _look_up(
    folder: DataFolder, rows: pd.DataFrame
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Looks up which files there are (or may not be opened: the reason comes later), their lengths and times."""
    found: npt.NDArray[np.bool_] = np.ones(len(rows), bool)
    length: npt.NDArray[np.int64] = rows["length"].to_numpy(np.int64).copy()
    changed: npt.NDArray[np.int64] = np.zeros(len(rows), np.int64)
    for name in folder.archives:
        changed[rows["archive"] == name] = folder.stat_archive(name).st_mtime_ns
    loose = np.flatnonzero(~rows["archive"].isin(list(folder.archives)).to_numpy())
    for row, known in zip(loose.tolist(), _stat(folder, rows["path"].iloc[loose]), strict=True):
        found[row] = known is not None
        length[row], changed[row] = known or (0, 0)
    return found, length, changed


def _stat(folder: DataFolder, paths: Iterable[str]) -> Iterator[tuple[int, int] | None]:
    """Gives length and time, None for what is missing. What leads out of the folder counts as there, unlooked at."""
    for path in paths:
        if describe_path_problem(path):
            yield 0, 0
            continue
        try:
            status = os.stat(find_on_disk(folder.base, path))  # noqa: PTH116  there are a million
        except OSError:
            yield None
        else:
            yield status.st_size, status.st_mtime_ns


def _hash(folder: DataFolder, name: str) -> str:
    with folder.open_file(name) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
