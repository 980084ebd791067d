"""Images, folders and films as one stream of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pocketaffect.data.faces.images import RGB, ImageProblemError, decode_image
from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    import cv2

IMAGE_SUFFIXES: Final = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
VIDEO_SUFFIXES: Final = frozenset(
    (
        ".3gp",
        ".avi",
        ".m4v",
        ".mjpeg",
        ".mjpg",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".ogv",
        ".webm",
        ".wmv",
        ".y4m",
    )
)
"""By their names alone: films have no common first bytes."""

USUAL_RATE: Final = 25.0
"""Frames a second of a film that does not say."""


@dataclass(frozen=True)
class Picture:
    """An image, or one frame of a film.

    Attributes:
        source: The file.
        pixels: uint8 [height, width, 3], RGB.
        content: The file's bytes; None for a frame.
        frame: Number in the film, from 0; None for an image.
        seconds: From the film's start; None for an image.
    """

    source: Path
    pixels: RGB
    content: bytes | None = None
    frame: int | None = None
    seconds: float | None = None


class InputProblemError(PocketAffectError):
    """An input that gives no picture; the others are gone on with."""


def find_files(inputs: Iterable[Path], report: Callable[[PocketAffectError], object]) -> list[Path]:
    """The files to read, each once, in the order given; those of a folder by name, with its folders' inside.

    Args:
        inputs: Files and folders. A file is taken whatever its name, of folders only images and films.
        report: Called with what is wrong with an input.
    """
    files: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if _is_listed(file.relative_to(path)) and file.is_file())
            if not inside:
                report(InputProblemError(f"{path}: no image or film in this folder"))
            files.update(dict.fromkeys(inside))
        elif path.exists():
            files[path] = None
        else:
            report(InputProblemError(f"{path}: no such file or folder"))
    return list(files)


def _is_listed(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def read_pictures(file: Path, *, step: int = 1) -> Iterator[Picture]:
    """The picture of an image file, or every `step`-th frame of a film.

    Raises:
        InputProblemError: The file cannot be read, or holds no picture.
    """
    if file.suffix.lower() in VIDEO_SUFFIXES:
        yield from _read_frames(file, step)
        return
    try:
        content = file.read_bytes()
        yield Picture(file, decode_image(content).pixels, content)
    except OSError as error:
        raise InputProblemError(f"{file}: cannot be read", found=error.strerror) from None
    except ImageProblemError as error:
        raise InputProblemError(f"{file}: no usable image", found=error) from None


def _read_frames(file: Path, step: int) -> Iterator[Picture]:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its complaints name no file
    import cv2

    try:
        with file.open("rb") as stream:  # OpenCV does not say why it cannot open a film
            empty = not stream.read(1)
    except OSError as error:
        raise InputProblemError(f"{file}: cannot be read", found=error.strerror) from None
    if empty:
        raise InputProblemError(f"{file}: no usable film", found="empty file")
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # it warns of what is raised here
    try:
        film = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    finally:
        logging.setLogLevel(before)
    try:
        number, seconds = 0, -1.0
        while film.grab():
            if number % step == 0:
                complete, pixels = film.retrieve()
                if not complete or pixels is None:
                    break
                seconds = _read_seconds(film, number, after=seconds)
                yield Picture(file, np.ascontiguousarray(pixels[..., ::-1]), frame=number, seconds=seconds)
            number += 1
        if number == 0:
            raise InputProblemError(f"{file}: no usable film", found="not a single frame could be read")
    finally:
        film.release()


def _read_seconds(film: cv2.VideoCapture, number: int, after: float) -> float:
    """When the current frame is shown.

    Containers that know their length also know their frames' times, which need not be even; of raw streams, FFmpeg
    tells numbers that are none.
    """
    import cv2

    rate = film.get(cv2.CAP_PROP_FPS)
    seconds = film.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if film.get(cv2.CAP_PROP_FRAME_COUNT) > 0 and seconds > after:
        return float(seconds)
    return max(number / (rate if rate > 0 else USUAL_RATE), after)
