"""What the tests of packing share."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.data.release.places import Place, read_place

PART = 30_000
PROGRESS = ".pack-progress.json"


def contents(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def pictures(folder: Path) -> dict[str, bytes]:
    """Every picture that the rows name, by its path."""
    rows = read_annotations(DataFolder.open(folder)).rows
    columns = (rows[name] for name in ("path", "archive", "offset", "length", "deflated"))
    return {place[0]: read_place(folder, Place(*place)) for place in zip(*columns, strict=True)}
