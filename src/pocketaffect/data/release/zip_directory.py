"""Reads a zip's central directory record by record.

The standard library's zipfile makes an object of each: the 1.5 million files of AffectNet's 8-label release would take
1.2 GB. Names and numbers are taken as it takes them (PKWARE's APPNOTE.TXT, 4.3), split and encrypted archives apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple
from zipfile import BadZipFile

_RECORD: Final = struct.Struct("<4s4xHH8xLLHHH4xLL")
_END: Final = struct.Struct("<4sHHHHLLH")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4s12xLLQQQQ")
_MAX_COMMENT: Final = 0xFFFF
_IN_EXTRA: Final = 0xFFFFFFFF
_BLOCK: Final = 1 << 20

ENCRYPTED: Final = 0x1
UTF8: Final = 0x800


class SplitZipError(BadZipFile):
    """The archive goes on in other files."""


class ZipMember(NamedTuple):
    """What the directory says of a member."""

    name: str
    flags: int
    method: int
    mode: int
    """Unix mode; 0 where another system made the archive."""
    length: int
    """Bytes in the archive."""
    start: int
    """Start of the member's own header."""


class _Directory(NamedTuple):
    start: int
    length: int
    members: int
    before: int
    """Bytes that were put in front of the archive: places are counted from behind them."""


def read_directory(stream: BinaryIO) -> Iterator[ZipMember]:
    """Reads the members, in the directory's order; none of them is a folder.

    Raises:
        BadZipFile: No zip, or a damaged one.
        SplitZipError: One file of several.
    """
    directory = _find_directory(stream.fileno())
    found, position, rest = 0, directory.start, b""
    end = directory.start + directory.length
    while position < end:
        block = os.pread(stream.fileno(), min(_BLOCK, end - position), position)
        if not block:
            raise BadZipFile("it ends within its directory")
        position += len(block)
        rest += block
        used = 0
        while (record := _read_record(rest, used)) is not None:
            member, used = record
            found += 1
            if member.start + directory.before + member.length > directory.start:
                raise BadZipFile(f"{member.name!r} goes on past the end of the members")
            if not member.name.endswith("/"):
                yield member._replace(start=member.start + directory.before)
        rest = rest[used:]
    if rest or found != directory.members:
        raise BadZipFile(f"its directory has {found:,} members of {directory.members:,}")


def _find_directory(file: int) -> _Directory:
    length = os.fstat(file).st_size
    tail_start = max(0, length - _END.size - _MAX_COMMENT)
    tail = os.pread(file, length - tail_start, tail_start)
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    if at < 0:
        raise BadZipFile("no directory at its end")
    _, disk, first_disk, here, members, size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    locator = os.pread(file, _END64_LOCATOR.size, max(0, end - _END64_LOCATOR.size))
    if locator.startswith(b"PK\x06\x07") and len(locator) == _END64_LOCATOR.size:
        if _END64_LOCATOR.unpack(locator)[3] > 1:
            raise SplitZipError("it has several parts")
        end -= _END64_LOCATOR.size + _END64.size
        record = os.pread(file, _END64.size, max(0, end))
        if len(record) < _END64.size or not record.startswith(b"PK\x06\x06"):
            raise BadZipFile("no directory at its end")
        _, disk, first_disk, here, members, size, start = _END64.unpack(record)
    if disk or first_disk or here != members:
        raise SplitZipError(f"it is part {disk + 1} of several")
    before = end - size - start
    if before < 0:
        raise BadZipFile("its directory starts before the file does")
    return _Directory(start + before, size, members, before)


def _read_record(block: bytes, start: int) -> tuple[ZipMember, int] | None:
    """Reads the record at `start`, and where the next one starts; None where the block ends within it."""
    if len(block) - start < _RECORD.size:
        return None
    signature, flags, method, length, size, name, extra, comment, attributes, at = _RECORD.unpack_from(block, start)
    if signature != b"PK\x01\x02":
        raise BadZipFile("a damaged directory")
    name_end = start + _RECORD.size + name
    end = name_end + extra + comment
    if end > len(block):
        return None
    if _IN_EXTRA in (size, length, at):
        length, at = _read_long(block[name_end : name_end + extra], size, length, at)
    text = block[start + _RECORD.size : name_end]
    decoded = text.decode("utf-8", "surrogateescape") if flags & UTF8 or text.isascii() else text.decode("cp437")
    return ZipMember(decoded, flags, method, attributes >> 16, length, at), end


def _read_long(extra: bytes, size: int, length: int, start: int) -> tuple[int, int]:
    """Reads length in the archive and place, where they do not fit into 32 bits."""
    while len(extra) >= 4:
        kind, count = struct.unpack_from("<HH", extra)
        if kind == 1:
            wanted = [value == _IN_EXTRA for value in (size, length, start)]
            if count < 8 * sum(wanted) or len(extra) < 4 + 8 * sum(wanted):
                break
            values = iter(struct.unpack_from(f"<{sum(wanted)}Q", extra, 4))
            _, length, start = (
                next(values) if is_long else value for is_long, value in zip(wanted, (size, length, start), strict=True)
            )
            return length, start
        extra = extra[4 + count :]
    raise BadZipFile("a member whose length is missing")
