"""What may change in a training face beside its place: focus, colour, light, a hidden square, a face blended in."""

import math
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pocketaffect.config import AugmentParams
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION

JPEG_QUALITY: Final = (20, 90)
"""From what messengers leave of a picture to what cameras write."""


def change_focus(face: npt.NDArray[np.uint8], draw: float, augment: AugmentParams) -> None:
    """Blurs a face, uint8 [size, size, 3], in place for the upper half of draws in [0, 1), sharpens it for the lower.

    The limits are the standard deviation of a Gaussian in pixels, and the weight of an unsharp mask of three pixels.
    """
    extent = 2 * draw - 1
    if extent > 0 and augment.blur:
        deviation = extent * augment.blur
        side = 2 * math.ceil(2 * deviation) + 1
        cv2.GaussianBlur(face, (side, side), deviation, dst=face, borderType=cv2.BORDER_REPLICATE)
    elif extent < 0 and augment.sharpen:
        soft = cv2.GaussianBlur(face, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
        cv2.addWeighted(face, 1 - extent * augment.sharpen, soft, extent * augment.sharpen, 0, dst=face)


def change_tint(face: npt.NDArray[np.uint8], draws: npt.NDArray[np.float64], tint: float) -> None:
    """Multiplies each channel of one face, uint8 [size, size, 3], by 1 +- `tint`, in place, cut at white.

    The draws are float64 [3] in [0, 1).
    """
    # A matrix product that OpenCV has vectorised: a tenth of the time of a multiplication by channel.
    cv2.transform(face, np.diag(1 + tint * (2 * draws - 1)).astype(np.float32), dst=face)


def compress_jpeg(face: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Writes uint8 [height, width, 3] in RGB as JPEG of this quality, colour halved, and reads it back."""
    content = cv2.imencode(".jpg", cv2.cvtColor(face, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)


def recompress(face: npt.NDArray[np.uint8], draw: float, share: float) -> None:
    """Compresses one face, uint8 [size, size, 3], by a quality within JPEG_QUALITY, in place.

    It does so where the draw, in [0, 1), is below the share of the faces.
    """
    if draw < share:
        low, high = JPEG_QUALITY
        face[:] = compress_jpeg(face, int(low + (high - low) * draw / share))


def change_tones(pixels: npt.NDArray[np.float32], draws: npt.NDArray[np.float64], augment: AugmentParams) -> None:
    """Scales each image about its mean, by 1 +- contrast, and adds +- brightness; in place, kept within [0, 1].

    Pixels are float32 [n, size, size, 3], draws float64 [n, 2] in [0, 1), for brightness and contrast.
    """
    brightness, contrast = (2 * draws.T - 1).astype(np.float32)[:, :, None, None, None]
    scale = 1 + np.float32(augment.contrast) * contrast
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    pixels *= scale
    pixels += mean * (1 - scale) + np.float32(augment.brightness) * brightness
    np.clip(pixels, 0, 1, out=pixels)


def cut_out(pixels: npt.NDArray[np.float32], draws: npt.NDArray[np.float64], side: float) -> None:
    """Paints a square of each image in its mean colour, in place (DeVries & Taylor 2017, arXiv 1708.04552).

    The square, of `side` as a share of the image's, may have its centre anywhere, so that part of it may lie outside.
    Pixels are float32 [n, size, size, 3], draws float64 [n, 2] in [0, 1): the centre's place across and down.
    """
    size = pixels.shape[1]
    length = round(side * size)
    lefts = (draws * size).astype(np.int64) - length // 2
    for image, (left, top) in zip(pixels, lefts.tolist(), strict=True):
        down, across = slice(max(top, 0), max(top + length, 0)), slice(max(left, 0), max(left + length, 0))
        image[down, across] = image.mean(axis=(0, 1))


class Faces(NamedTuple):
    """Images and labels, as arrays.

    Attributes:
        pixels: float32 [n, size, size, 3] in [0, 1]; uint8 where nothing but warps changes them.
        expression: int64 [n], 0..7 or NO_EXPRESSION.
        valence_arousal: float32 [n, 2], NaN for no label.
        soft: float32 [n, 8], rows of NaN for no soft label.
    """

    pixels: npt.NDArray[Any]
    expression: npt.NDArray[np.int64]
    valence_arousal: npt.NDArray[np.float32]
    soft: npt.NDArray[np.float32]


class Partners(NamedTuple):
    """For each image of a split: the row of the one that it is blended with in an epoch, and its own share, .5 to 1."""

    rows: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]


def draw_partners(generator: np.random.Generator, images: int, alpha: float) -> Partners:
    """Draws mixup's partners (Zhang et al. 2018, arXiv 1710.09412).

    They come from the whole split and not from the batch, so that no image depends on the batch it falls into.

    Shares are Beta(alpha, alpha) distributed, folded: an image keeps the larger one, and its own name.
    """
    rows = generator.integers(0, images, images)
    shares = generator.beta(alpha, alpha, images)
    return Partners(rows, np.maximum(shares, 1 - shares).astype(np.float32))


def mix_faces(own: Faces, other: Faces, shares: npt.NDArray[np.float32]) -> Faces:
    """Blends n faces with their n partners, `shares` float32 [n] being the faces' own.

    A face stays as it is where its partner lacks a label that it has itself. The mixed expression is a soft label.
    """
    targets, their_targets = _distributions(own), _distributions(other)
    has_class, has_va = _labelled(targets), _labelled(own.valence_arousal)
    mixed = (_labelled(their_targets) | ~has_class) & (_labelled(other.valence_arousal) | ~has_va)
    share = np.where(mixed, shares, np.float32(1))[:, None]
    pixels = own.pixels * share[..., None, None] + other.pixels * (1 - share[..., None, None])

    def blend(mine: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.where(mixed[:, None], mine * share + theirs * (1 - share), mine).astype(np.float32)

    soft = np.where((mixed & has_class)[:, None], blend(targets, their_targets), own.soft)
    va = np.where(has_va[:, None], blend(own.valence_arousal, other.valence_arousal), own.valence_arousal)
    return Faces(pixels, own.expression, va, soft)


def _distributions(faces: Faces) -> npt.NDArray[np.float32]:
    """Computes float32 [n, 8]: soft labels, else the class as one, else NaN."""
    hard = np.eye(len(EXPRESSIONS), dtype=np.float32)[np.maximum(faces.expression, 0)]
    hard[faces.expression == NO_EXPRESSION] = np.nan
    return np.where(_labelled(faces.soft)[:, None], faces.soft, hard)


def _labelled(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Finds the rows without NaN, bool [n]."""
    return ~np.asarray(np.isnan(labels).any(axis=1))
