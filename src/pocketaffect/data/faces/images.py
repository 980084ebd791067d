"""Image bytes to RGB arrays, strictly: a damaged file is an error with a reason, never a half-grey picture."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS: Final = 100_000_000
"""Larger images are refused before they are decoded: a 30,000 x 30,000 file of a few kilobytes would take 2.7 GB."""

MAX_SCANS: Final = 500
"""Progressive JPEGs of more scans are refused, as by djpeg's -maxscans 500: each scan, however few its bytes, walks
over the whole image, so that a small file would keep a worker busy for hours. Cameras and encoders write about 10."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may read; some of its other readers start programs (EPS: Ghostscript)."""

IMAGE_STARTS: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II\*\0|MM\0\*|RIFF....WEBP|P[1-6]\s|....ftyp(hei|hev|mif1|msf1|avi[fs])", re.DOTALL
)
"""First bytes of files of FORMATS, and of HEIF and AVIF, of which `decode_image` says that they are not read."""

IMAGE_SUFFIXES: Final = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)

JPEG_EIGHTHS: Final = (1, 2, 4)
"""Sizes a JPEG may be decoded at, in eighths. libjpeg-turbo knows all of 1 to 16, but only these (and the full size)
have SIMD code: 5/8 to 7/8 take longer than the full size, and 3/8 as long as 4/8."""

ORIENTATION_TAG: Final = 0x0112
FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE_MARKERS: Final = frozenset((0xC2, 0xC6, 0xCA, 0xCE))

RGB: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], red first."""


class ImageProblemError(Exception):
    """Why an image file gives no picture; the text goes to the quarantine table."""


@dataclass(frozen=True)
class DecodedImage:
    """A picture as a viewer shows it, perhaps smaller than its file's.

    Attributes:
        pixels: uint8 [height, width, 3], red first.
        width: Width of the file's picture at its full size, turned upright, as is the height.
        scale: Pixels of `pixels` to one of the file's, the same in x and y. Coordinates are multiplied by it.
    """

    pixels: RGB
    width: int
    height: int
    scale: float


def decode_image(content: bytes, *, least_side: int | None = None, face_side: float | None = None) -> DecodedImage:
    """Decodes JPEG with libjpeg-turbo, the other FORMATS with Pillow.

    The picture is turned as its Exif orientation says; so browsers show it and so cv2.imread reads it (since 3.1,
    `IMREAD_IGNORE_ORIENTATION` being off), with which boxes are mostly made. Grey and palette become RGB, CMYK by
    Adobe's inverted convention (as in Pillow and OpenCV, profiles aside), 16 bits become 8, transparency is left out
    (as by cv2.imread), and an animation gives its first frame.

    A JPEG can be decoded at a half, a quarter or an eighth of its size, which saves most of the work but reads every
    byte all the same, so that damage is found as well. What is asked for is a size of the face:

    Args:
        content: The file.
        least_side: Pixels that `face_side` must keep; None decodes at the full size.
        face_side: Side of the square that will be cut, in pixels of the upright picture at its full size; None
            stands for the picture's longer side.

    Raises:
        ImageProblemError: Empty, no image of FORMATS, damaged, over MAX_PIXELS or MAX_SCANS.
    """
    if not content:
        raise ImageProblemError("empty file")
    if content.startswith(b"\xff\xd8"):
        return _decode_jpeg(content, least_side, face_side)
    return _decode_other(content)


def read_header(content: bytes) -> tuple[int, int, bool]:
    """Reads the two sides, not which is which, and whether the file is a JPEG that may be decoded at a smaller size.

    (0, 0, False) where the header is damaged: decoding will say how.
    """
    from PIL import Image

    try:
        with suppress(KeyError, ValueError):  # of simplejpeg, for JPEGs that are given to Pillow
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
            return int(width), int(height), colours not in ("CMYK", "YCCK")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return *Image.open(io.BytesIO(content), formats=FORMATS).size, False
    except Exception:  # as wide as in decode_image, and for its reason
        return 0, 0, False


def _decode_jpeg(content: bytes, least_side: int | None, face_side: float | None) -> DecodedImage:
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        _check_pixels(width, height)
        exif, many_scans = _read_segments(content)
        if many_scans and (scans := content.count(b"\xff\xda")) > MAX_SCANS:
            raise ImageProblemError(f"damaged JPEG: {scans:,} scans, more than {MAX_SCANS}")
        if colour_space in ("CMYK", "YCCK"):
            return _decode_other(content)
        eighths = _choose_eighths(max(width, height), least_side, face_side)
        pixels = simplejpeg.decode_jpeg(
            content,
            colorspace="RGB",
            strict=True,
            # libjpeg rounds up too, so that these are met by the size meant and, from 8 pixels on, by no smaller one.
            min_height=-(-height * eighths // 8),
            min_width=-(-width * eighths // 8),
        )
    except KeyError:  # a chroma subsampling that simplejpeg has no name for
        return _decode_other(content)
    except ValueError as error:
        raise ImageProblemError(f"damaged JPEG: {error}") from None
    return _turn_upright(np.asarray(pixels), width, height, eighths / 8, 1 if exif is None else _read_orientation(exif))


def _choose_eighths(longer_side: int, least_side: int | None, face_side: float | None) -> int:
    if least_side is None:
        return 8
    side = longer_side if face_side is None else min(face_side, longer_side)
    return next((eighths for eighths in JPEG_EIGHTHS if side * eighths / 8 >= least_side), 8)


def _decode_other(content: bytes) -> DecodedImage:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is refused here, or is no harm
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_pixels(*image.size)
            pixels = convert_to_rgb(image)
            exif = image.info.get("exif")
        # TIFF's tag of the same name is not in "exif": Pillow has already turned these.
        orientation = _read_orientation(exif) if isinstance(exif, bytes) and image.format != "TIFF" else 1
        return _turn_upright(pixels, pixels.shape[1], pixels.shape[0], 1.0, orientation)
    except ImageProblemError:
        raise
    except Image.DecompressionBombError:
        raise ImageProblemError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        if b"ftyp" in content[:8] and IMAGE_STARTS.match(content):
            raise ImageProblemError("HEIF or AVIF, which is not read; save it as JPEG or PNG") from None
        raise ImageProblemError(f"not an image (starts with {content[:12]!r})") from None
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly anything
        raise ImageProblemError(f"damaged image: {error or type(error).__name__}") from None


def convert_to_rgb(image: Image) -> RGB:
    """Converts a picture of Pillow's as `decode_image` does.

    Raises:
        ImageProblemError: 32-bit grey.
    """
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if sixteen_bits:  # Pillow's own conversion would clip
        values = np.asarray(image).astype(np.uint32)
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageProblemError("32-bit grey, whose white is not known; save it with 8 or 16 bits")
    return np.asarray(image.convert("RGB"))


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageProblemError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")


def _read_segments(content: bytes) -> tuple[bytes | None, bool]:
    """Reads what stands before a JPEG's first scan: the Exif segment, and whether more scans may follow that one."""
    exif, components, position = None, 0, 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xE1 and exif is None and content.startswith(b"Exif\0\0", position + 4):
            exif = content[position + 4 : end]
        elif marker in FRAME_MARKERS:
            components = int.from_bytes(content[position + 9 : position + 10], "big")
            if marker in PROGRESSIVE_MARKERS:
                components += 1  # more than any scan has
        elif marker == 0xDA:
            return exif, int.from_bytes(content[position + 4 : position + 5], "big") < components
        position = end
    return exif, True


def _read_orientation(exif: bytes) -> int:
    """Reads Exif's number 1 to 8; 1, which is upright, where there is none or the segment is damaged."""
    from PIL import Image

    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.load(exif)
            orientation = tags.get(ORIENTATION_TAG)
    except Exception:  # the picture is sound all the same, and viewers show it
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _turn_upright(pixels: RGB, width: int, height: int, scale: float, orientation: int) -> DecodedImage:
    if orientation >= 5:
        pixels, width, height = pixels.transpose(1, 0, 2), height, width
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return DecodedImage(np.ascontiguousarray(pixels), width, height, scale)
