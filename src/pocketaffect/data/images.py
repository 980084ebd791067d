"""Image files to RGB arrays, strictly: a damaged file is an error with a reason, never a half-grey picture."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg

MAX_PIXELS: Final = 100_000_000
"""Larger images are refused before they are decoded: a 30,000 x 30,000 file of a few kilobytes would take 2.7 GB."""

RGB: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], red first."""


class ImageProblemError(Exception):
    """Why an image file gives no picture; the text goes to the quarantine table."""


def read_image(file: Path) -> RGB:
    """Reads and decodes one file.

    Raises:
        ImageProblemError: Missing, empty, no image, truncated, or over MAX_PIXELS.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ImageProblemError("no such file") from None
    except OSError as error:
        raise ImageProblemError(f"not readable: {error.strerror}") from None
    return decode_image(content)


def decode_image(content: bytes) -> RGB:
    """Decodes JPEG with libjpeg-turbo, all other formats with Pillow; grey and palette images become RGB.

    Raises:
        ImageProblemError: Empty, no image, truncated, or over MAX_PIXELS.
    """
    if not content:
        raise ImageProblemError("empty file")
    if content.startswith(b"\xff\xd8"):
        return _decode_jpeg(content)
    return _decode_other(content)


def _decode_jpeg(content: bytes) -> RGB:
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(content)
        _check_pixels(width, height)
        if colour_space in ("CMYK", "YCCK"):  # libjpeg-turbo gives no RGB for these
            return _decode_other(content)
        return np.asarray(simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True))
    except ValueError as error:
        raise ImageProblemError(f"damaged JPEG: {error}") from None


def _decode_other(content: bytes) -> RGB:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            image = Image.open(io.BytesIO(content))
        _check_pixels(*image.size)
        if image.mode.startswith("I;16") or image.mode in (
            "I",
            "F",
        ):  # 16-bit grey: Pillow's convert would clip
            values = np.asarray(image, dtype=np.float64)
            grey = np.clip(values / 257.0 if values.max(initial=0) > 255 else values, 0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ImageProblemError(f"not an image (starts with {content[:12]!r})") from None
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageProblemError(f"damaged image: {error}") from None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageProblemError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
