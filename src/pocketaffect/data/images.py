"""Image files to RGB arrays, strictly: a damaged file is an error with a reason, never a half-grey picture."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg

MAX_PIXELS: Final = 100_000_000
"""Larger images are refused before they are decoded: a 30,000 x 30,000 file of a few kilobytes would take 2.7 GB."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may read; some of its other readers start programs (EPS: Ghostscript)."""

RGB: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], red first."""


class ImageProblemError(Exception):
    """Why an image file gives no picture; the text goes to the quarantine table."""


def read_image(file: Path) -> RGB:
    """Reads and decodes one file.

    Raises:
        ImageProblemError: Missing, no file, empty, no image of a known format, damaged, or over MAX_PIXELS.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for ever
            raise ImageProblemError("not a file")
        content = file.read_bytes()
    except FileNotFoundError:
        raise ImageProblemError("no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise ImageProblemError(f"not readable: {getattr(error, 'strerror', None) or error}") from None
    return decode_image(content)


def decode_image(content: bytes) -> RGB:
    """Decodes JPEG with libjpeg-turbo, the other FORMATS with Pillow; grey and palette images become RGB.

    Raises:
        ImageProblemError: Empty, no image of FORMATS, damaged, or over MAX_PIXELS.
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
            warnings.simplefilter("ignore")  # Pillow warns of what is refused here, or is no harm
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_pixels(*image.size)
            if image.mode.startswith("I;16"):  # Pillow's own conversion would clip
                grey = np.round(np.asarray(image, dtype=np.float64) / 257).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            if image.mode in ("I", "F"):
                raise ImageProblemError("32-bit grey, whose white is not known; save it with 8 or 16 bits")
            return np.asarray(image.convert("RGB"))
    except ImageProblemError:
        raise
    except Image.DecompressionBombError:
        raise ImageProblemError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageProblemError(f"not an image (starts with {content[:12]!r})") from None
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
        raise ImageProblemError(f"damaged image: {error or type(error).__name__}") from None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageProblemError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
