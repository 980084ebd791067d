"""The tars of a pack: plain, uncompressed, and the same bytes for the same files."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pocketaffect.data.release.places import BLOCK
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
