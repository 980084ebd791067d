"""Photograph-like JPEGs of AffectNet's sizes with face boxes, and their manifest: what the data benchmarks read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pocketaffect.data.shards.manifest import NEEDED_COLUMNS
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS, SOFT_COLUMNS

BOX_SHARE = 0.77
"""Of the shorter side. A box of AffectNet's in code that a user published, `134,134,899,899`, begins 0.15 of its side
from the image's corner on both sides; with as much behind it, it takes 0.77 of the image."""

QUALITY = 90
"""Gives 0.30 bytes a pixel. What users write of AffectNet (420 thousand images in 55 GB, faces of 425 px in the mean,
standard deviation 349) makes 0.26, if those are the sides of the boxes."""


@dataclass(frozen=True)
class Folder:
    """A data folder with `count` images, the first tenth of them validation, and its manifest."""

    source: Path
    manifest: Path
    paths: list[str]
    boxes: np.ndarray
    sizes: np.ndarray


def make_folder(
    root: Path,
    count: int,
    *,
    least: int = 300,
    most: int = 700,
    box_share: float = BOX_SHARE,
    quality: int = QUALITY,
    repeat: int = 1,
) -> Folder:
    """Draws `count` images below `root / "data"`; with `repeat`, each gets so many names (hard links)."""
    generator = np.random.default_rng(2018)
    source = root / "data"
    paths, boxes, sizes = [], [], []
    for number in range(count):
        height, width = (int(side) for side in generator.integers(least, most + 1, 2))
        file = source / f"{number % 100:02d}" / f"{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), draw_photograph(width, height, generator), [cv2.IMWRITE_JPEG_QUALITY, quality])
        side = box_share * min(width, height)
        box = (
            *(round((length - side) * generator.uniform(0.3, 0.7)) for length in (width, height)),
            round(side),
            round(side),
        )
        for copy in range(repeat):
            name = file if copy == 0 else file.with_name(f"{number:06d}-{copy:04d}.jpg")
            if copy:
                os.link(file, name)
            paths.append(str(name.relative_to(source)))
            boxes.append(box)
            sizes.append((width, height))
    folder = Folder(source, root / "manifest.parquet", paths, np.array(boxes, dtype=float), np.array(sizes))
    write_manifest(folder)
    return folder


def draw_photograph(width: int, height: int, generator: np.random.Generator) -> np.ndarray:
    """uint8 [height, width, 3] whose amplitudes fall with spatial frequency as a photograph's (1 / f), some grain.

    At quality 90 it takes about as many bytes a pixel as a photograph of that size (0.2 to 0.4), which is what
    decoding costs.
    """
    side = 768
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        phases = generator.uniform(0, 2 * np.pi, frequency.shape)
        planes.append(np.fft.irfft2(np.exp(1j * phases) / frequency**1.4, (side, side))[:height, :width])
    grey, blue, red = (plane / plane.std() for plane in planes)
    channels = [120 + 48 * grey + 14 * tint for tint in (blue, 0 * grey, red)]
    grain = generator.normal(0, 1, (height, width, 1))
    return (np.stack(channels, axis=2) + grain).clip(0, 255).astype(np.uint8)


def write_manifest(folder: Folder) -> None:
    """As the validate stage keeps rows, with random labels."""
    count = len(folder.paths)
    generator = np.random.default_rng(7)
    validation = np.arange(count) < max(1, count // 10)
    nothing = np.full(count, np.nan, dtype=np.float32)
    columns = {
        "list": np.where(validation, "validation.csv", "training.csv"),
        "split": np.where(validation, "validation", "train"),
        "path": folder.paths,
        "archive": [""] * count,
        "offset": np.zeros(count, np.int64),
        "length": np.zeros(count, np.int64),
        "deflated": np.zeros(count, bool),
        **dict(zip(BOX_COLUMNS, folder.boxes.T, strict=True)),
        **dict.fromkeys(EYE_COLUMNS, nothing),
        "image_width": folder.sizes[:, 0].astype(np.int32),
        "image_height": folder.sizes[:, 1].astype(np.int32),
        "expression": generator.integers(0, 8, count).astype(np.int8),
        "valence": generator.uniform(-1, 1, count).astype(np.float32),
        "arousal": generator.uniform(-1, 1, count).astype(np.float32),
        **dict.fromkeys(SOFT_COLUMNS, nothing),
        "warnings": [""] * count,
    }
    pq.write_table(pa.table({name: pa.array(columns[name]) for name in NEEDED_COLUMNS}), folder.manifest)


def describe_machine() -> str:
    """Processor, cores and load: the machines are shared."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, load {load}"
