"""Packs a data set into a few tars, so that DVC handles some dozen large files in place of a million small ones.

A pack is a data folder: `images-00000.tar`, … hold the files under the paths that the lists mean; the lists lie beside
them; `pack.parquet` says where in which part each file is, so that nothing needs to be listed; `pack.json` names them
all with their lengths and SHA-256. The same source gives the same bytes, however often the work was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.packing.parts import PACK_FILE, PACK_PROGRESS, PACK_TABLE, Part, PartWriter
from pocketaffect.data.packing.source import LeftOut, PackSource, has_changed, list_source
from pocketaffect.data.progress import Progress, show_progress
from pocketaffect.data.release.archives import scan_archive
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import read_place
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, write_atomically, write_json

PART_BYTES: Final = 1 << 30
VERSION: Final = 1
COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class PackSummary:
    """What a pack holds, and what of the source it does not."""

    layout: str
    parts: tuple[Part, ...]
    kept_parts: int
    """Number of them that were there already."""
    lists: tuple[str, ...]
    missing: LeftOut
    """Listed, but not there."""
    unreadable: LeftOut
    """Listed, but not to be read: path and reason."""
    unlisted: LeftOut
    """There, but in no list."""

    @property
    def members(self) -> int:
        """Files in the parts."""
        return sum(part.members for part in self.parts)

    @property
    def bytes(self) -> int:
        """Length of all parts."""
        return sum(part.bytes for part in self.parts)

    def to_text(self) -> str:
        """Writes what was packed, and what was not, for a terminal."""
        there = f", {self.kept_parts} of them there before" if self.kept_parts else ""
        lines = [f"{self.members:,} files in {len(self.parts)} parts{there}: {self.bytes:,} bytes"]
        lines.append(f"lists: {', '.join(self.lists) or 'none beside the archives, which hold all files'}")
        for what, left in (
            ("listed, but missing", self.missing),
            ("listed, but not readable", self.unreadable),
            ("there, but in no list: left out", self.unlisted),
        ):
            if left.count:
                more = ", …" if left.count > len(left.examples) else ""
                lines.append(f"{what}: {left.count:,} ({', '.join(left.examples)}{more})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _State:
    """How far a pack is; lies in the target until all is done."""

    source: str
    part_bytes: int
    version: int = VERSION
    parts: tuple[Part, ...] = ()
    ends: tuple[int, ...] = ()
    """The source's row at which each part ends."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """Rows that are in no part, and why."""

    @property
    def rows(self) -> int:
        """The source's row to go on at."""
        return self.ends[-1] if self.ends else 0

    def cut(self, parts: int) -> _State:
        """Gives the state as it was after so many parts."""
        ends = self.ends[:parts]
        unreadable = tuple((row, why) for row, why in self.unreadable if row < (ends[-1] if ends else 0))
        return replace(self, parts=self.parts[:parts], ends=ends, unreadable=unreadable)


def pack(
    source: Path,
    target: Path,
    *,
    part_bytes: int = PART_BYTES,
    progress: Callable[[str, int], AbstractContextManager[Progress]] = show_progress,
) -> PackSummary:
    """Packs the data set in `source`, of any known layout, into `target`; repeated after an interruption, it goes on.

    `target` is a new or empty folder, or one with a pack of the same source, finished or not. No part is longer than
    `part_bytes`, unless a single file is.

    Raises:
        PocketAffectError: No known layout; `target` holds something else, or a pack of another source; a full disk.
    """
    _check_target(source, target)
    folder = DataFolder.open(source)
    files = list_source(folder)
    if (target / PACK_FILE).is_file() and not (target / PACK_PROGRESS).exists():
        return _check_finished(files, target, part_bytes)
    state = _begin(files, target, part_bytes)
    kept = len(state.parts)
    with progress("files", len(files.rows)) as advance:
        advance(state.rows)
        while state.rows < len(files.rows):
            state = _add_part(files, state, target, advance)
            write_json(target / PACK_PROGRESS, asdict(state))
    parts = tuple(part for part in state.parts if part.members)
    if not parts:
        raise PocketAffectError(
            f"{source}: no file to pack",
            found=f"{files.missing.count:,} listed and missing, {len(state.unreadable):,} not readable",
        )
    _finish(folder, files, parts, target, part_bytes)
    return _summarise(files, parts, min(kept, len(parts)), [why for _, why in state.unreadable])


def _summarise(files: PackSource, parts: tuple[Part, ...], kept: int, unreadable: list[str]) -> PackSummary:
    return PackSummary(
        files.layout, parts, kept, tuple(files.lists), files.missing, LeftOut.of(unreadable), files.unlisted
    )


def _check_target(source: Path, target: Path) -> None:
    inner, outer = target.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise PocketAffectError(
            f"{target}: is, is in or holds the data set {source}",
            allowed="a folder apart from it",
            todo="give a new folder",
        )
    if target.exists() and not target.is_dir():
        raise PocketAffectError(f"{target}: not a folder", todo="give a new folder")
    names = sorted(entry.name for entry in target.iterdir()) if target.exists() else []
    names = [name for name in names if not name.startswith(f".{PACK_PROGRESS}.")]  # killed at the very start
    if names and not {PACK_FILE, PACK_PROGRESS} & {*names}:
        raise PocketAffectError(
            f"{target}: holds something that is no pack",
            found=", ".join(names[:8]),
            allowed="a new or empty folder, or a pack of the same data set",
            todo="give a new folder",
        )


def _begin(files: PackSource, target: Path, part_bytes: int) -> _State:
    """Finds the state to go on from: after the last finished part that is as it was written."""
    fresh = _State(files.digest(), part_bytes)
    file = target / PACK_PROGRESS
    todo = f"remove {target} and pack anew"
    if not file.exists():
        write_json(file, asdict(fresh))
        return fresh
    try:
        state = TypeAdapter(_State).validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise PocketAffectError(f"{file}: not readable", found=error, todo=todo) from None
    if (state.version, state.part_bytes) != (VERSION, part_bytes):
        raise PocketAffectError(
            f"{target}: begun with other settings",
            found=f"version {state.version}, parts of {state.part_bytes:,} bytes",
            allowed=f"version {VERSION}, parts of {part_bytes:,} bytes",
            todo=todo,
        )
    if state.source != fresh.source:
        raise PocketAffectError(
            f"{files.root}: changed since {target} was begun, so that the two do not fit", todo=todo
        )
    intact = (number for number, part in enumerate(state.parts) if part.members and not part.is_intact(target))
    return state.cut(next(intact, len(state.parts)))


def _add_part(files: PackSource, state: _State, target: Path, advance: Progress) -> _State:
    """Writes the next part, which is empty where all that is left cannot be read."""
    file = target / f"images-{len(state.parts):05d}.tar"
    with write_atomically(file) as draft, draft.open("wb") as stream:
        state = _fill(files, state, PartWriter(file.name, stream, state.part_bytes), advance)
        stream.flush()
        os.fsync(stream.fileno())
    if not state.parts[-1].members:
        file.unlink()
    return state


def _fill(files: PackSource, state: _State, writer: PartWriter, advance: Progress) -> _State:
    row, unreadable = state.rows, list(state.unreadable)
    for place in files.places(row):
        try:
            if not writer.add(place.path, read_place(files.root, place)):
                break
        except ImageProblemError as error:
            unreadable.append((row, f"{place.path}: {error}"))
        row += 1
        advance(1)
    return replace(state, parts=(*state.parts, writer.close()), ends=(*state.ends, row), unreadable=tuple(unreadable))


def _check_finished(files: PackSource, target: Path, part_bytes: int) -> PackSummary:
    """Holds a finished pack against its source, whose tars are made again without being written.

    Raises:
        PocketAffectError: A part is damaged, or the source or the settings are not the pack's.
    """
    todo = f"remove {target} and pack anew"
    members = DataFolder.open(target).members["path"].to_pylist()
    try:
        content = json.loads((target / PACK_FILE).read_text(encoding="utf-8"))
        parts = tuple(Part(**part) for part in content["parts"])
        lists = {item["name"]: item["sha256"] for item in content["lists"]}
        length = int(content["part_bytes"])
    except (ValueError, TypeError, KeyError) as error:
        raise PocketAffectError(f"{target / PACK_FILE}: not as it was written", found=repr(error), todo=todo) from None
    if length != part_bytes:
        raise PocketAffectError(
            f"{target}: packed with other settings",
            found=f"parts of {length:,} bytes",
            allowed=f"{part_bytes:,} bytes",
            todo=todo,
        )
    for part in parts:
        if not part.is_intact(target):
            raise PocketAffectError(f"{target / part.name}: changed since it was packed", todo=todo)
    state = _State("", part_bytes)
    with Path(os.devnull).open("wb") as nowhere:
        while state.rows < len(files.rows):
            name = f"images-{len(state.parts):05d}.tar"
            state = _fill(files, state, PartWriter(name, nowhere, part_bytes), lambda _: None)
    unreadable = [why for _, why in state.unreadable]
    readable = set(files.rows["path"]) - {files.rows["path"].iloc[row] for row, _ in state.unreadable}
    changed = sorted({name for name, _ in lists.items() ^ files.lists.items()} | (readable ^ set(members)))
    changed = changed or [part.name for part in parts if part not in state.parts]
    if changed:
        raise PocketAffectError(
            f"{files.root}: not what {target} was packed from",
            found=f"{len(changed):,} file(s) new, gone or changed: {', '.join(changed[:5])}",
            todo=todo,
        )
    return _summarise(files, parts, len(parts), unreadable)


def _finish(folder: DataFolder, files: PackSource, parts: tuple[Part, ...], target: Path, part_bytes: int) -> None:
    """Writes lists, table and, last, the file that says that the pack is whole."""
    if has_changed(folder, files):
        raise PocketAffectError(f"{folder.root}: changed while it was packed", todo=f"remove {target} and pack anew")
    lists = [_copy_list(folder, name, digest, target) for name, digest in files.lists.items()]
    members = _write_table(parts, target)
    content = {
        "version": VERSION,
        "part_bytes": part_bytes,
        "layout": files.layout,
        "parts": [asdict(part) for part in parts],
        "lists": lists,
        "members": members,
    }
    write_json(target / PACK_FILE, content)
    (target / PACK_PROGRESS).unlink()


def _copy_list(folder: DataFolder, name: str, digest: str, target: Path) -> dict[str, Any]:
    hashed = hashlib.sha256()
    with folder.open_file(name) as stream, write_atomically(target / name) as draft, draft.open("wb") as copy:
        while block := stream.read(COPY_BYTES):
            hashed.update(block)
            copy.write(block)
        length = copy.tell()
    if hashed.hexdigest() != digest:
        raise PocketAffectError(f"{folder.root}: {name} changed while it was packed", todo="pack anew")
    return {"name": name, "bytes": length, "sha256": digest}


def _write_table(parts: tuple[Part, ...], target: Path) -> dict[str, Any]:
    """Lists the parts as any reader would, so that the table says what is in them."""
    tables = []
    for part in parts:
        table = scan_archive(target / part.name).drop_columns("deflated")
        name = pa.repeat(part.name, len(table)).dictionary_encode()
        tables.append(table.append_column("archive", name).select(["path", "archive", "offset", "length"]))
    table = pa.concat_tables(tables).unify_dictionaries()
    file = target / PACK_TABLE
    with write_atomically(file) as draft, draft.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")
        stream.flush()
        os.fsync(stream.fileno())
    digest = hash_file(file)
    return {"bytes": file.stat().st_size, "sha256": digest, "count": len(table)}
