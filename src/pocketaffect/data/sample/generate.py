"""Writes the embedded sample: drawn faces in AffectNet's CSV layout, byte for byte the same everywhere."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pocketaffect.data.sample import MARK
from pocketaffect.data.sample.annotations import SPLITS, UNCERTAIN_CODE, Annotation, plan_labels, sample_annotation
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.portrait import Picture, draw_portrait, draw_scene
from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.local import map_in_order
from pocketaffect.files import write_atomically

if TYPE_CHECKING:
    from pocketaffect.config import SampleParams


IMAGE_FOLDER: Final = "Manually_Annotated_Images"
ARCHIVE: Final = f"{IMAGE_FOLDER}.tar"
"""Holds all images: DVC looks at each file of each stage that reads the data, even when nothing is to be done."""

HEADER: Final = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
_SUBFOLDERS: Final = 16
_NOTE: Final = """# Drawn faces, no photographs
{train} training and {validation} validation pictures in AffectNet's CSV layout, made by `pocketaffect.data.sample` from
facial action units with seed {seed}. They exercise the pipeline; a model trained on them knows drawings.
"""


@dataclass(frozen=True)
class Row:
    """One row to draw: its split's position in SPLITS, its place there from 0, and AffectNet's code 0..10."""

    split: int
    index: int
    label: int


def generate_sample(root: Path, params: SampleParams, workers: int = 2) -> None:
    """Draws the sample into a folder, which appears when it is complete; an older sample is replaced.

    Writes SAMPLE.md, training.csv, validation.csv and Manually_Annotated_Images.tar, whose members are
    Manually_Annotated_Images/<1..16>/<sha224 of the file>.bmp.

    Bytes do not depend on `workers`, the number of processes. With two or more, the calling script needs the usual
    `if __name__ == "__main__"`.

    Raises:
        PocketAffectError: `root` holds something else than a sample, or cannot be written.
    """
    _refuse_foreign_folder(root)
    note = _NOTE.format(train=params.train_images, validation=params.validation_images, seed=params.seed)
    with write_atomically(root) as draft:
        draft.mkdir()
        (draft / MARK).write_text(note, encoding="utf-8", newline="\n")
        _write_splits(draft, params, workers)


def draw_row(seed: int, row: Row) -> tuple[Picture, Annotation]:
    """Draws one row; nothing but seed and row decides the result."""
    draws = Draws(seed, row.split, row.index)
    annotation = sample_annotation(draws, row.label)
    if annotation.units is None:
        return draw_scene(draws), annotation
    return draw_portrait(draws, annotation.units, poor=row.label == UNCERTAIN_CODE), annotation


def _write_splits(root: Path, params: SampleParams, workers: int) -> None:
    counts = (params.train_images, params.validation_images)
    plans = [plan_labels(name, count, params.seed) for name, count in zip(SPLITS, counts, strict=True)]
    rows = [Row(split, index, label) for split, plan in enumerate(plans) for index, label in enumerate(plan)]
    lines: tuple[list[str], ...] = tuple([HEADER] for _ in SPLITS)
    drawn = map_in_order(partial(_encode_row, params.seed), rows, workers=workers)
    with closing(drawn), tarfile.open(root / ARCHIVE, "w", format=tarfile.USTAR_FORMAT) as archive:
        for row, (path, content, line) in zip(rows, drawn, strict=True):
            member = tarfile.TarInfo(f"{IMAGE_FOLDER}/{path}")  # its owner and its time are 0, unless told otherwise
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            lines[row.split].append(line)
    for name, listed in zip(SPLITS, lines, strict=True):
        (root / f"{name}.csv").write_text("\n".join([*listed, ""]), encoding="utf-8", newline="\n")


def _encode_row(seed: int, row: Row) -> tuple[str, bytes, str]:
    """Draws a row's path, file content and CSV line."""
    picture, annotation = draw_row(seed, row)
    content = encode_bitmap(picture.pixels)
    digest = hashlib.sha224(content).hexdigest()
    path = f"{int(digest[:4], 16) % _SUBFOLDERS + 1}/{digest}.bmp"
    points = "" if picture.landmarks is None else ";".join(f"{value:.1f}" for value in picture.landmarks.ravel())
    valence, arousal = (_number(value) for value in annotation.valence_arousal)
    box = ",".join(str(value) for value in picture.box)
    return path, content, f"{path},{box},{points},{annotation.label},{valence},{arousal}"


def encode_bitmap(pixels: np.ndarray) -> bytes:
    """Encodes uint8 RGB pixels of shape (height, width, 3) as an uncompressed 24-bit BMP file.

    JPEG and PNG bytes depend on the encoder's build; these depend on nothing, so that the sample's hash in `data.dvc`
    holds on every machine. Own code, since OpenCV may change the header fields it fills.
    """
    height, width = pixels.shape[:2]
    stride = (width * 3 + 3) // 4 * 4
    rows = np.zeros((height, stride), dtype=np.uint8)
    rows[:, : width * 3] = pixels[::-1, :, ::-1].reshape(height, width * 3)
    offset = 54
    file_header = struct.pack("<2sIHHI", b"BM", offset + rows.nbytes, 0, 0, offset)
    info_header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.nbytes, 2835, 2835, 0, 0)
    return file_header + info_header + rows.tobytes()


def _number(value: float) -> str:
    """Writes a number as AffectNet does: missing values as -2, others with decimals."""
    return "-2" if value == -2 else f"{value:.4f}"


def _refuse_foreign_folder(root: Path) -> None:
    """Refuses to replace anything but an older sample."""
    ours = {IMAGE_FOLDER, ARCHIVE, MARK, *(f"{name}.csv" for name in SPLITS)}
    if root.is_dir():
        foreign = sorted(entry.name for entry in root.iterdir() if entry.name not in ours)
    else:
        foreign = [root.name] if root.exists() else []
    if foreign:
        raise PocketAffectError(
            f"{root}: holds something else than a generated sample",
            found=", ".join(foreign[:5]),
            allowed=", ".join(sorted(ours)),
            todo="move it away or name another folder",
        )
