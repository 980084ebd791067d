"""A picture of the sample for people: faces of each class side by side."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import cv2
import numpy as np

from pocketaffect.data.sample.generate import ARCHIVE, IMAGE_FOLDER
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, OTHER_EXPRESSIONS

_NAME_WIDTH = 96


def contact_sheet(root: Path, per_class: int = 8, size: int = 96, split: str = "training") -> np.ndarray:
    """Face crops of the sample, one line per label code with its name.

    Args:
        root: The sample's folder.
        per_class: Faces per line, the first of each class in the CSV's order.
        size: Side of a face in pixels.
        split: Which CSV: training or validation.

    Returns:
        uint8 RGB of shape (11 * size, 96 + per_class * size, 3).

    Raises:
        PocketAffectError: An image of the CSV cannot be read.
    """
    names = (*EXPRESSIONS, *OTHER_EXPRESSIONS)
    sheet = np.full((len(names) * size, _NAME_WIDTH + per_class * size, 3), 255, dtype=np.uint8)
    filled = [0] * len(names)
    for code, name in enumerate(names):
        place = (4, code * size + size // 2)
        cv2.putText(sheet, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    with (root / f"{split}.csv").open(encoding="utf-8", newline="") as lines, tarfile.open(root / ARCHIVE) as archive:
        for row in csv.DictReader(lines):
            code = int(row["expression"])
            if filled[code] < per_class:
                left = _NAME_WIDTH + filled[code] * size
                sheet[code * size : (code + 1) * size, left : left + size] = _read_face(archive, row, size)
                filled[code] += 1
            if min(filled) == per_class:
                break
    return sheet


def _read_face(archive: tarfile.TarFile, row: dict[str, str], size: int) -> np.ndarray:
    path = f"{IMAGE_FOLDER}/{row['subDirectory_filePath']}"
    stored = archive.extractfile(path)
    image = None if stored is None else cv2.imdecode(np.frombuffer(stored.read(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise PocketAffectError(f"{ARCHIVE}: {path} is no readable image", todo="generate the sample again")
    x, y, width, height = (int(row[f"face_{name}"]) for name in ("x", "y", "width", "height"))
    face = image[y : y + height, x : x + width, ::-1]
    shrinking = min(width, height) > size
    resized: np.ndarray = cv2.resize(
        np.ascontiguousarray(face), (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
    return resized
