"""What else may change in a training face: its light, and a square of it that is hidden."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pocketaffect.config import AugmentParams


def change_tones(pixels: npt.NDArray[np.float32], draws: npt.NDArray[np.float64], augment: AugmentParams) -> None:
    """Scales each image about its mean, by 1 +- contrast, and adds +- brightness; in place, kept within [0, 1].

    Args:
        pixels: float32 [n, size, size, 3] in [0, 1].
        draws: float64 [n, 2] in [0, 1), for brightness and contrast.
        augment: The limits.
    """
    brightness, contrast = (2 * draws.T - 1).astype(np.float32)[:, :, None, None, None]
    scale = 1 + np.float32(augment.contrast) * contrast
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    pixels *= scale
    pixels += mean * (1 - scale) + np.float32(augment.brightness) * brightness
    np.clip(pixels, 0, 1, out=pixels)


def cut_out(pixels: npt.NDArray[np.float32], draws: npt.NDArray[np.float64], side: float) -> None:
    """Paints a square of each image in its mean colour, in place (DeVries & Taylor 2017, arXiv 1708.04552).

    The square's centre may be anywhere in the image, so that part of it may lie outside.

    Args:
        pixels: float32 [n, size, size, 3].
        draws: float64 [n, 2] in [0, 1), the centre's place across and down.
        side: Of the square, as a share of the image's.
    """
    size = pixels.shape[1]
    length = round(side * size)
    lefts = (draws * size).astype(np.int64) - length // 2
    for image, (left, top) in zip(pixels, lefts.tolist(), strict=True):
        down, across = slice(max(top, 0), max(top + length, 0)), slice(max(left, 0), max(left + length, 0))
        image[down, across] = image.mean(axis=(0, 1))
