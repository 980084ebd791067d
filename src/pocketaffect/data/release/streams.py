"""One listed file as a stream, loose or from its archive: a list of a million rows need not be held whole."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, Final

from pocketaffect.data.release.places import OpenFile, Place, check_header, measure_header, open_holder
from pocketaffect.errors import PocketAffectError

BLOCK_BYTES: Final = 1 << 20


def open_place(root: Path, place: Place, limit: int) -> io.BufferedReader:
    """Opens one listed file as a stream.

    Raises:
        ImageProblemError: As `read_place`.
        PocketAffectError: By the stream's methods: it is damaged, or has more than `limit` bytes.
    """
    file, checksum = open_holder(root, place), None
    if not place.is_loose:
        room = measure_header(place)
        checksum = check_header(file.read(place.offset - room, room), place)
    return io.BufferedReader(_Stream(file, place, limit, checksum), BLOCK_BYTES)


class _Stream(io.RawIOBase):
    def __init__(self, file: OpenFile, place: Place, limit: int, checksum: int | None) -> None:
        self._file, self._name = file, f"{place.path} in {place.archive}" if place.archive else place.path
        self._position = 0 if place.is_loose else place.offset
        self._end = self._position + (file.length if place.is_loose else place.length)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if place.deflated else None
        self._limit = self._left = limit
        self._expected, self._checksum = checksum, 0

    def _refuse(self, found: str) -> PocketAffectError:
        return PocketAffectError(f"{self._name}: not readable", found=found)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self._inflate(len(view)) if self._inflater else self._read(len(view))
        self._left -= len(content)
        if self._left < 0:
            raise self._refuse(f"more than {self._limit:,} bytes")
        self._checksum = zlib.crc32(content, self._checksum)
        if not content and len(view) and self._expected not in (None, self._checksum):
            raise self._refuse("damaged archive member (its checksum is another)")
        view[: len(content)] = content
        return len(content)

    def _read(self, length: int) -> bytes:
        content = self._file.read(self._position, min(length, self._end - self._position))
        if not content and self._position < self._end and length:
            raise self._refuse("it ends too early")
        self._position += len(content)
        return content

    def _inflate(self, length: int) -> bytes:
        inflater = self._inflater
        while inflater is not None and not inflater.eof:
            data = inflater.unconsumed_tail or self._read(BLOCK_BYTES)
            try:
                content = inflater.decompress(data, length)
            except zlib.error as error:
                raise self._refuse(f"damaged archive member ({error})") from None
            if content:
                return content
            if not data:
                raise self._refuse("damaged archive member (it ends too early)")
        return b""
