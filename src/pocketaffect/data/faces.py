"""From a decoded image and a face box to the square the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from pocketaffect.data.images import RGB

MAX_SIDE: Final = 4096
"""Larger squares are cut from a smaller copy of the image: a panorama's, padded, would not fit into memory."""


@dataclass(frozen=True)
class FaceBox:
    """Face box in pixels, AffectNet's convention: upper left corner, then sides."""

    x: float
    y: float
    width: float
    height: float


def crop_face(image: RGB, box: FaceBox | None, *, margin: float, size: int) -> RGB:
    """Cuts the square around the box's centre and resizes it.

    The square's side is the box's longer side, plus `margin` of it at each end; where it leaves the image, the
    border pixels go on. A square keeps a face's proportions, and is what an app's face detector gives most easily.

    Args:
        image: uint8 [height, width, 3].
        box: None takes the whole image.
        margin: Share of the box's longer side.
        size: Pixels a side of the result.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    if box is None:
        box = FaceBox(0, 0, width, height)
    if max(box.width, box.height) * (1 + 2 * margin) > MAX_SIDE:
        image, box = _shrink(image, box, MAX_SIDE / (max(box.width, box.height) * (1 + 2 * margin)))
        height, width = image.shape[:2]
    # From 2 pixels on, a square whose centre lies on the image also shares pixels with it.
    side = max(2, round(max(box.width, box.height) * (1 + 2 * margin)))
    left = round(box.x + box.width / 2 - side / 2)
    top = round(box.y + box.height / 2 - side / 2)
    inside = image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if inside.size == 0:
        raise ValueError(f"face box {box} does not touch the {width} x {height} image")
    before_y, before_x = max(0, -top), max(0, -left)
    after_y, after_x = max(0, top + side - height), max(0, left + side - width)
    if before_y or before_x or after_y or after_x:
        inside = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)
    # Averaging over areas when shrinking keeps what a plain bilinear sample would alias.
    method = cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inside, (size, size), interpolation=method), dtype=np.uint8)


def _shrink(image: RGB, box: FaceBox, factor: float) -> tuple[RGB, FaceBox]:
    height, width = image.shape[:2]
    smaller = (max(1, round(width * factor)), max(1, round(height * factor)))
    across, down = smaller[0] / width, smaller[1] / height
    small = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return small, FaceBox(box.x * across, box.y * down, box.width * across, box.height * down)
