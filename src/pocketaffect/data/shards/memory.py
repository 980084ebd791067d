"""How `preprocess.memory_mb` is divided, and what decoding one image takes of it.

The sum is an upper bound for all processes of the stage together, whatever the size of the data set:

    what the stage's process holds when it starts (measured)
    + STREAM_BYTES                     the manifest and the index on their way through it
    + for each worker:  WORKER_BYTES   interpreter, numpy, OpenCV, and what malloc keeps between two images
                        QUEUED_JOBS shards' rows, ROW_BYTES each
                        one image      the file, its decoding, the crop: `estimate_picture_bytes`, `estimate_file_bytes`

No shard is held in memory: a worker appends one face after the other to its file. When the largest image of the
manifest does not fit beside `preprocess.workers` others, fewer workers run (the bytes do not depend on their number);
when it does not fit beside one, the stage refuses before it starts.
"""

import math
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import EYE_DISTANCE, LEAST_DETAIL, MAX_SIDE, Align
from pocketaffect.data.faces.images import JPEG_EIGHTHS
from pocketaffect.errors import PocketAffectError

MEGABYTE: Final = 1 << 20
STREAM_BYTES: Final = 96 * MEGABYTE
WORKER_BYTES: Final = 96 * MEGABYTE
ROW_BYTES: Final = 1000
QUEUED_JOBS: Final = 4
"""Jobs of each worker: two are pickled on their way (`pool.IN_FLIGHT_PER_WORKER`), one is worked on, one is made."""

LEAST_IMAGE_BYTES: Final = 16 * MEGABYTE
"""A share that a photograph of a face fits in; with less, a worker is not worth its start."""

JPEG_PIXEL_BYTES: Final = 6
"""Bytes for each pixel of the size decoded at: three, and three more where the picture must be turned."""

COEFFICIENT_BYTES: Final = 8
"""Bytes for each pixel of the full size, where a JPEG comes in several scans: libjpeg then holds all coefficients."""

OTHER_PIXEL_BYTES: Final = 22
"""What Pillow takes for a WebP at the most; 14 for most: its own copy, the converted one, twice three for the array."""

CROP_PIXEL_BYTES: Final = 6
"""The square with its border, and what is resized from it."""

PROGRESSIVE: Final = (b"\xff\xc2", b"\xff\xc6", b"\xff\xca", b"\xff\xce")
"""Markers of progressive frames. A thumbnail in the Exif segment may hold one as well, and is then counted."""


@dataclass(frozen=True)
class MemoryPlan:
    """How many workers run, and the bytes that each may take for one image."""

    workers: int
    image_bytes: int


@dataclass(frozen=True)
class LargestImage:
    """The image of a manifest whose decoding takes the most memory."""

    path: str
    width: int
    height: int
    image_bytes: int


def plan_memory(memory_mb: int, *, workers: int, shard_images: int, largest: LargestImage) -> MemoryPlan:
    """Divides `memory_mb` (2**20 bytes each) for up to `workers` workers.

    Raises:
        PocketAffectError: Not even one worker, or not even the largest image beside one, fits.
    """
    total, held = memory_mb * MEGABYTE, read_memory_held()
    for_rows = QUEUED_JOBS * shard_images * ROW_BYTES

    def need(workers: int, image_bytes: int) -> int:
        return held + STREAM_BYTES + workers * (WORKER_BYTES + for_rows + image_bytes)

    if need(1, LEAST_IMAGE_BYTES) > total:
        raise PocketAffectError(
            "preprocess.memory_mb: too little for one worker",
            found=f"{memory_mb}",
            allowed=f"{_megabytes(need(1, LEAST_IMAGE_BYTES))} or more with preprocess.shard_images {shard_images:,}",
            todo="raise preprocess.memory_mb in params.yaml"
            + (", or lower preprocess.shard_images" if for_rows > WORKER_BYTES else ""),
        )
    wanted = max(LEAST_IMAGE_BYTES, largest.image_bytes)
    if need(1, wanted) > total:
        raise refuse_image(largest, MemoryPlan(1, total - need(1, 0)), memory_mb)
    running = next(count for count in range(workers, 0, -1) if need(count, wanted) <= total)
    return MemoryPlan(running, (total - need(running, 0)) // running)


def describe_lack(memory_mb: int, plan: MemoryPlan, *, workers: int, largest: LargestImage) -> str:
    """Says why fewer workers run than asked for, and what would let all of them run."""
    wanted = max(LEAST_IMAGE_BYTES, largest.image_bytes)
    spare = plan.image_bytes - wanted
    more = (workers - plan.workers) * (WORKER_BYTES + wanted) - plan.workers * spare
    return (
        f"{plan.workers} of {workers} workers fit into preprocess.memory_mb {memory_mb}: {largest.path} "
        f"({largest.width} x {largest.height}) takes up to {_megabytes(largest.image_bytes)} MB; "
        f"{memory_mb + _megabytes(more)} would do for all"
    )


def refuse_image(image: LargestImage, plan: MemoryPlan, memory_mb: int) -> PocketAffectError:
    """Makes the error for an image whose decoding does not fit into a worker's share."""
    missing = plan.workers * (image.image_bytes - plan.image_bytes)
    fewer = " or lower preprocess.workers" if plan.workers > 1 else ""
    return PocketAffectError(
        f"{image.path}: too large to decode within preprocess.memory_mb",
        found=f"{image.width} x {image.height} pixels, up to {_megabytes(image.image_bytes)} MB",
        allowed=f"{plan.image_bytes // MEGABYTE} MB for an image ({memory_mb} MB, workers: {plan.workers})",
        todo=f"raise preprocess.memory_mb in params.yaml to {memory_mb + _megabytes(missing)}{fewer}, "
        "or leave the image out of the list",
    )


@dataclass(frozen=True)
class FaceSides:
    """Sides of the squares that decide how each image is decoded and cut, in its own pixels: float64 [n]."""

    least: npt.NDArray[np.float64]
    """The smaller one of the squares by box and by eyes: `images.decode_image` keeps enough pixels for it."""
    largest: npt.NDArray[np.float64]


def find_sides(
    boxes: npt.NDArray[np.float64],
    eyes: npt.NDArray[np.float64],
    widths: npt.NDArray[np.float64],
    heights: npt.NDArray[np.float64],
    *,
    margin: float,
    align: Align,
) -> FaceSides:
    """Finds the squares' sides, as `crop.decode_face` takes them, of many images at once.

    Boxes and eyes are [n, 4], NaN for none; widths and heights [n], of the images.
    """
    box = boxes[:, 2:].max(axis=1)
    distance = np.hypot(eyes[:, 2] - eyes[:, 0], eyes[:, 3] - eyes[:, 1])
    distance = np.where((align == "eyes") & np.isfinite(distance), distance, np.nan)
    whole = np.maximum(widths, heights)
    by_box, by_eyes = box * (1 + 2 * margin), distance / EYE_DISTANCE * (1 + 2 * margin)
    least, largest = np.fmin(by_box, by_eyes), np.fmax(by_box, by_eyes)
    return FaceSides(np.fmin(least, whole), np.where(np.isnan(largest), whole, largest))


def estimate_picture_bytes(
    widths: npt.NDArray[np.float64],
    heights: npt.NDArray[np.float64],
    sides: FaceSides,
    is_jpeg: npt.NDArray[np.bool_],
    *,
    size: int,
) -> npt.NDArray[np.float64]:
    """Estimates an upper bound of the memory that each image takes from its decoder to its face: float64 [n].

    A JPEG counts as one of a single scan; `estimate_file_bytes` adds what only the file tells.
    """
    scale = np.ones(len(widths))
    for eighths in sorted(JPEG_EIGHTHS, reverse=True):
        scale[is_jpeg & (sides.least * eighths / 8 >= math.ceil(LEAST_DETAIL * size))] = eighths / 8
    pixel_bytes = np.where(is_jpeg, float(JPEG_PIXEL_BYTES), float(OTHER_PIXEL_BYTES))
    crop = np.minimum(sides.largest * scale, MAX_SIDE) ** 2
    need: npt.NDArray[np.float64] = pixel_bytes * (widths * scale + 1) * (heights * scale + 1) + CROP_PIXEL_BYTES * crop
    return need


def estimate_file_bytes(content: bytes, width: int, height: int) -> int:
    """Estimates what reading a file takes beside its pixels: its bytes, and a JPEG's coefficients in several scans."""
    is_jpeg = content.startswith(b"\xff\xd8")
    several = is_jpeg and (any(mark in content for mark in PROGRESSIVE) or content.count(b"\xff\xda") > 1)
    return 2 * len(content) + (COEFFICIENT_BYTES * width * height if several else 0)


def read_memory_held() -> int:
    """Reads how many bytes of memory this process holds now; where the system does not tell, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _megabytes(number: int) -> int:
    return -(-number // MEGABYTE)
