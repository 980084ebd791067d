"""One shard by one worker: faces appended to a file one at a time, and a note that proves the file whole later.

A shard counts as finished when its note says so, its bytes have the note's digest, and its source files are the ones
that it was cut from (device, inode, length and time of change). What a killed run leaves is then either kept or made
again, never trusted by its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pocketaffect.data.shards.memory import (
    COEFFICIENT_BYTES,
    CROP_PIXEL_BYTES,
    OTHER_PIXEL_BYTES,
    MemoryPlan,
    estimate_file_bytes,
    estimate_picture_bytes,
    find_sides,
    refuse_image,
)
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.names import find_on_disk

if TYPE_CHECKING:
    from pocketaffect.data.faces.crop import Align, Eyes, FaceBox
    from pocketaffect.data.release.places import Place

    Face: TypeAlias = tuple[Place, FaceBox | None, Eyes | None]

SHARDS: Final = "shards"
NOTES: Final = "notes"
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ShardSettings:
    """What is the same for all shards: where things are, and how a face is cut."""

    source: Path
    work: Path
    size: int
    margin: float
    align: Align
    memory_mb: int
    plan: MemoryPlan


@dataclass(frozen=True)
class ShardJob:
    """The images of one shard, in its order, each by its place (`places.Place`), face box and eyes."""

    name: str
    paths: tuple[str, ...]
    archives: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    deflated: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float64]
    """[images, 4], NaN where there is none."""
    eyes: npt.NDArray[np.float64]
    """[images, 4], NaN where there are none."""


@dataclass(frozen=True)
class ShardSums:
    """A finished shard: sha256 of its pixels, and their sums as whole numbers, which add up the same in any order."""

    name: str
    digest: str
    images: int
    total: tuple[int, int, int]
    squares: tuple[int, int, int]


def write_shard(settings: ShardSettings, job: ShardJob) -> ShardSums:
    """Writes `work/shards/<name>` and its note, or finds that an earlier run has.

    Raises:
        PocketAffectError: An image that cannot be read any more or is too large for a worker's share of the memory,
            or a full disk.
    """
    from pocketaffect.data.faces.images import ImageProblemError

    header = _make_header(len(job.paths), settings.size)
    file, note = settings.work / SHARDS / job.name, settings.work / NOTES / f"{job.name}.json"
    sources = _identify_sources(settings.source, job)
    if (finished := _read_finished(file, note, header, sources)) is not None:
        return finished
    digest, total, squares = hashlib.sha256(), [0, 0, 0], [0, 0, 0]
    with write_atomically(file) as draft, draft.open("wb") as stream:
        stream.write(header)
        for row, face in enumerate(_list_faces(job)):
            try:
                pixels = _cut_face(settings, job, row, face)
            except (ImageProblemError, ValueError) as error:  # ValueError: the box lies beside the image
                raise PocketAffectError(
                    f"{_name_source(settings.source, job, row)}: {error}",
                    todo="the data changed after validation; repeat `dvc repro`",
                ) from None
            stream.write(pixels.data)
            digest.update(pixels.data)
            _add_pixels(pixels, total, squares)
    sums = ShardSums(
        job.name,
        digest.hexdigest(),
        len(job.paths),
        (total[0], total[1], total[2]),
        (squares[0], squares[1], squares[2]),
    )
    write_json(note, {"sources": sources, "sums": asdict(sums)})
    return sums


def _list_faces(job: ShardJob) -> Iterator[Face]:
    from pocketaffect.data.faces.crop import Eyes, FaceBox
    from pocketaffect.data.release.places import Place

    places = map(Place, job.paths, job.archives, job.offsets.tolist(), job.lengths.tolist(), job.deflated.tolist())
    has_box, has_eyes = (np.isfinite(values).min(axis=1).tolist() for values in (job.boxes, job.eyes))
    boxes = (FaceBox(*box) if given else None for given, box in zip(has_box, job.boxes.tolist(), strict=True))
    eyes = (Eyes(*pair) if given else None for given, pair in zip(has_eyes, job.eyes.tolist(), strict=True))
    return zip(places, boxes, eyes, strict=True)


def _cut_face(settings: ShardSettings, job: ShardJob, row: int, face: Face) -> npt.NDArray[np.uint8]:
    from pocketaffect.data.faces.crop import decode_face
    from pocketaffect.data.release.places import MAX_IMAGE_BYTES, read_place

    place, box, eyes = face
    content = read_place(settings.source, place, limit=min(MAX_IMAGE_BYTES, settings.plan.image_bytes))
    _check_fits(settings, job, row, content)
    try:
        pixels = decode_face(content, box, eyes, margin=settings.margin, size=settings.size, align=settings.align)
    except MemoryError:
        raise PocketAffectError(
            f"{_name_source(settings.source, job, row)}: out of memory while it was decoded",
            todo="lower preprocess.workers in params.yaml, or give the machine or container more memory",
        ) from None
    return np.ascontiguousarray(pixels)


def _check_fits(settings: ShardSettings, job: ShardJob, row: int, content: bytes) -> None:
    """Refuses an image that would take more than this worker's share; the manifest does not tell all about it."""
    from pocketaffect.data.faces.crop import MAX_SIDE
    from pocketaffect.data.faces.images import read_header

    width, height, scales = read_header(content)
    at_most = (OTHER_PIXEL_BYTES + COEFFICIENT_BYTES) * width * height + CROP_PIXEL_BYTES * MAX_SIDE**2
    if at_most + 2 * len(content) <= settings.plan.image_bytes:
        return
    one = slice(row, row + 1)
    widths, heights = np.array([width], dtype=np.float64), np.array([height], dtype=np.float64)
    sides = find_sides(job.boxes[one], job.eyes[one], widths, heights, margin=settings.margin, align=settings.align)
    picture = estimate_picture_bytes(widths, heights, sides, np.array([scales]), size=settings.size)
    need = int(picture[0]) + estimate_file_bytes(content, width, height)
    if need > settings.plan.image_bytes:
        raise refuse_image(
            _name_source(settings.source, job, row), width, height, need, settings.plan, memory_mb=settings.memory_mb
        )


def _add_pixels(face: npt.NDArray[np.uint8], total: list[int], squares: list[int]) -> None:
    import cv2

    # OpenCV sums whole numbers and divides at the end, so that rounding gives the sums back: they stay below 2**36,
    # and a double has 53 bits.
    mean, deviation = cv2.meanStdDev(face)
    pixels = face.shape[0] * face.shape[1]
    for channel in range(3):
        average, spread = float(mean[channel, 0]), float(deviation[channel, 0])
        total[channel] += round(average * pixels)
        squares[channel] += round((spread**2 + average**2) * pixels)


def _make_header(images: int, size: int) -> bytes:
    """The .npy header of uint8 [images, size, size, 3]. Not numpy's save: on a full disk its error does not say so."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (images, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _identify_sources(source: Path, job: ShardJob) -> str:
    """One digest of which files the shard is cut from, without reading them."""
    digest = hashlib.sha256()
    identities: dict[str, bytes] = {}
    for path, archive in zip(job.paths, job.archives, strict=True):
        is_loose = archive == "" or archive.endswith("/")
        name = archive + path if is_loose else archive
        if is_loose or name not in identities:
            identity = _identify(find_on_disk(source, name))
            if is_loose:
                digest.update(identity)
                continue
            identities[name] = identity
        digest.update(identities[name])
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
            digest = hashlib.sha256()
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except (OSError, ValueError, KeyError, TypeError):  # absent, or not whole
        return None
    return sums if digest.hexdigest() == sums.digest else None


def _name_source(source: Path, job: ShardJob, row: int) -> str:
    archive, path = job.archives[row], job.paths[row]
    return f"{source / archive}: {path}" if archive and not archive.endswith("/") else str(source / (archive + path))
