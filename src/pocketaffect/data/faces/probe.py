"""Looks at every listed image once, in worker processes: does it decode, how large is it, what does its face look like.

What it finds is kept in columns, a few dozen bytes an image, however many there are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.crop import FaceBox, cut_square, place_square
from pocketaffect.data.faces.images import DecodedImage, ImageProblemError, decode_image, read_header
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.executor.local import map_in_order
from pocketaffect.labels import BOX_COLUMNS, PLACE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd  # half of a worker's start

CHUNK: Final = 256
"""Images a job: a tenth of a second or so."""

LARGE_PIXELS: Final = 1 << 24
"""A larger picture is left to the calling process, which decodes one at a time: of the pictures that may take
hundreds of MB, no two are in memory together, whatever the number of workers."""

HASH_FACE_SIDE: Final = 64
"""Pixels a side of the face that is hashed."""

HASH_LEAST_SIDE: Final = 96
"""Pixels a side that the face is decoded at. With 48, the hashes of LFW's faces differ from those of the full decode
in 3 bits in the median, instead of 0, and so do those of one picture saved at two sizes."""


@dataclass(frozen=True)
class Probes:
    """What the listed images turned out to be, in the order of the rows.

    Attributes:
        problem: str [n], why there is no usable image; empty where there is one.
        width: int32 [n], pixels of the upright picture, as the height; 0 where there is a problem.
        face_hash: uint64 [n, 4], see `hash_face`; zeros where there is a problem, or a box beside the picture.
    """

    problem: npt.NDArray[np.object_]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    face_hash: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Chunk:
    """Some rows' places, by the fields of `places.Place`, and boxes: float64 [n, 4]."""

    places: list[tuple[str, str, int, int, bool]]
    boxes: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Found:
    """A chunk's part of the probes; `problems` by position in the chunk, `large` the positions not yet decoded."""

    problems: dict[int, str]
    large: list[int]
    sides: npt.NDArray[np.int32]
    hashes: npt.NDArray[np.uint64]


def probe_images(
    root: Path, rows: pd.DataFrame, *, workers: int, progress: Callable[[int], object] | None = None
) -> Probes:
    """Decodes the image of every row of `layouts.read_annotations`, with `workers` processes, which decide nothing.

    Paths that leave the data folder `root` are never opened; their problem says so. `progress` is called with how many
    more images are done.

    Raises:
        PocketAffectError: A worker was killed.
    """
    count = len(rows)
    problem = np.full(count, "", dtype=object)
    sides = np.zeros((count, 2), dtype=np.int32)
    face_hash = np.zeros((count, 4), dtype=np.uint64)
    start = 0
    workers = min(workers, max(1, math.ceil(count / CHUNK)))
    chunks = (_cut(rows, start, start + CHUNK) for start in range(0, count, CHUNK))
    with closing(map_in_order(partial(_probe_chunk, root), chunks, workers=workers)) as results:
        for found in results:
            end = start + len(found.sides)
            for position in found.large:
                row = start + position
                alone = _probe_chunk(root, _cut(rows, row, row + 1), most_pixels=math.inf)
                found.sides[position], found.hashes[position] = alone.sides[0], alone.hashes[0]
                if alone.problems:
                    found.problems[position] = alone.problems[0]
            sides[start:end], face_hash[start:end] = found.sides, found.hashes
            for position, text in found.problems.items():
                problem[start + position] = sys.intern(text)  # a million times "no such file" is one string
            if progress is not None:
                progress(end - start)
            start = end
    return Probes(problem, sides[:, 0].copy(), sides[:, 1].copy(), face_hash)


def hash_face(image: DecodedImage, box: FaceBox | None) -> npt.NDArray[np.uint64]:
    """Computes the difference hash of a face: where grey grows from left to right.

    256 bits: each of 16 x 16 fields against its left neighbour, of the grey face shrunk to 17 x 16 (Krawetz, "Kind of
    like that", 2013, with four times his bits). Brightness, contrast, size and compression hardly change it. The image
    is decoded with at least HASH_FACE_SIDE pixels across the face; a box is in pixels of the picture at its full size.

    Returns:
        uint64 [4]; zeros for a box that does not touch the picture, as for a picture of one colour.
    """
    try:
        square = place_square(image.width, image.height, box, None, margin=0, align="none")
    except ValueError:
        return np.zeros(4, dtype=np.uint64)
    face = cut_square(image.pixels, square.scaled(image.scale), HASH_FACE_SIDE)
    fields = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    return np.packbits(fields[:, 1:] > fields[:, :-1]).view(">u8").astype(np.uint64)


def _cut(rows: pd.DataFrame, start: int, end: int) -> _Chunk:
    part = rows.iloc[start:end]
    places = zip(*(part[name].tolist() for name in PLACE_COLUMNS), strict=True)
    return _Chunk(list(places), part[list(BOX_COLUMNS)].to_numpy(dtype=np.float64))


def _probe_chunk(root: Path, chunk: _Chunk, *, most_pixels: float = LARGE_PIXELS) -> _Found:
    count = len(chunk.places)
    found = _Found({}, [], np.zeros((count, 2), dtype=np.int32), np.zeros((count, 4), dtype=np.uint64))
    for position, (place, numbers) in enumerate(zip(chunk.places, chunk.boxes, strict=True)):
        box = FaceBox(*numbers.tolist()) if np.isfinite(numbers).all() else None
        side = None if box is None else max(box.width, box.height)
        try:
            content = read_place(root, Place(*place))
            if math.prod(read_header(content)[:2]) > most_pixels:
                found.large.append(position)
                continue
            image = decode_image(content, least_side=HASH_LEAST_SIDE, face_side=side)
        except ImageProblemError as error:
            found.problems[position] = str(error)
            continue
        found.sides[position] = image.width, image.height
        found.hashes[position] = hash_face(image, box)
    return found
