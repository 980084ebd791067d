from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from functools import cache

import cv2
import numpy as np
import pytest
from affectnet_copies import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pocketaffect.data.faces.images import MAX_PIXELS, MAX_SCANS, DecodedImage, ImageProblemError, decode_image

COLOURS = Image.fromarray(picture(1))


def encode(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@cache
def photograph(seed: int, width: int, height: int) -> np.ndarray:
    """Detail at all sizes, as photographs have it: amplitude falls with frequency, that of colours sooner."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(generator.standard_normal((height, width, 4)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    power = np.array([2.0, 2.0, 2.0, 1.0])
    spectrum /= np.maximum(frequency, 1 / width)[:, :, None] ** power
    noise = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    noise /= noise.std(axis=(0, 1))
    return (127 + 20 * noise[:, :, :3] + 40 * noise[:, :, 3:]).clip(0, 255).astype(np.uint8)


def make_png(width: int, height: int, bits: int, kind: int, data: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_header(width: int, height: int) -> bytes:
    return make_png(width, height, 8, 2, zlib.compress(bytes(1000)))


def decode(content: bytes) -> np.ndarray:
    found = decode_image(content)
    assert found.pixels.shape == (found.height, found.width, 3)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.flags.c_contiguous
    assert found.scale == 1
    return found.pixels


JPEG = encode(COLOURS, "JPEG", quality=92)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_exact_pixels(form):
    found = decode(encode(COLOURS, form))
    np.testing.assert_array_equal(found, picture(1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_jpeg_gives_what_pillow_gives(options):
    content = encode(COLOURS, "JPEG", quality=92, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)
    assert np.abs(decode(content) - expected).mean() < 1


def test_red_comes_first():
    content = encode(Image.new("RGB", (32, 32), (250, 10, 90)), "JPEG", quality=95)
    assert np.abs(decode(content)[16, 16].astype(int) - (250, 10, 90)).max() <= 6


@pytest.mark.parametrize(("form", "close"), [("JPEG", 4), ("PNG", 0), ("BMP", 0)])
def test_grey_becomes_three_equal_channels(form, close):
    grey = COLOURS.convert("L")
    found = decode(encode(grey, form)).astype(int)
    assert (found == found[:, :, :1]).all()
    assert np.abs(found[:, :, 0] - np.asarray(grey, dtype=int)).max() <= close


def test_cmyk_jpeg_keeps_its_colours():
    found = decode(encode(COLOURS.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - picture(1)).mean() < 3


@pytest.mark.parametrize("transparent", [{}, {"transparency": bytes(range(16))}])
def test_palette_images_take_their_palette_s_colours_without_a_warning(transparent):
    palette = COLOURS.quantize(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(encode(palette, "PNG", **transparent))
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))


def test_alpha_is_left_out():
    with_alpha = COLOURS.copy()
    with_alpha.putalpha(128)
    np.testing.assert_array_equal(decode(encode(with_alpha, "PNG")), picture(1))
    grey_alpha = decode(encode(COLOURS.convert("LA"), "PNG"))
    np.testing.assert_array_equal(grey_alpha[:, :, 0], np.asarray(COLOURS.convert("L")))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("brightest", [200, 65535])
def test_sixteen_bits_are_scaled_by_their_own_white_and_not_by_the_picture_s(form, brightest):
    values = np.linspace(0, brightest, 40 * 48).reshape(40, 48).astype(np.uint16)
    found = decode(encode(Image.fromarray(values), form))
    assert np.abs(found[:, :, 1] - values / 65535 * 255).max() <= 0.5


def test_gif_gives_its_first_frame():
    frames = [Image.fromarray(np.full((30, 30, 3), shade, dtype=np.uint8)) for shade in (40, 200)]
    found = decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
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


def add_exif(orientation: object) -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "a camera's maker"
    tags[0x0112] = orientation
    return tags.tobytes()


def upright(content: bytes) -> np.ndarray:
    """The independent reference: what Pillow's own function makes of it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_upright_as_pillow_and_opencv_turn_them(form, orientation):
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    tags = {"tiffinfo": {0x0112: orientation}} if form == "TIFF" else {"exif": add_exif(orientation)}
    content = encode(COLOURS, form, **options, **tags)
    found = decode(content).astype(int)
    expected = upright(content)
    assert found.shape == expected.shape == ((40, 48, 3) if orientation < 5 else (48, 40, 3))
    assert np.abs(found - expected).mean() < (1 if form == "JPEG" else 1e-9)
    with_opencv = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(found - with_opencv).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cmyk_pictures_and_scaled_ones_are_turned_as_well(orientation):
    large = Image.fromarray(picture(3, 320, 240))
    content = encode(large, "JPEG", quality=95, exif=add_exif(orientation))
    found = decode_image(content, least_side=80, face_side=160)
    assert (found.width, found.height) == upright(content).shape[1::-1]
    assert found.scale == 0.5
    assert np.abs(found.pixels - upright(content)[::2, ::2].astype(int)).mean() < 3
    cmyk = encode(large.convert("CMYK"), "JPEG", quality=95, exif=add_exif(orientation))
    assert np.abs(decode(cmyk) - upright(content).astype(int)).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_leaves_the_picture_as_it_lies(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    assert decode(encode(COLOURS, "JPEG", quality=92, exif=tags.tobytes())).shape == (40, 48, 3)


@settings(max_examples=60)
@given(exif=st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: b"Exif\0\0MM\0*\0\0\0\x08" + data))
def test_a_damaged_exif_segment_never_hides_a_sound_picture(exif):
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert sorted(decode(JPEG[:2] + segment + JPEG[2:]).shape) == [3, 40, 48]


def test_the_word_exif_elsewhere_in_a_file_turns_nothing():
    turned = add_exif(6)
    comment = b"\xff\xfe" + struct.pack(">H", len(turned) + 2) + turned
    assert decode(JPEG[:2] + comment + JPEG[2:]).shape == (40, 48, 3)
    assert decode(JPEG + b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned).shape == (40, 48, 3)


@pytest.mark.parametrize(
    ("least_side", "face_side", "scale"),
    [
        (None, None, 1),
        (None, 10, 1),
        (100, None, 0.25),
        (50, None, 0.125),
        (51, None, 0.25),
        (96, 192, 0.5),
        (96, 191, 1),
        (96, 384, 0.25),
        (96, 40, 1),
        (96, 100_000, 0.25),
        (50, 100_000, 0.125),
        (401, None, 1),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_the_face_needs(least_side, face_side, scale):
    content = encode(Image.fromarray(picture(2, 400, 301)), "JPEG", quality=95)
    found = decode_image(content, least_side=least_side, face_side=face_side)
    assert found.scale == scale
    assert (found.width, found.height) == (400, 301)
    assert found.pixels.shape == (math.ceil(301 * scale), math.ceil(400 * scale), 3)


@settings(max_examples=25)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    least_side=st.integers(1, 70),
    subsampling=st.sampled_from([0, 1, 2]),
)
def test_a_scale_is_what_it_says_for_small_jpegs_too(width, height, least_side, subsampling):
    content = encode(Image.fromarray(picture(4, width, height)), "JPEG", quality=95, subsampling=subsampling)
    found = decode_image(content, least_side=least_side)
    assert (found.width, found.height) == (width, height)
    assert found.pixels.shape[:2] == (math.ceil(height * found.scale), math.ceil(width * found.scale))
    assert found.scale == 1 or max(width, height) * found.scale >= least_side


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_a_scaled_decode_is_nearly_the_average_over_areas(scale, options):
    content = encode(Image.fromarray(photograph(5, 320, 256)), "JPEG", quality=90, **options)
    found = decode_image(content, least_side=round(320 * scale))
    assert found.scale == scale
    expected = cv2.resize(decode(content), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    difference = np.abs(found.pixels.astype(int) - expected)
    assert difference.mean() < 2.5
    assert np.percentile(difference, 99) < 20


def test_damage_is_found_in_a_scaled_decode_too():
    content = encode(Image.fromarray(photograph(6, 400, 300)), "JPEG", quality=90)
    with pytest.raises(ImageProblemError, match=r"[Pp]remature end"):
        decode_image(content[:-2000], least_side=30)


def test_other_formats_are_never_scaled():
    found = decode_image(encode(COLOURS, "PNG"), least_side=4, face_side=40)
    assert isinstance(found, DecodedImage)
    assert found.scale == 1


def repeat_scans(content: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


def test_a_progressive_jpeg_of_endless_scans_is_refused_before_it_keeps_a_worker_busy():
    progressive = encode(COLOURS, "JPEG", quality=92, progressive=True)
    with pytest.raises(ImageProblemError, match=f"scans, more than {MAX_SCANS}"):
        decode_image(repeat_scans(progressive, MAX_SCANS))
    decode(progressive)


def test_bytes_after_a_jpeg_s_only_scan_are_no_scans():
    np.testing.assert_array_equal(decode(JPEG + b"\xff\xda" * 2 * MAX_SCANS), decode(JPEG))


def test_sixteen_bit_colours_and_grey_with_alpha_are_read():
    values = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 60
    for shape in ("grey", "grey and alpha", "colours", "colours and alpha"):
        channels = {"grey": 1, "grey and alpha": 2, "colours": 3, "colours and alpha": 4}[shape]
        kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
        lines = b"".join(b"\0" + np.repeat(line[:, None], channels, 1).astype(">u2").tobytes() for line in values)
        found = decode(make_png(32, 32, 16, kind, zlib.compress(lines)))
        assert np.abs(found - values[:, :, None] / 257).max() <= 1, shape


@pytest.mark.parametrize("form", ["WEBP", "PNG", "TIFF"])
def test_an_animation_s_first_frame_is_taken(form):
    frames = [Image.fromarray(np.full((30, 30, 3), shade, dtype=np.uint8)) for shade in (40, 200)]
    options = {"lossless": True} if form == "WEBP" else {}
    found = decode(encode(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert found.shape == (30, 30, 3)
    assert (found == 40).all()


def test_a_jpeg_with_unusual_chroma_sampling_is_read():
    content = bytearray(encode(COLOURS.convert("L"), "JPEG", quality=95))
    frame = content.index(b"\xff\xc0")
    content[frame + 11] = 0x33  # of a single component, sampling says nothing
    assert np.abs(decode(bytes(content))[:, :, 0] - np.asarray(COLOURS.convert("L"), dtype=int)).max() <= 8
