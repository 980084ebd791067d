"""A data folder as it arrived: loose files, tar and zip archives, or a pack, under one set of names."""

from __future__ import annotations

import io
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.packing.parts import PACK_FILE, PACK_PROGRESS, read_pack
from pocketaffect.data.release.archives import COMPRESSED, refuse_compressed, scan_archive
from pocketaffect.data.release.fer import LABELS_FILE, PIXELS_FILE, scan_pixels
from pocketaffect.data.release.members import is_release_name, merge_members, see_through
from pocketaffect.data.release.places import REFUSALS, Place, check_inside, open_holder, read_place
from pocketaffect.errors import PocketAffectError
from pocketaffect.names import find_on_disk, show_name

COMPRESSED_TAR: Final = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
SPLIT_ARCHIVE: Final = re.compile(r"\.((tar|zip)\.\d{2,}|z\d{2})$", re.IGNORECASE)

MAX_LIST_BYTES: Final = 4 << 30
"""Images and annotations of a million rows take a few hundred MB; what inflates to more is no list."""


@dataclass(frozen=True)
class DataFolder:
    """What lies in a data folder: read once, then asked for names and places. Only archives are listed beforehand."""

    root: Path
    archives: tuple[str, ...]
    """Paths of the archives below `root`."""
    top: str
    """The folder around all loose files, with its slash; empty where there is none."""
    members: pa.Table = field(repr=False)
    """path, archive (position in `archives`), offset, length, deflated; sorted by path, each path once."""

    @classmethod
    def open(cls, root: Path) -> DataFolder:
        """Looks at what lies in `root` and lists its archives (some seconds for a million members).

        Raises:
            PocketAffectError: No such folder; an archive is compressed, encrypted, split or damaged; a part of a
                pack is missing or changed.
        """
        if not root.is_dir():
            raise PocketAffectError(f"{root}: not a data folder", found="a file" if root.exists() else "no such folder")
        top = show_name(_find_top(root))
        base = Path(find_on_disk(root, top))
        if (base / PACK_PROGRESS).exists():
            raise PocketAffectError(
                f"{base}: an unfinished pack", todo="repeat `pocketaffect data pack`, which goes on with it"
            )
        parts = read_pack(base) if (base / PACK_FILE).is_file() else {}
        tables = {top + name: table for name, table in parts.items()}
        for name in map(show_name, _find_archives(base)):
            if name not in parts:
                tables[top + name] = see_through(scan_archive(_check_archive(root, top + name)), Path(name).stem)
        if all((base / name).is_file() for name in (PIXELS_FILE, LABELS_FILE)):
            tables[top + PIXELS_FILE] = scan_pixels(base)
        return cls(root, tuple(tables), top, merge_members(list(tables.values()), base))

    @property
    def base(self) -> Path:
        """The folder that the loose files lie in."""
        return Path(find_on_disk(self.root, self.top))

    def stat_archive(self, name: str) -> os.stat_result:
        """Reads length and time of one of `archives`."""
        return Path(find_on_disk(self.root, name)).stat()

    def has(self, name: str) -> bool:
        """Tells whether a file `training.csv`, or a folder `train_set/` (with the slash), is there, loose or packed."""
        if name.endswith("/"):
            return Path(find_on_disk(self.base, name)).is_dir() or len(self._below(name)) > 0
        return Path(find_on_disk(self.base, name)).is_file() or self._find(name) is not None

    def names(self, prefix: str) -> list[str]:
        """Lists all files below a folder (`train_set/images/`; with the slash), loose and archived, sorted."""
        rows = self._below(prefix)
        archived = self._paths[rows.start : rows.stop].to_pylist()
        loose = list(_walk(self.base, prefix))
        return sorted({*archived, *loose}) if archived and loose else archived or sorted(loose)

    def list_folders(self, prefix: str) -> list[str]:
        """Lists the names of the folders right below a folder (with the slash), loose and archived, sorted."""
        rows = self._below(prefix)
        inside = pc.utf8_slice_codeunits(self._paths.slice(rows.start, len(rows)), len(prefix))
        archived = pc.unique(pc.extract_regex(inside, "^(?P<name>[^/]+)/").field("name").drop_null()).to_pylist()
        loose = Path(find_on_disk(self.base, prefix))
        entries = _list_folder(loose) if loose.is_dir() else []
        return sorted({*archived, *(show_name(entry.name) for entry in entries if _is_folder(entry))})

    def read(self, name: str) -> bytes:
        """Reads one list or annotation file. For thousands, `locate` them at once and use `read_place`.

        Raises:
            PocketAffectError: Missing, not readable, damaged, or over MAX_LIST_BYTES.
        """
        with self.open_file(name) as stream:
            return stream.read()

    def open_file(self, name: str) -> io.BytesIO | io.BufferedReader:
        """Opens a stream over one file; a loose list need not be held whole.

        Raises:
            PocketAffectError: Missing, not readable, damaged, or over MAX_LIST_BYTES.
        """
        place = self._find(name)
        try:
            if place is not None:
                return io.BytesIO(read_place(self.root, place, limit=MAX_LIST_BYTES))
            open_holder(self.root, Place(name, self.top))  # a plain file, below this folder
            return check_inside(self.root, self.top + name).open("rb")
        except ImageProblemError as error:
            raise PocketAffectError(f"{self.root / self.top / name}: not readable", found=error) from None

    def locate(self, paths: pd.Series[str]) -> pd.DataFrame:
        """Locates where files are, by their paths below the data folder.

        Returns:
            archive (str), offset, length (int64), deflated (bool), indexed as `paths`. What is in no archive gets
            (`top`, 0, 0, False) and is read as a loose file; a negative offset is a reason (`places.REFUSALS`).
        """
        wanted = pa.array(paths, pa.large_string(), from_pandas=True)
        wanted = wanted.combine_chunks() if isinstance(wanted, pa.ChunkedArray) else wanted
        found = pc.index_in(wanted, value_set=self._paths)
        present = found.is_valid().to_numpy(zero_copy_only=False)
        rows = found.drop_null()

        def spread(column: str, dtype: type) -> Any:
            values: Any = np.zeros(len(wanted), dtype)
            values[present] = self.members[column].combine_chunks().take(rows).to_numpy(zero_copy_only=False)
            return values

        archive = np.where(present, spread("archive", np.int32), len(self.archives))
        names = pa.array([*self.archives, self.top], pa.large_string()).take(pa.array(archive))
        columns = {"archive": names.to_pandas().astype("str").array}
        for column, dtype in (("offset", np.int64), ("length", np.int64), ("deflated", bool)):
            columns[column] = spread(column, dtype)
        return pd.DataFrame(columns, index=paths.index)

    def count_refused(self) -> dict[str, int]:
        """Counts how many archive members are not opened, by the reason."""
        offsets = self.members["offset"].to_numpy()
        codes, counts = np.unique(offsets[offsets < 0], return_counts=True)
        return {REFUSALS[int(code)]: int(count) for code, count in zip(codes, counts, strict=True)}

    @property
    def _paths(self) -> pa.LargeStringArray:
        return self.members["path"].chunk(0)

    def _bisect(self, name: str) -> int:
        paths = self._paths
        return bisect_left(range(len(paths)), name, key=lambda row: str(paths[row].as_py()))

    def _below(self, prefix: str) -> range:
        after = prefix.removesuffix("/") + "0"  # the letter behind the slash
        return range(self._bisect(prefix), self._bisect(after)) if prefix else range(len(self._paths))

    def _find(self, name: str) -> Place | None:
        row = self._bisect(name)
        if row == len(self._paths) or self._paths[row].as_py() != name:
            return None
        found = self.members.slice(row, 1).to_pylist()[0]
        return Place(name, self.archives[found["archive"]], found["offset"], found["length"], found["deflated"])


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))), key=lambda entry: entry.name
        )


def _is_archive(name: str) -> bool:
    return name.lower().endswith((".tar", ".zip"))


def _find_top(root: Path) -> str:
    """Finds the one folder that everything stands in, where nothing of a release stands in `root` itself."""

    def holds_data(folder: Path) -> bool:
        return any(
            is_release_name(entry.name) or _is_archive(entry.name) or entry.name == PACK_FILE
            for entry in _list_folder(folder)
        )

    if holds_data(root):
        return ""
    folders = [entry.name for entry in _list_folder(root) if entry.is_dir(follow_symlinks=False)]
    return f"{folders[0]}/" if len(folders) == 1 and holds_data(root / folders[0]) else ""


def _find_archives(folder: Path) -> list[str]:
    names = [entry.name for entry in _list_folder(folder) if entry.is_file()]
    for name in names:
        if COMPRESSED_TAR.search(name):
            raise refuse_compressed(folder / name, "`" + "` or `".join(COMPRESSED.values()) + "`")
        if SPLIT_ARCHIVE.search(name):
            raise PocketAffectError(
                f"{folder / name}: one part of a split archive",
                allowed="one whole .tar or .zip",
                todo="join the parts (`cat NAME.zip.0* > NAME.zip`; for .z01, .z02: `zip -s 0 NAME.zip --out "
                "whole.zip`), then move them out of the data folder",
            )
    return [name for name in names if _is_archive(name)]


def _check_archive(root: Path, name: str) -> Path:
    try:
        return check_inside(root, name)
    except ImageProblemError as error:
        raise PocketAffectError(f"{root / name}: not opened", found=error) from None


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """Yields files below a folder, as paths from `root`; follows links to folders as long as they stay in `root`."""
    whole = os.path.realpath(root)
    waiting = [(prefix, os.path.realpath(find_on_disk(root, prefix)))]
    if not f"{waiting[0][1]}/".startswith(f"{whole}/"):
        return
    while waiting:
        folder, real = waiting.pop()
        try:
            entries = os.scandir(real)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise PocketAffectError(f"{real}: cannot be listed", found=error.strerror) from None
        with entries:
            for entry in entries:
                name = folder + show_name(entry.name)
                if not _is_folder(entry):
                    yield name
                    continue
                inside = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if inside.startswith(f"{whole}/") and not f"{real}/".startswith(f"{inside}/"):
                    waiting.append((f"{name}/", inside))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False
