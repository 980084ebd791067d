"""The table of what archives hold: each path once, with the place of its bytes.

Only plain members under plain names are given out. One that could harm a careless reader stays in the table with a
negative offset (`places.REFUSALS`): a row that points to it is refused for that reason, and not for "no such file".
"""

import os
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.release.places import ALSO_LOOSE, ODD_NAME, REPEATED
from pocketaffect.names import find_on_disk, show_name

ODD: Final = r"^/|^.:|\\|\x00|(^|/)\.\.?(/|$)|//|/$|^$"
FINDER_NOTES: Final = r"^__MACOSX/|(^|/)\._[^/]*$"
"""Files that macOS adds to archives: they belong to no data set."""

CHUNK: Final = 1 << 16

IMAGE_FOLDERS: Final = ("Manually_Annotated_Images", "Automatically_Annotated_Images", "train_set", "val_set")
RELEASE_NAMES: Final = frozenset(
    (
        *IMAGE_FOLDERS,
        *("training.csv", "validation.csv", "automatically_annotated.csv", "ferplus_votes.csv"),
        *("Manually_Annotated", "Manually_Annotated_file_lists"),
        *("fer2013.csv", "fer2013new.csv", "FER2013Train", "FER2013Valid", "FER2013Test", "classes.yaml"),
        *("Automatically_Annotated", "Automatically_Annotated_file_lists", "Automatically_annotated_file_list"),
    )
)
"""Names at the top of a data set; where they are one folder further down, that folder is seen through."""

SPLIT_FOLDERS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folders of a data set with a folder a class, in lower case."""


def is_release_name(name: str) -> bool:
    """Tells whether a file or folder of this name stands at the top of a data set."""
    return name in RELEASE_NAMES or name.lower() in SPLIT_FOLDERS


class Members:
    """The table in the making: path, offset, length, deflated; converted in pieces, since a million names are large."""

    def __init__(self) -> None:
        self._pieces: list[pa.Table] = []
        self._start_piece()

    def _start_piece(self) -> None:
        self._names: list[str] = []
        self._offsets, self._lengths, self._deflated = array("q"), array("q"), array("b")

    def add(self, name: str, offset: int, length: int, *, deflated: bool = False) -> None:
        """Adds one more member; `name` as the archive has it."""
        self._names.append(name)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._deflated.append(deflated)
        if len(self._names) == CHUNK:
            self._convert()

    def _convert(self) -> None:
        start = r"^(\./+)+"
        try:
            names = plain = pc.replace_substring_regex(pa.array(self._names, pa.large_string()), start, "")
        except UnicodeEncodeError:  # bytes that are not UTF-8; what stands for them is not odd
            texts = zip(*((show_name(name), re.sub("[\ud800-\udfff]", "?", name)) for name in self._names), strict=True)
            names, plain = (pc.replace_substring_regex(pa.array(text, pa.large_string()), start, "") for text in texts)
        offsets = np.array(self._offsets, np.int64)
        odd = pc.match_substring_regex(plain, ODD).to_numpy(zero_copy_only=False)
        if odd.any():
            offsets[odd] = ODD_NAME
            tidied = pa.array([tidy_name(name.as_py()) for name in names.filter(pa.array(odd))], names.type)
            names = pc.replace_with_mask(names, pa.array(odd), tidied)
        lengths, deflated = np.array(self._lengths, np.int64), np.array(self._deflated, bool)
        self._pieces.append(pa.table({"path": names, "offset": offsets, "length": lengths, "deflated": deflated}))
        self._start_piece()

    def finish(self) -> pa.Table:
        """Gives all members, in the archive's order."""
        self._convert()
        return pa.concat_tables(self._pieces)


def tidy_name(name: str) -> str:
    """Reads a name as a reader would that takes anything: the row that was meant by it is found so."""
    name = re.sub(r"^.:", "", name.split("\x00")[0].replace("\\", "/"))
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def see_through(table: pa.Table, stem: str) -> pa.Table:
    """Takes off the one folder around everything (`AffectNet/training.csv`).

    Puts `stem` before the names where an image folder was archived from inside (train_set.zip with `images/0.jpg`).
    """
    table = table.filter(pc.invert(pc.match_substring_regex(table["path"], FINDER_NOTES)))
    sound = table.filter(pc.not_equal(table["offset"], ODD_NAME))["path"]
    if len(sound) == 0:
        return table
    named, splits = "|".join(map(re.escape, sorted(RELEASE_NAMES))), "|".join(SPLIT_FOLDERS)
    released = rf"^(({named})(/|$)|(?i:{splits})/)"
    if pc.any(pc.match_substring_regex(sound, released)).as_py():
        return table
    path = table["path"]
    top = sound[0].as_py().split("/")[0] + "/"
    if pc.all(pc.starts_with(sound, top)).as_py():
        inside = pc.utf8_slice_codeunits(sound, len(top))
        if pc.any(pc.match_substring_regex(inside, released)).as_py():
            path = pc.if_else(pc.starts_with(path, top), pc.utf8_slice_codeunits(path, len(top)), path)
            return table.set_column(0, "path", path)
    if stem in IMAGE_FOLDERS:
        folder, slash = (pa.scalar(text, pa.large_string()) for text in (stem, "/"))
        return table.set_column(0, "path", pc.binary_join_element_wise(folder, path, slash))
    return table


def merge_members(tables: Sequence[pa.Table], folder: Path) -> pa.Table:
    """Merges the archives' tables of `Members.finish` to one, sorted by path, each path once.

    `folder` is that of the data set's loose files.

    Returns:
        path, archive (position in `tables`), offset, length, deflated; each column in one piece.
    """
    numbered = [
        table.append_column("archive", pa.array(np.full(len(table), number, np.int32)))
        for number, table in enumerate(tables)
    ]
    merged = pa.concat_tables(numbered or [Members().finish().append_column("archive", pa.array([], pa.int32()))])
    merged = merged.select(["path", "archive", "offset", "length", "deflated"]).combine_chunks()
    return _mark_loose(_settle_repeated(_sort(merged)), folder).combine_chunks()


def _sort(table: pa.Table) -> pa.Table:
    path = table["path"]
    if pc.all(pc.less_equal(path.slice(0, max(len(path) - 1, 0)), path.slice(1))).as_py() in (True, None):
        return table
    return table.take(pc.sort_indices(table, [("path", "ascending")]))


def _settle_repeated(table: pa.Table) -> pa.Table:
    """Leaves one row of each path in a sorted table; two sound ones become one refused."""
    path = table["path"]
    same = pc.equal(path.slice(0, max(len(path) - 1, 0)), path.slice(1))
    if not pc.any(same).as_py():
        return table
    new = np.concatenate([[True], ~same.to_numpy(zero_copy_only=False)]) if len(path) else np.zeros(0, bool)
    group = np.cumsum(new) - 1
    offset = table["offset"].to_numpy().copy()
    odd = offset == ODD_NAME
    sound = np.bincount(group[~odd], minlength=group[-1] + 1)[group]
    offset[sound > 1] = REPEATED
    order = np.lexsort((odd, group))  # a plain name goes before one that only reads alike
    first = order[np.concatenate([[True], np.diff(group[order]) > 0])]
    return table.set_column(2, "offset", pa.array(offset)).take(pa.array(first))


def _mark_loose(table: pa.Table, folder: Path) -> pa.Table:
    """Refuses what is in an archive and loose, too: only one of the two can be what the lists mean."""
    parents = pc.unique(pc.replace_substring_regex(table["path"], r"[^/]*$", "")).to_pylist()
    loose: list[str] = []
    for parent in parents:
        try:
            with os.scandir(find_on_disk(folder, parent)) as entries:
                loose += [parent + show_name(entry.name) for entry in entries]
        except (OSError, ValueError):  # no such folder, mostly
            continue
    if not loose:
        return table
    double = pc.is_in(table["path"], value_set=pa.array(loose, pa.large_string())).to_numpy(zero_copy_only=False)
    return table.set_column(2, "offset", pa.array(np.where(double, ALSO_LOOSE, table["offset"].to_numpy())))
