"""Where the bytes of one listed file are, and how they are read: never anything outside the data folder."""

import errno
import os
import re
import stat
import struct
import tarfile
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.names import find_on_disk, restore_name

DVC_CACHE_FILE: Final = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""Target of links that may lead out of the data folder: `cache.type = symlink` makes DVC fill the folder with them."""

MAX_IMAGE_BYTES: Final = 1 << 28
"""A larger file is no photograph of a face; an archive's member of a few kilobytes may claim to be one."""

NO_FILE: Final = -1
ODD_NAME: Final = -2
REPEATED: Final = -3
ALSO_LOOSE: Final = -4
REFUSALS: Final = {
    NO_FILE: "archive member is no plain file (a link, a device or a sparse file)",
    ODD_NAME: "archive member's name is not a plain path below the data folder",
    REPEATED: "more than one archive member of this name",
    ALSO_LOOSE: "both in an archive and as a loose file",
}
"""Meanings of negative offsets."""

LOCAL_HEADER: Final = struct.Struct("<4s2xH6xL8xHH")
"""The header in front of a member: signature, flags, CRC-32, lengths of the name and of what else follows."""

BLOCK: Final = tarfile.BLOCKSIZE
CELL_SIDE: Final = 48
"""Pixels a side of FER2013's pictures."""

MAX_OPEN_ARCHIVES: Final = 128
CHANGED: Final = "archive changed since it was scanned"


@dataclass(frozen=True)
class Place:
    """Where the bytes of one listed file are."""

    path: str
    """Path below the data folder, as lists have it: `Manually_Annotated_Images/1/a.jpg`, `train_set/images/0.jpg`."""
    archive: str = ""
    """The archive's path below the data folder; empty for a loose file. Where one folder stands around a whole loose
    data set: that folder, with its slash."""
    offset: int = 0
    """Where the member's data starts in the archive; negative: a member that is not opened (`REFUSALS`)."""
    length: int = 0
    """Bytes in the archive."""
    deflated: bool = False
    """A zip's member that is compressed."""

    @property
    def is_loose(self) -> bool:
        """Whether it is a file of its own."""
        return self.archive == "" or self.archive.endswith("/")

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell of a table: the picture's pixels as numbers."""
        return self.archive.lower().endswith(".csv")

    @property
    def is_zipped(self) -> bool:
        """Whether it is in a zip, deflated or not."""
        return self.archive.lower().endswith(".zip")


def describe_path_problem(path: str) -> str:
    """Says why a listed path may not be opened; an empty string where it may.

    A path must stay below the data folder: a list from elsewhere must not make us read other files. The same
    goes for paths in Windows' spelling.
    """
    parts = path.replace("\\", "/").split("/")
    if "\x00" in path:
        return "path holds a NUL byte"
    if (parts[0] == "" and len(parts) > 1) or ".." in parts or path[1:2] == ":":
        return "path leaves the data folder"
    if parts[-1] in ("", ".", "?"):
        return "path without a file name"
    return ""


def read_place(root: Path, place: Place, *, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """Reads one listed file, loose or from its archive, below the data folder `root`.

    Archives stay open between calls, a few in each process. The member's header in front of the data is read along
    with it: an archive that changed since it was scanned gives an error, not other bytes.

    Raises:
        ImageProblemError: It cannot be read, may not be, or has more than `limit` bytes; the text says which.
    """
    file = open_holder(root, place)
    if place.is_loose:
        return file.read(0, _check_length(file.length, limit))
    _check_length(place.length, limit)
    room = measure_header(place)
    content = file.read(place.offset - room, room + place.length)
    if len(content) < room + place.length:
        raise ImageProblemError(CHANGED)
    checksum = check_header(content[:room], place)
    data = content[room:]
    if place.deflated:
        data = _inflate(data, limit)
    if checksum is not None and zlib.crc32(data) != checksum:
        raise ImageProblemError("damaged archive member (its checksum is another)")
    return _draw_cell(data) if place.is_cell else data


def _draw_cell(cell: bytes) -> bytes:
    """Turns FER2013's 48 x 48 grey levels, written as numbers, into a picture's file (PGM)."""
    numbers = cell.strip(b' "').split()
    if len(numbers) != CELL_SIDE**2:
        raise ImageProblemError(f"{len(numbers):,} pixels, where {CELL_SIDE} x {CELL_SIDE} are {CELL_SIDE**2:,}")
    try:
        return b"P5 %d %d 255\n" % (CELL_SIDE, CELL_SIDE) + bytes(map(int, numbers))
    except ValueError:
        raise ImageProblemError("pixels that are not whole numbers from 0 to 255") from None


def _check_length(length: int, limit: int) -> int:
    if length > limit:
        raise ImageProblemError(f"{length:,} bytes, more than {limit:,}")
    return length


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise ImageProblemError(f"damaged archive member ({error})") from None
    _check_length(len(content), limit)
    if not inflater.eof:
        raise ImageProblemError("damaged archive member (it ends too early)")
    return content


class OpenFile:
    """A descriptor that is closed when its last user lets go of it.

    Positions are given with each read, so that threads and forked processes do not disturb each other.
    """

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for ever
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageProblemError("not a file")
        self.length = status.st_size
        self.identity = _identify(status)

    def read(self, start: int, length: int) -> bytes:
        """Reads up to `length` bytes; fewer only at the file's end.

        Raises:
            ImageProblemError: The disk or network has a fault.
        """
        try:
            content = os.pread(self.descriptor, length, start)
            while len(content) < length:  # one call reads at most 2 GB
                more = os.pread(self.descriptor, length - len(content), start + len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise ImageProblemError(f"not readable: {error.strerror or error}") from None
        return content

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


_archives: OrderedDict[tuple[str, str], OpenFile] = OrderedDict()
_archives_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_archives_lock=threading.Lock()))


def _identify(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_inside(root: Path, path: str) -> Path:
    """Finds the real file that `path` below `root` leads to.

    Raises:
        ImageProblemError: Not below `root` once links are followed, unless into DVC's cache.
    """
    if problem := describe_path_problem(path):
        raise ImageProblemError(problem)
    folder = _find_real_folder(str(root))
    parent, _, name = find_on_disk(root, path).rpartition("/")
    target = f"{_find_real_folder(parent)}/{name}"
    if os.path.islink(target):  # noqa: PTH114  half of a Path's price, a million times
        target = os.path.realpath(target)
    if not target.startswith(folder.rstrip("/") + "/") and not DVC_CACHE_FILE.search(target):
        raise ImageProblemError("symbolic link leaves the data folder")
    return Path(target)


@lru_cache(maxsize=1024)
def _find_real_folder(folder: str) -> str:
    """Finds where a folder really is. Kept: a data set's folders are few, and asking takes a call for each part."""
    return os.path.realpath(folder)  # unlike Path.resolve, no error for links that go round in a circle


def open_holder(root: Path, place: Place) -> OpenFile:
    """Opens the loose file itself, or the archive that has it.

    Raises:
        ImageProblemError: The path may not be opened, or there is no such file.
    """
    problem = describe_path_problem(place.path)
    if problem or place.offset < 0:
        raise ImageProblemError(problem or REFUSALS.get(place.offset, "not opened"))
    try:
        if place.is_loose:
            return OpenFile(check_inside(root, place.archive + place.path))
        return _open_archive(root, place.archive)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageProblemError("no such file" if place.is_loose else f"no such archive: {place.archive}") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise ImageProblemError("not a file") from None  # a socket
        raise ImageProblemError(f"not readable: {error.strerror or error}") from None


def _open_archive(root: Path, name: str) -> OpenFile:
    key = (str(root), name)
    with _archives_lock:
        archive = _archives.get(key)
        if archive is None or archive.identity != _identify(os.stat(find_on_disk(root, name))):  # noqa: PTH116  a Path is slower
            archive = _archives[key] = OpenFile(check_inside(root, name))
        _archives.move_to_end(key)
        if len(_archives) > MAX_OPEN_ARCHIVES:
            _archives.popitem(last=False)
        return archive


def measure_header(place: Place) -> int:
    """Measures how many bytes in front of a member's data are to be read along with it."""
    if place.is_cell:
        return 0
    if place.is_zipped:
        return min(place.offset, LOCAL_HEADER.size + len(place.path.encode()) + 4 * BLOCK)
    return min(place.offset, BLOCK)


def check_header(before: bytes, place: Place) -> int | None:
    """Holds the bytes in front of a member's data against what is known of it.

    Returns:
        The data's CRC-32 where the header has it.

    Raises:
        ImageProblemError: It is not that member's header.
    """
    if place.is_cell:  # nothing stands in front of it: the number of its pixels tells
        return None
    if not place.is_zipped:
        if not _is_tar_header(before, place):
            raise ImageProblemError(CHANGED)
        return None
    start = len(before)
    while (start := before.rfind(b"PK\x03\x04", 0, start)) >= 0:
        if len(before) - start < LOCAL_HEADER.size:
            continue
        _, flags, checksum, name, extra = LOCAL_HEADER.unpack_from(before, start)
        end = start + LOCAL_HEADER.size + name
        if end + extra == len(before) and _ends_alike(before[start + LOCAL_HEADER.size : end], place.path):
            return None if flags & 0x08 else int(checksum)  # 0x08: it stands behind the data
    raise ImageProblemError(CHANGED)


def _is_tar_header(header: bytes, place: Place) -> bool:
    if len(header) < BLOCK or header[156:157] not in (b"0", b"\0", b"7"):
        return False
    if re.fullmatch(rb"[0-7]+", size := header[124:136].strip(b" \0")) and int(size, 8) != place.length:
        return False
    name = header[:100].split(b"\0")[0]
    return len(name) >= 99 or _ends_alike(name, place.path)  # a longer name is not told here in full


def _ends_alike(name: bytes, path: str) -> bool:
    """Tells whether one is the other's end, whole folders taken: either may have more of them in front."""
    if not restore_name(path).isascii():
        return True  # archives spell other letters in several ways
    short, long = sorted((b"/" + name.removeprefix(b"./"), b"/" + path.encode()), key=len)
    return long.endswith(short)
