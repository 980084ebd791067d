from __future__ import annotations

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from affectnet_copies import picture, spoilt
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.data import images
from pocketaffect.data.images import MAX_PIXELS, ImageProblemError, decode_image, read_image

COLOURS = Image.fromarray(picture(1))


def encode(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


JPEG = encode(COLOURS, "JPEG", quality=92)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_exact_pixels(form):
    found = decode_image(encode(COLOURS, form))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, picture(1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_jpeg_gives_what_pillow_gives(options):
    content = encode(COLOURS, "JPEG", quality=92, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)
    assert np.abs(decode_image(content) - expected).mean() < 1


def test_red_comes_first():
    content = encode(Image.new("RGB", (32, 32), (250, 10, 90)), "JPEG", quality=95)
    assert np.abs(decode_image(content)[16, 16].astype(int) - (250, 10, 90)).max() <= 6


@pytest.mark.parametrize(("form", "close"), [("JPEG", 4), ("PNG", 0), ("BMP", 0)])
def test_grey_becomes_three_equal_channels(form, close):
    grey = COLOURS.convert("L")
    found = decode_image(encode(grey, form)).astype(int)
    assert (found == found[:, :, :1]).all()
    assert np.abs(found[:, :, 0] - np.asarray(grey, dtype=int)).max() <= close


def test_cmyk_jpeg_keeps_its_colours():
    found = decode_image(encode(COLOURS.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - picture(1)).mean() < 3


@pytest.mark.parametrize("transparent", [{}, {"transparency": bytes(range(16))}])
def test_palette_images_take_their_palette_s_colours_without_a_warning(transparent):
    palette = COLOURS.quantize(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_image(encode(palette, "PNG", **transparent))
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))


def test_alpha_is_left_out():
    with_alpha = COLOURS.copy()
    with_alpha.putalpha(128)
    np.testing.assert_array_equal(decode_image(encode(with_alpha, "PNG")), picture(1))
    grey_alpha = decode_image(encode(COLOURS.convert("LA"), "PNG"))
    np.testing.assert_array_equal(grey_alpha[:, :, 0], np.asarray(COLOURS.convert("L")))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("brightest", [200, 65535])
def test_sixteen_bits_are_scaled_by_their_own_white_and_not_by_the_picture_s(form, brightest):
    values = np.linspace(0, brightest, 40 * 48).reshape(40, 48).astype(np.uint16)
    found = decode_image(encode(Image.fromarray(values), form))
    assert np.abs(found[:, :, 1] - values / 65535 * 255).max() <= 0.5


def test_gif_gives_its_first_frame():
    frames = [Image.fromarray(np.full((30, 30, 3), shade, dtype=np.uint8)) for shade in (40, 200)]
    found = decode_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.shape == (30, 30, 3)
    assert (found == 40).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no picture, but text", r"not an image \(starts with b'no picture, '\)"),
        (b"\xff\xd8 text after JPEG's first bytes", "damaged JPEG"),
        (JPEG[: len(JPEG) * 3 // 4], "damaged JPEG: .*[Pp]remature end"),
        (JPEG[:-10], "damaged JPEG: .*[Pp]remature end"),
        (JPEG[:100], "damaged JPEG"),
        (encode(COLOURS, "PNG")[:300], "damaged image: .*truncated"),
        (encode(COLOURS, "BMP")[:300], "damaged image: .*truncated"),
        (encode(COLOURS, "GIF")[:-300], "damaged image: .*truncated"),
        (png_header(30_000, 30_000), "more than 100,000,000"),
        (png_header(10_001, 10_000), "10001 x 10000 pixels, more than 100,000,000"),
        (encode(COLOURS.convert("F"), "TIFF"), "32-bit grey"),
        (encode(COLOURS, "EPS"), "not an image"),  # Pillow would start Ghostscript for it
    ],
)
def test_what_is_no_sound_image_gives_a_reason(content, reason):
    with pytest.raises(ImageProblemError, match=reason):
        decode_image(content)


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    content = bytearray(JPEG)
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(ImageProblemError, match="65000 x 65000 pixels, more than"):
        decode_image(bytes(content))
    assert MAX_PIXELS < 65_000**2


def test_files_that_cannot_be_read_say_why(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name, reason in {
        "nothing.jpg": "no such file",
        "pipe.jpg": "not a file",
        "folder.jpg": "not a file",
        "loop.jpg": "symbolic links",
        "a" * 300: "name too long",
        "nul\0.jpg": "null byte",
    }.items():
        with pytest.raises(ImageProblemError, match=reason):
            read_image(tmp_path / name)
    (tmp_path / "good.png").write_bytes(encode(COLOURS, "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "good.png"), picture(1))


SEEDS = [JPEG, encode(COLOURS.convert("L"), "JPEG"), encode(COLOURS.convert("CMYK"), "JPEG")] + [
    encode(COLOURS, form) for form in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
]


@settings(max_examples=400, deadline=None)
@given(content=st.sampled_from(SEEDS).flatmap(spoilt))
def test_spoilt_bytes_give_a_picture_or_a_reason_and_nothing_else(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 1_000_000)  # keeps damaged sizes from costing seconds
        try:
            found = decode_image(content)
        except ImageProblemError:
            return
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert found.size
