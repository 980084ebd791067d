"""Thousands of spoilt image files: each gives a picture or a reason, none an error of another kind or a long wait."""

from __future__ import annotations

import io
import time
from collections import Counter

import numpy as np
import pytest
from affectnet_copies import picture
from PIL import Image

from pocketaffect.data.faces import images
from pocketaffect.data.faces.images import ImageProblemError, decode_image

LONGEST_SECONDS = 5.0  # of the processor: a guard against endless decoding that a busy machine does not trip
COLOURS = Image.fromarray(picture(1, 60, 44))
SECOND = Image.fromarray(picture(2, 60, 44))
ODD_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xD9, 0xDA, 0xE1, 0xFE, 0xFF)


def encode(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def orientation(number: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = number
    return tags.tobytes()


SIXTEEN_BITS = Image.fromarray(np.arange(60 * 44, dtype=np.uint16).reshape(44, 60) * 20)
FRAMES = {"save_all": True, "append_images": [SECOND]}
SEEDS = {
    "jpeg": encode(COLOURS, "JPEG", quality=90),
    "jpeg progressive": encode(COLOURS, "JPEG", quality=90, progressive=True),
    "jpeg grey": encode(COLOURS.convert("L"), "JPEG"),
    "jpeg cmyk": encode(COLOURS.convert("CMYK"), "JPEG"),
    "jpeg exif": encode(COLOURS, "JPEG", exif=orientation(6)),
    "png": encode(COLOURS, "PNG", exif=orientation(8)),
    "png palette": encode(COLOURS.quantize(16), "PNG", transparency=bytes(range(16))),
    "png sixteen bits": encode(SIXTEEN_BITS, "PNG"),
    "png animated": encode(COLOURS, "PNG", **FRAMES),
    "gif": encode(COLOURS, "GIF"),
    "gif animated": encode(COLOURS, "GIF", **FRAMES),
    "bmp": encode(COLOURS, "BMP"),
    "bmp palette": encode(COLOURS.quantize(16), "BMP"),
    "webp": encode(COLOURS, "WEBP", exif=orientation(3)),
    "webp lossless": encode(COLOURS, "WEBP", lossless=True),
    "webp animated": encode(COLOURS, "WEBP", **FRAMES),
    "tiff": encode(COLOURS, "TIFF"),
    "tiff lzw": encode(COLOURS, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 7}),
    "tiff jpeg": encode(COLOURS, "TIFF", compression="jpeg"),
    "tiff sixteen bits": encode(SIXTEEN_BITS, "TIFF"),
    "tiff animated": encode(COLOURS, "TIFF", **FRAMES),
    "ppm": encode(COLOURS, "PPM"),
}


def spoil(content: bytes, generator: np.random.Generator) -> bytes:
    """One to four faults: bytes changed, cut, repeated, taken from another file; most near the start, in headers."""
    data = bytearray(content)
    for _ in range(generator.integers(1, 5)):
        if not data:
            break
        reach = len(data) if generator.random() < 0.5 else min(len(data), 200)
        start = int(generator.integers(reach))
        length = int(generator.choice([1, 1, 2, 4, 16, 300]))
        match generator.integers(7):
            case 0:
                data[start] ^= 1 << int(generator.integers(8))
            case 1:
                data[start : start + length] = bytes([int(generator.choice(ODD_BYTES))]) * len(
                    data[start : start + length]
                )
            case 2:
                data[start : start + length] = generator.bytes(length)
            case 3:
                del data[start : start + length]
            case 4:
                data[start:start] = data[start : start + length]
            case 5:
                del data[start:]
            case _:
                other = SEEDS[str(generator.choice(list(SEEDS)))]
                data[start : start + length] = other[start : start + length]
    return bytes(data)


def decode_or_name_reason(content: bytes, generator: np.random.Generator) -> str:
    """ "picture", or why there is none; anything else is an error of the test."""
    least_side = None if generator.random() < 0.5 else int(generator.integers(1, 80))
    begun = time.process_time()
    try:
        found = decode_image(content, least_side=least_side)
    except ImageProblemError as error:
        return str(error) or pytest.fail("a reason without words")
    finally:
        assert time.process_time() - begun < LONGEST_SECONDS
    assert found.pixels.dtype == np.uint8
    assert found.pixels.ndim == 3
    assert found.pixels.shape[2] == 3
    assert found.pixels.size
    height, width = found.pixels.shape[:2]
    assert abs(found.width * found.scale - width) < 1
    assert abs(found.height * found.scale - height) < 1
    return "picture"


@pytest.mark.parametrize("name", SEEDS)
def test_fifty_spoilt_files_of_each_kind_give_a_picture_or_a_reason(name, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1_000_000)  # damaged sizes cost no seconds
    assert decode_or_name_reason(SEEDS[name], np.random.default_rng(0)) == "picture"
    generator = np.random.default_rng(list(name.encode()))
    outcomes = Counter(
        decode_or_name_reason(spoilt, generator) == "picture"
        for spoilt in (spoil(SEEDS[name], generator) for _ in range(50))
    )
    assert outcomes.total() == 50
    assert outcomes[False] >= 5  # the faults are faults


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_a_hundred_spoilt_files_of_each_kind_do_so_at_the_real_size_limit(name):
    generator = np.random.default_rng([1, *name.encode()])
    outcomes = [decode_or_name_reason(spoil(SEEDS[name], generator), generator) for _ in range(100)]
    assert len(outcomes) == 100
    assert sum(outcome != "picture" for outcome in outcomes) >= 10  # the faults are faults


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_cut_short_anywhere_gives_a_picture_or_a_reason(name):
    content = SEEDS[name]
    generator = np.random.default_rng(2)
    ends = np.unique(np.linspace(0, len(content) - 1, 12).astype(int))
    outcomes = [decode_or_name_reason(content[:end], generator) for end in ends]
    assert outcomes[0] == "empty file"
    assert "picture" not in outcomes[: len(outcomes) // 2]  # half a file is no picture


@pytest.mark.parametrize("name", [name for name in SEEDS if "animated" not in name])
def test_half_a_file_never_passes_as_a_picture(name):
    content = SEEDS[name]
    for share in (0.3, 0.5, 0.8):
        assert decode_or_name_reason(content[: int(share * len(content))], np.random.default_rng(4)) != "picture"


def test_files_of_random_bytes_behind_each_format_s_first_bytes_give_a_reason():
    generator = np.random.default_rng(3)
    for content in SEEDS.values():
        for length in (2, 4, 12, 30):
            assert decode_or_name_reason(content[:length] + generator.bytes(400), generator) != ""
