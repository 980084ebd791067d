"""One shard by one worker: faces appended to a file one at a time, and a note that proves the file whole later.

A shard counts as finished when its note says so, its bytes have the note's digest, and its source files are the ones
that it was cut from (device, inode, length and time of change). What a killed run leaves is then either kept or made
again, never trusted by its name.
"""

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import MAX_SIDE, Align, Eyes, FaceBox, decode_face
from pocketaffect.data.faces.images import ImageProblemError, read_header
from pocketaffect.data.release.places import MAX_IMAGE_BYTES, Place, read_place
from pocketaffect.data.shards import memory
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.names import find_on_disk

SHARDS: Final = "shards"
NOTES: Final = "notes"


@dataclass(frozen=True)
class ShardSettings:
    """What is the same for all shards: where things are, and how a face is cut."""

    source: Path
    work: Path
    size: int
    margin: float
    align: Align
    memory_mb: int
    plan: memory.MemoryPlan
    grey: bool = False
    """Whether training faces lose their colour."""


@dataclass(frozen=True)
class ShardJob:
    """The images of one shard, in its order."""

    name: str
    places: list[tuple[str, str, int, int, bool]]
    """The fields of `places.Place`."""
    boxes: npt.NDArray[np.float64]
    """[images, 4], NaN where there is none."""
    eyes: npt.NDArray[np.float64]
    """[images, 4], NaN where there are none."""
    trains: bool = True
    """False for faces of the validation split, which stay as a camera gives them."""


@dataclass(frozen=True)
class ShardSums:
    """A finished shard: sha256 of its pixels, and their sums as whole numbers, which add up the same in any order."""

    name: str
    digest: str
    images: int
    total: tuple[int, int, int]
    squares: tuple[int, int, int]
    grey: bool
    """Whether no pixel has a colour."""


def write_shard(settings: ShardSettings, job: ShardJob) -> ShardSums:
    """Writes `work/shards/<name>` and its note, or finds that an earlier run has.

    Raises:
        PocketAffectError: An image that cannot be read any more or is too large for a worker's share of the memory,
            or a full disk.
    """
    header = _make_header(len(job.places), settings.size)
    file, note = settings.work / SHARDS / job.name, settings.work / NOTES / f"{job.name}.json"
    sources = _identify_sources(settings.source, job)
    if (finished := _read_finished(file, note, header, sources)) is not None:
        return finished
    digest, total, squares, grey = hashlib.sha256(), [0, 0, 0], [0, 0, 0], True
    with write_atomically(file) as draft, draft.open("wb") as stream:
        stream.write(header)
        for place, box, eyes in zip(job.places, job.boxes, job.eyes, strict=True):
            pixels = _cut_face(settings, Place(*place), box, eyes)
            if settings.grey and job.trains:
                pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            grey = grey and bool((pixels == pixels[:, :, :1]).all())
            stream.write(pixels.data)
            digest.update(pixels.data)
            _add_pixels(pixels, total, squares)
    sums = ShardSums(
        job.name,
        digest.hexdigest(),
        len(job.places),
        (total[0], total[1], total[2]),
        (squares[0], squares[1], squares[2]),
        grey,
    )
    write_json(note, {"sources": sources, "sums": asdict(sums)})
    return sums


def _cut_face(
    settings: ShardSettings, place: Place, box: npt.NDArray[np.float64], eyes: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    source = place.path
    source = (
        str(settings.source / place.archive / source)
        if place.is_loose
        else f"{settings.source / place.archive}: {source}"
    )
    try:
        content = read_place(settings.source, place, limit=min(MAX_IMAGE_BYTES, settings.plan.image_bytes))
        _check_fits(settings, source, content, box, eyes)
        pixels = decode_face(
            content,
            FaceBox(*box.tolist()) if np.isfinite(box).all() else None,
            Eyes(*eyes.tolist()) if np.isfinite(eyes).all() else None,
            margin=settings.margin,
            size=settings.size,
            align=settings.align,
        )
    except MemoryError:
        raise PocketAffectError(
            f"{source}: out of memory while it was decoded",
            todo="lower preprocess.workers in params.yaml, or give the machine or container more memory",
        ) from None
    except (ImageProblemError, ValueError) as error:  # ValueError: the box lies beside the image
        raise PocketAffectError(
            f"{source}: {error}", todo="the data changed after validation; repeat `dvc repro`"
        ) from None
    return np.ascontiguousarray(pixels)


def _check_fits(
    settings: ShardSettings, source: str, content: bytes, box: npt.NDArray[np.float64], eyes: npt.NDArray[np.float64]
) -> None:
    """Refuses an image that would take more than this worker's share; the manifest does not tell all about it."""
    width, height, scales = read_header(content)
    at_most = (
        memory.OTHER_PIXEL_BYTES + memory.COEFFICIENT_BYTES
    ) * width * height + memory.CROP_PIXEL_BYTES * MAX_SIDE**2
    if at_most + 2 * len(content) <= settings.plan.image_bytes:
        return
    widths, heights = np.array([width], dtype=np.float64), np.array([height], dtype=np.float64)
    sides = memory.find_sides(box[None], eyes[None], widths, heights, margin=settings.margin, align=settings.align)
    picture = memory.estimate_picture_bytes(widths, heights, sides, np.array([scales]), size=settings.size)
    need = int(picture[0]) + memory.estimate_file_bytes(content, width, height)
    if need > settings.plan.image_bytes:
        raise memory.refuse_image(memory.LargestImage(source, width, height, need), settings.plan, settings.memory_mb)


def _add_pixels(face: npt.NDArray[np.uint8], total: list[int], squares: list[int]) -> None:
    # OpenCV sums whole numbers and divides at the end, so that rounding gives the sums back: they stay below 2**36,
    # and a double has 53 bits.
    mean, deviation = cv2.meanStdDev(face)
    pixels = face.shape[0] * face.shape[1]
    for channel in range(3):
        average, spread = float(mean[channel, 0]), float(deviation[channel, 0])
        total[channel] += round(average * pixels)
        squares[channel] += round((spread**2 + average**2) * pixels)


def _make_header(images: int, size: int) -> bytes:
    """Makes the .npy header of uint8 [images, size, size, 3]. Not numpy's save: its error hides a full disk."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (images, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _identify_sources(source: Path, job: ShardJob) -> str:
    """Digests which files the shard is cut from, without reading them."""
    digest = hashlib.sha256()
    archives: dict[str, bytes] = {}
    for path, archive, *_ in job.places:
        if archive == "" or archive.endswith("/"):
            digest.update(_identify(find_on_disk(source, archive + path)))
            continue
        if archive not in archives:
            archives[archive] = _identify(find_on_disk(source, archive))
        digest.update(archives[archive])
    return digest.hexdigest()


def _identify(file: str) -> bytes:
    try:
        status = os.stat(file)  # noqa: PTH116  half of a Path's price, a million times
    except (OSError, ValueError):  # reading it will say what is wrong
        return b"missing;"
    return b"%d %d %d %d;" % (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read_finished(file: Path, note: Path, header: bytes, sources: str) -> ShardSums | None:
    try:
        content: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if content["sources"] != sources:
            return None
        sums = ShardSums(**content["sums"])
        with file.open("rb") as stream:
            if stream.read(len(header)) != header:
                return None
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not whole
        return None
    return sums if digest == sums.digest else None
