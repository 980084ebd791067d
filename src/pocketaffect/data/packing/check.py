"""Holds a finished pack against its source: packing again changes nothing, or says that the source is another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.packing.parts import Part
from pocketaffect.data.packing.source import PackSource, iterate_places
from pocketaffect.data.packing.table import PACK_FILE
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import read_place
from pocketaffect.errors import PocketAffectError


def check_pack(files: PackSource, target: Path, part_bytes: int) -> tuple[tuple[Part, ...], list[str]]:
    """Reads all parts and compares them with what the source lists.

    Files that changed after the pack was made, by their times, and such whose length cannot be compared are read.

    Returns:
        The parts; what of the source is not readable.

    Raises:
        PocketAffectError: A part is damaged, or the source or the settings are not the pack's.
    """
    todo = f"remove {target} and pack anew"
    packed = DataFolder.open(target)
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
    changed = sorted({name for name, _ in lists.items() ^ files.lists.items()})
    unreadable: list[str] = []
    if not changed:
        times = (target / PACK_FILE).stat().st_mtime_ns
        changed = list(_compare(files, packed, times, unreadable))
    if changed:
        raise PocketAffectError(
            f"{files.root}: not what {target} was packed from",
            found=f"{len(changed):,} file(s) new, gone or changed: {', '.join(changed[:5])}",
            todo=todo,
        )
    return parts, unreadable


def _compare(files: PackSource, packed: DataFolder, time: int, unreadable: list[str]) -> Iterator[str]:
    """Paths of the source that the pack does not have, or has with other bytes, and the reverse."""
    rows = files.rows
    ours = packed.locate(rows["path"])
    absent = (ours["archive"] == "").to_numpy()
    for place in iterate_places(rows[absent]):
        try:
            read_place(files.root, place)
            yield place.path
        except ImageProblemError as error:
            unreadable.append(f"{place.path}: {error}")
    surplus = len(packed.members) - int((~absent).sum())
    if surplus:
        yield f"{surplus:,} in the pack alone"
    doubtful = ~absent & ((rows["changed"] > time) | rows["deflated"] | (rows["length"] != ours["length"])).to_numpy()
    both = zip(iterate_places(rows[doubtful]), iterate_places(ours.assign(path=rows["path"])[doubtful]), strict=True)
    for source, target in both:
        try:
            if read_place(files.root, source) != read_place(packed.root, target):
                yield source.path
        except ImageProblemError:
            yield source.path
