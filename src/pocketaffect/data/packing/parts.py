"""The tars of a pack, plain and the same bytes for the same files, and its table, which spares listing them."""

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pocketaffect.data.release.places import BLOCK
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file
from pocketaffect.names import restore_name

RECORD: Final = tarfile.RECORDSIZE
"""A tar's length is a multiple of this."""


@dataclass(frozen=True)
class Part:
    """A finished tar of a pack."""

    name: str
    bytes: int
    sha256: str
    members: int

    def is_intact(self, target: Path) -> bool:
        """Tells whether it lies in `target` as it was written; reads all of it."""
        file = target / self.name
        return file.is_file() and file.stat().st_size == self.bytes and hash_file(file) == self.sha256


class PartWriter:
    """Writes a tar member by member, without anything of the machine or the moment in it."""

    def __init__(self, name: str, stream: BinaryIO, limit: int) -> None:
        self._name, self._stream, self._limit = name, stream, limit
        self._digest = hashlib.sha256()
        self._length = self._members = 0

    def add(self, path: str, content: bytes) -> bool:
        """Adds a file; False, and nothing done, where the tar is full. A first file is always taken."""
        member = tarfile.TarInfo(restore_name(path))
        member.size = len(content)
        header = member.tobuf(tarfile.PAX_FORMAT, "utf-8")
        padding = bytes(-len(content) % BLOCK)
        grown = self._length + len(header) + len(content) + len(padding)
        if self._members and _round_up(grown) > self._limit:
            return False
        for piece in (header, content, padding):
            self._write(piece)
        self._members += 1
        return True

    def _write(self, piece: bytes) -> None:
        self._stream.write(piece)
        self._digest.update(piece)
        self._length += len(piece)

    def close(self) -> Part:
        """Writes the end mark, and says what was written."""
        self._write(bytes(_round_up(self._length) - self._length))
        return Part(self._name, self._length, self._digest.hexdigest(), self._members)


def _round_up(length: int) -> int:
    return -(-(length + 2 * BLOCK) // RECORD) * RECORD


PACK_FILE: Final = "pack.json"
PACK_TABLE: Final = "pack.parquet"
PACK_PROGRESS: Final = ".pack-progress.json"
"""Is there until a pack is whole."""

PART_NAME: Final = re.compile(r"images-\d{5,}\.tar")


def read_pack(folder: Path) -> dict[str, pa.Table]:
    """Reads the members of each part, by the part's name: path, offset, length, deflated.

    Raises:
        PocketAffectError: A part is missing or of another length, or the pack's own files changed.
    """
    file = folder / PACK_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {str(part["name"]): int(part["bytes"]) for part in content["parts"]}
        size, digest = int(content["members"]["bytes"]), content["members"]["sha256"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _not_a_pack(file, repr(error)) from None
    for name in parts:
        if not PART_NAME.fullmatch(name):
            raise _not_a_pack(file, f"a part {name!r}")
        _check_length(folder / name, parts[name])
    _check_length(folder / PACK_TABLE, size)
    table_bytes = (folder / PACK_TABLE).read_bytes()
    if hashlib.sha256(table_bytes).hexdigest() != digest:
        raise PocketAffectError(f"{folder / PACK_TABLE}: changed since it was packed", todo="copy the pack again")
    table = pq.read_table(io.BytesIO(table_bytes))
    numbers = pc.index_in(table["archive"].cast(pa.string()), value_set=pa.array(list(parts))).to_numpy()
    ends = np.searchsorted(numbers, np.arange(len(parts) + 1))
    whole = table.select(["offset", "length"]).add_column(0, "path", table["path"].cast(pa.large_string()))
    whole = whole.append_column("deflated", pa.array(np.zeros(len(table), bool)))
    return {name: whole.slice(ends[row], ends[row + 1] - ends[row]) for row, name in enumerate(parts)}


def _not_a_pack(file: Path, found: str) -> PocketAffectError:
    return PocketAffectError(
        f"{file}: not what `pocketaffect data pack` writes", found=found, todo="pack anew into an empty folder"
    )


def _check_length(file: Path, size: int) -> None:
    found = file.stat().st_size if file.is_file() else None
    if found != size:
        raise PocketAffectError(
            f"{file}: a part of the pack is {'missing' if found is None else 'of another length'}",
            found="no such file" if found is None else f"{found:,} bytes",
            allowed=f"{size:,} bytes, as {PACK_FILE} says",
            todo="copy this part again, or pack anew",
        )
