"""Lists tar and zip archives: where each member's bytes are, so that they are read in place and never unpacked."""

import os
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa

from pocketaffect.data.release.members import Members
from pocketaffect.data.release.places import BLOCK, LOCAL_HEADER, NO_FILE
from pocketaffect.errors import PocketAffectError

COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\x00": "unxz",
    b"(\xb5/\xfd": "unzstd",
}
"""First bytes of compressed files, and the program that takes the compression off."""

ENCRYPTED: Final = 0x1
"""A zip's flag."""

MAX_OFFSET: Final = 1 << 63
"""Files are shorter; the directory of a damaged zip may say otherwise."""

MAX_HEADER_BYTES: Final = 1 << 20
"""A longer extended header of a tar is no name: it would be read into memory whole."""

EXTENDED_HEADERS: Final = (b"x", b"g", b"X", b"L", b"K")


def scan_archive(file: Path) -> pa.Table:
    """Lists an archive.

    Returns:
        path (as a relative path, `./` taken off), offset, length (bytes in the archive), deflated; in its order.

    Raises:
        PocketAffectError: Compressed as a whole, encrypted, truncated, or not an archive at all.
    """
    with file.open("rb") as stream:
        start = stream.read(8)
        for magic, command in COMPRESSED.items():
            if start.startswith(magic):
                raise refuse_compressed(file, f"`{command}`")
        return _scan_zip(file, stream) if file.suffix.lower() == ".zip" else _scan_tar(file, stream)


def refuse_compressed(file: Path, command: str) -> PocketAffectError:
    """Makes the error for an archive that is compressed as a whole; `command` takes the compression off."""
    return PocketAffectError(
        f"{file}: a compressed archive, in which no image can be found without unpacking all before it",
        allowed="uncompressed .tar, or .zip",
        todo=f"take the compression off with {command} so that a .tar is left; if its files lie here unpacked, "
        "move it out of the data folder",
    )


def _broken(file: Path, found: object) -> PocketAffectError:
    return PocketAffectError(
        f"{file}: truncated or damaged archive", found=found, todo="copy or download this archive again"
    )


def _scan_tar(file: Path, stream: BinaryIO) -> pa.Table:
    members = Members()
    end = os.fstat(stream.fileno()).st_size
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            tar.offset = 0
            while True:
                position = tar.offset
                header = os.pread(stream.fileno(), BLOCK, position)
                if len(header) < BLOCK:  # a whole one ends with blocks of zeros
                    raise _broken(file, f"it ends at byte {end:,} without the mark of a tar's end")
                if not (_add_plain(tar, header, members) or _add_other(tar, header, members)):
                    return members.finish()
                if not position < tar.offset <= end:
                    raise _broken(file, f"a member at byte {position:,} that goes on past byte {end:,}, the end")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise _broken(file, f"{error} (read as tar)") from None


def _add_plain(tar: tarfile.TarFile, header: bytes, members: Members) -> bool:
    """Adds a member of the form that nearly all have, in a tenth of the time that tarfile takes; False for others."""
    size = header[124:135]
    if header[156] != ord("0") or header[257:262] != b"ustar" or not size.isdigit() or tar.pax_headers:
        return False
    checksum = int(header[148:156].split(b"\x00")[0], 8)
    # Half of Adler-32 is one plus the sum of all bytes; a tar's sum counts its own field as eight spaces.
    if zlib.adler32(header) & 0xFFFF != (1 + checksum - 256 + sum(header[148:156])) % 65521:
        return False
    name = header[:100].split(b"\x00", 1)[0]
    if header[345] and header[262] == 0:  # GNU tar uses the field of the folder otherwise
        name = header[345:500].split(b"\x00", 1)[0] + b"/" + name
    start, length = tar.offset + BLOCK, int(size, 8)
    members.add(name.decode("utf-8", "surrogateescape"), start, length)
    tar.offset = start + -(-length // BLOCK) * BLOCK
    return True


def _add_other(tar: tarfile.TarFile, header: bytes, members: Members) -> bool:
    """Adds a member of any kind, long names put together; False at the archive's end."""
    if not any(header):
        return False
    size = header[124:136].strip(b" \x00")
    if header[156:157] in EXTENDED_HEADERS and not (size.isdigit() and int(size, 8) <= MAX_HEADER_BYTES):
        raise tarfile.HeaderError(f"an extended header of more than {MAX_HEADER_BYTES:,} bytes")
    tar.fileobj.seek(tar.offset)
    member = tarfile.TarInfo.fromtarfile(tar)
    if member.size < 0:
        raise tarfile.HeaderError("a member with a negative length")
    if not member.isdir():
        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        members.add(member.name, member.offset_data if plain else NO_FILE, member.size)
    return True


def _scan_zip(file: Path, stream: BinaryIO) -> pa.Table:
    """Lists a zip; zipfile takes about a kilobyte of memory a member meanwhile."""
    members = Members()
    try:
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    _refuse_member(file, member)
                    plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
                    offset = _find_data(stream, member) if plain else NO_FILE
                    deflated = member.compress_type == zipfile.ZIP_DEFLATED
                    members.add(member.orig_filename, offset, member.compress_size, deflated=deflated)
    # ValueError: a name that is not the UTF-8 it claims to be; NotImplementedError: a version from the future.
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _broken(file, f"{error} (read as zip)") from None
    return members.finish()


def _refuse_member(file: Path, member: zipfile.ZipInfo) -> None:
    if member.volume:
        raise PocketAffectError(
            f"{file}: one part of a split archive",
            found=f"{member.filename!r} in part {member.volume + 1}",
            allowed="one whole .zip",
            todo=f"join the parts: `zip -s 0 {file.name} --out whole.zip`",
        )
    if member.flag_bits & ENCRYPTED:
        raise PocketAffectError(
            f"{file}: encrypted", found=repr(member.filename), todo="unpack it with its password, without encryption"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PocketAffectError(
            f"{file}: a compression that is not read here",
            found=f"{member.filename!r} by method {member.compress_type}",
            allowed="stored (0), or deflate (8)",
            todo="unpack it and pack its files again with `zip -r`, or leave them unpacked",
        )


def _find_data(stream: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Finds where a member's data starts: its own header may be longer than the directory says."""
    place = member.header_offset
    header = os.pread(stream.fileno(), LOCAL_HEADER.size, place) if 0 <= place < MAX_OFFSET else b""
    if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise zipfile.BadZipFile(f"no member at byte {place:,}, where {member.filename!r} should be")
    *_, name, extra = LOCAL_HEADER.unpack(header)
    return place + LOCAL_HEADER.size + int(name) + int(extra)
