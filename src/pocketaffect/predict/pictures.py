"""Images, folders and films as one stream of pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.images import (
    IMAGE_STARTS,
    IMAGE_SUFFIXES,
    RGB,
    ImageProblemError,
    convert_to_rgb,
    decode_image,
)
from pocketaffect.errors import PocketAffectError
from pocketaffect.names import SYSTEM_FILE

if TYPE_CHECKING:
    from PIL.Image import Image

FILM_SUFFIXES: Final = (
    *(".3gp", ".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"),
    *(".webm", ".wmv", ".y4m"),
)
"""Files whose first bytes say nothing, damaged ones mostly, are taken for films by these, and by IMAGE_SUFFIXES."""

FILM_STARTS: Final = re.compile(
    rb"....(ftyp(?!hei|hev|mif1|msf1|avi[fs])|moov|mdat|wide|free|skip)|RIFF....AVI |\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11"
    rb"|OggS|FLV\x01|YUV4MPEG2 |DKIF|\x00\x00\x01[\xb0-\xbf]|G.{187}G|.{4}G.{191}G|\x06\x0e\x2b\x34",
    re.DOTALL,
)
"""How MP4 and QuickTime (not pictures in their container), AVI, Matroska, ASF, Ogg, FLV, YUV4MPEG, IVF, MPEG streams,
transport streams and MXF start."""

COUNTED_FILMS: Final = re.compile(rb"....(ftyp|moov|mdat|wide|free|skip)|RIFF....AVI ", re.DOTALL)
"""Films that list their frames; the number of the others' is their length times their rate."""

ESTIMATE_SLACK: Final = 0.02
"""Share of such a number that may be missing, one frame in any case: sound often outlasts the frames."""

MOSTLY: Final = 0.8
"""Share of the frames that must follow each other at the film's rate, for the rate to tell their number."""

HEAD_BYTES: Final = 1024
SHOWN: Final = 8

USUAL_RATE: Final = 25.0
"""Frames a second of a film that does not say."""


@dataclass(frozen=True)
class Picture:
    """An image, uint8 [height, width, 3] in RGB, or a film's frame with its number from 0 and its time in seconds.

    `source` is the file; "." of a picture that came as pixels.
    """

    source: Path
    pixels: RGB
    frame: int | None = None
    seconds: float | None = None


class InputProblemError(PocketAffectError):
    """An input that gives no picture; the others are gone on with."""


def find_files(inputs: Iterable[Path], report: Callable[[PocketAffectError], object]) -> list[Path]:
    """Finds the files to read, each once, in the order given; those of a folder by name, with its folders' inside.

    A file is taken whatever it is; of folders images and films, known by their content, without hidden files and what
    systems leave there. `report` is called with what is wrong with an input, and with what of a folder is not taken.
    """
    files: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            files.update(dict.fromkeys(_list_folder(path, report)))
        elif path.exists():
            files[path] = None
        else:
            report(InputProblemError(f"{path}: no such file or folder"))
    return list(files)


def _list_folder(folder: Path, report: Callable[[PocketAffectError], object]) -> list[Path]:
    taken, others, seen = list[Path](), list[Path](), set[str]()

    def refuse(error: OSError) -> None:
        report(InputProblemError(f"{error.filename}: cannot be read", found=error.strerror))

    for place, inside, names in os.walk(folder, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(place))
        inside[:] = [name for name in inside if _is_shown(name) and os.path.realpath(Path(place, name)) not in seen]
        for file in (Path(place, name) for name in names if _is_shown(name)):
            (others if find_kind(file) == "other" else taken).append(file)
    if others:
        named = ", ".join(str(file.relative_to(folder)) for file in sorted(others)[:SHOWN])
        report(
            InputProblemError(
                f"{folder}: {len(others)} file(s) are neither image nor film",
                found=named + ", …" * (len(others) > SHOWN),
                todo="see whether a picture is among them; to leave them out, name the files or move them away",
            )
        )
    elif not taken:
        report(InputProblemError(f"{folder}: no image or film in this folder"))
    return sorted(taken)


def _is_shown(name: str) -> bool:
    return not re.search(SYSTEM_FILE, name)


def find_kind(file: Path) -> Literal["image", "film", "other"]:
    """Finds what a file is by its first bytes, by its suffix where they say nothing; "image" if unreadable."""
    suffix = file.suffix.lower()
    try:
        head = _read_head(file)
    except OSError:
        return "image"  # reading it will say why not
    if FILM_STARTS.match(head) or (suffix in (".mjpeg", ".mjpg") and head.startswith(b"\xff\xd8")):
        return "film"
    if IMAGE_STARTS.match(head) or suffix in IMAGE_SUFFIXES:
        return "image"
    return "film" if suffix in FILM_SUFFIXES else "other"


def _read_head(file: Path) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for ever
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def open_picture(picture: str | Path | RGB | Image) -> Picture:
    """Takes one picture: an image file's path, uint8 [height, width, 3] in RGB, or Pillow's, turned as its Exif says.

    Raises:
        InputProblemError: Something else, a film, or a file that cannot be read.
    """
    if isinstance(picture, str | Path):
        file = Path(picture)
        if find_kind(file) == "film":
            raise InputProblemError(
                f"{file}: a film", allowed="one image", todo="`AffectReader.read_files` reads films"
            )
        return next(read_pictures(file))
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
            return Picture(Path(), picture)
        found = f"{picture.dtype} {list(picture.shape)}"
    else:
        from PIL import Image, ImageOps

        if isinstance(picture, Image.Image) and picture.width and picture.height:
            try:
                return Picture(Path(), convert_to_rgb(ImageOps.exif_transpose(picture)))
            except (ImageProblemError, OSError) as error:  # Pillow reads a file's pixels now
                raise InputProblemError("no usable image", found=error) from None
        found = type(picture).__name__
    allowed = "a path; uint8 [height, width, 3] in RGB; a picture of Pillow's"
    raise InputProblemError("not a picture that can be read", found=found, allowed=allowed)


def read_pictures(file: Path, *, step: int = 1) -> Iterator[Picture]:
    """Reads the picture of an image file, or every `step`-th frame of a film.

    Raises:
        InputProblemError: The file cannot be read, holds no picture, or is a film that ends before its time.
    """
    if find_kind(file) == "film":
        yield from _read_frames(file, step)
        return
    try:
        # In full, as PNG and all else: a JPEG decoded at a smaller size changes one answer in ten.
        yield Picture(file, decode_image(file.read_bytes()).pixels)
    except OSError as error:
        raise InputProblemError(f"{file}: cannot be read", found=error.strerror) from None
    except ImageProblemError as error:
        raise InputProblemError(f"{file}: no usable image", found=error) from None


def _read_frames(file: Path, step: int) -> Iterator[Picture]:
    try:
        head = _read_head(file)  # OpenCV does not say why it cannot open a film
    except OSError as error:
        raise InputProblemError(f"{file}: cannot be read", found=error.strerror) from None
    if not head:
        raise InputProblemError(f"{file}: no usable film", found="empty file")
    film = _open_film(file)
    try:
        number, times = 0, list[float]()
        while film.grab():
            if number % step == 0:
                complete, pixels = film.retrieve()
                if not complete or pixels is None:
                    break
                times.append(_read_seconds(film, number, after=times[-1] if times else -1.0))
                yield Picture(file, np.ascontiguousarray(pixels[..., ::-1]), frame=number, seconds=times[-1])
            number += 1
        if number == 0:
            raise InputProblemError(f"{file}: no usable film", found="not a single frame could be read")
        if expected := _find_shortfall(file, film, head, number, np.diff(times) / step):
            raise InputProblemError(
                f"{file}: a damaged film, which ends early or has a hole",
                found=f"{number} of {expected} frames, which were read",
                todo="copy or download it again",
            )
    finally:
        film.release()


def _find_shortfall(
    file: Path, film: cv2.VideoCapture, head: bytes, read: int, intervals: npt.NDArray[np.float64]
) -> str:
    """Says how many frames a film should have had, where that is more than were read; else an empty string."""
    count, rate = round(film.get(cv2.CAP_PROP_FRAME_COUNT)), film.get(cv2.CAP_PROP_FPS)
    if count <= 0:
        return "an unknown number of" if head.startswith(b"0&\xb2u") else ""  # a whole ASF tells its length
    if COUNTED_FILMS.match(head):
        return f"{count}" if read < count and _count_all(file) < count else ""
    even = np.abs(intervals * rate - 1) < 0.5
    if len(even) and even.mean() < MOSTLY:
        return ""  # the rate is none that a number of frames can be told from
    return f"about {count}" if count - read > max(1, ESTIMATE_SLACK * count) else ""


def _count_all(file: Path) -> int:
    """Frames of an MP4 or QuickTime film, with those that its edit list leaves out: cutting tools trim by it."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    before = os.environ.get(name)
    os.environ[name] = "ignore_editlist;1"
    try:
        film = _open_film(file)
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
    count = 0
    while film.grab():
        count += 1
    film.release()
    return count


def _open_film(file: Path) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its complaints name no file
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # it warns of what is raised here
    try:
        # As bytes: a name that is not UTF-8 ends the process. From the root: FFmpeg takes `concat:a` for a protocol.
        name: Any = os.fsencode(file.absolute())
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    finally:
        logging.setLogLevel(before)


def _read_seconds(film: cv2.VideoCapture, number: int, after: float) -> float:
    """Reads when the current frame is shown.

    Containers that know their length also know their frames' times, which need not be even; of raw streams, FFmpeg
    tells numbers that are none.
    """
    rate = film.get(cv2.CAP_PROP_FPS)
    seconds = film.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if film.get(cv2.CAP_PROP_FRAME_COUNT) > 0 and seconds > after:
        return float(seconds)
    return max(number / (rate if rate > 0 else USUAL_RATE), after)
