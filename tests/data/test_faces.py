from __future__ import annotations

import io
import math
from contextlib import suppress

import cv2
import numpy as np
import pytest
from affectnet_copies import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from pocketaffect.data.faces import crop as faces
from pocketaffect.data.faces.crop import Eyes, FaceBox, crop_face, decode_face
from pocketaffect.data.faces.images import decode_image


def encode(image: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", **options)
    return stream.getvalue()


def resize_slowly(square: np.ndarray, size: int) -> np.ndarray:
    """Mean over the area of each pixel when shrinking, between pixel centres by a straight line when enlarging."""
    side = len(square)
    scale = side / size
    weights = np.zeros((size, side))
    for pixel in range(size):
        if scale >= 1:
            for source in range(side):
                shared = min((pixel + 1) * scale, source + 1) - max(pixel * scale, source)
                weights[pixel, source] = max(shared, 0) / scale
        else:
            centre = min(max((pixel + 0.5) * scale - 0.5, 0), side - 1)
            weights[pixel] = np.maximum(0, 1 - np.abs(np.arange(side) - centre))
    return np.einsum("ai,bj,ijc->abc", weights, weights, square.astype(float), optimize=True)


def cut_slowly(image: np.ndarray, box: FaceBox | None, margin: float, size: int) -> np.ndarray:
    """The square by index, a pixel beyond the border being the nearest one inside."""
    height, width = image.shape[:2]
    box = box or FaceBox(0, 0, width, height)
    side = max(2, round(max(box.width, box.height) * (1 + 2 * margin)))
    left, top = round(box.x + box.width / 2 - side / 2), round(box.y + box.height / 2 - side / 2)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return resize_slowly(image[rows][:, columns], size)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(float) - expected).max())


@settings(max_examples=40)
@given(data=st.data())
def test_a_crop_is_what_a_slow_one_gives_border_included(data):
    width, height = data.draw(st.integers(24, 90)), data.draw(st.integers(24, 90))
    sides = [data.draw(st.floats(0.1, limit * 1.9)) for limit in (width, height)]
    # The contract keeps boxes of which half lies on the image; their centres then do.
    x, y = (data.draw(st.floats(0, limit)) - side / 2 for limit, side in zip((width, height), sides, strict=True))
    box = data.draw(st.sampled_from([None, FaceBox(x, y, *sides)]))
    margin, size = data.draw(st.sampled_from([0.0, 0.1, 0.5])), data.draw(st.sampled_from([32, 48]))
    image = picture(data.draw(st.integers(0, 5)), width, height)
    found = crop_face(image, box, margin=margin, size=size)
    assert found.shape == (size, size, 3)
    assert difference(found, cut_slowly(image, box, margin, size)) <= 1.01


def test_a_box_of_the_network_s_size_is_copied_pixel_for_pixel():
    image = picture(2, 80, 70)
    found = crop_face(image, FaceBox(10, 20, 32, 32), margin=0, size=32)
    np.testing.assert_array_equal(found, image[20:52, 10:42])


def test_halving_averages_four_pixels():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop_face(image, None, margin=0, size=32) - expected).max() <= 0.51


def test_a_long_box_becomes_a_square_around_its_centre():
    image = picture(3, 100, 100)
    long = crop_face(image, FaceBox(40, 20, 20, 60), margin=0, size=32)
    np.testing.assert_array_equal(long, crop_face(image, FaceBox(20, 20, 60, 60), margin=0, size=32))


def test_margin_is_a_share_of_the_longer_side_at_each_end():
    image = picture(4, 100, 100)
    wide = crop_face(image, FaceBox(30, 30, 40, 20), margin=0.25, size=32)
    np.testing.assert_array_equal(wide, crop_face(image, FaceBox(20, 10, 60, 60), margin=0, size=32))


def test_border_pixels_go_on_outside_the_image():
    image = picture(5, 40, 40)
    found = crop_face(image, FaceBox(-16, 0, 32, 32), margin=0, size=32)
    np.testing.assert_array_equal(found[:, :16], np.repeat(image[:32, :1], 16, axis=1))
    np.testing.assert_array_equal(found[:, 16:], image[:32, :16])


def test_without_a_box_the_whole_image_is_taken():
    image = picture(6, 50, 30)
    found = crop_face(image, None, margin=0, size=48)
    np.testing.assert_array_equal(found, crop_face(image, FaceBox(0, 0, 50, 30), margin=0, size=48))


@pytest.mark.parametrize("box", [FaceBox(-29.9, 5, 30, 30), FaceBox(5, 39.9, 30, 30), FaceBox(47.9, 5, 30, 30)])
def test_a_box_that_touches_the_image_by_less_than_a_pixel_gives_a_square_or_an_error(box):
    with suppress(ValueError):
        assert crop_face(picture(7), box, margin=0, size=32).shape == (32, 32, 3)


@pytest.mark.parametrize("x", [23.75, 23.5, -0.25, 23.0])
def test_a_box_of_less_than_a_pixel_at_the_border_still_touches_the_image(x):
    assert crop_face(picture(7, 24, 24), FaceBox(x, x, 0.5, 0.5), margin=0, size=32).shape == (32, 32, 3)


def test_a_box_beside_the_image_is_an_error():
    with pytest.raises(ValueError, match="does not touch the 48 x 40 image"):
        crop_face(picture(8), FaceBox(100, 0, 20, 20), margin=0, size=32)


def test_a_panorama_costs_no_more_memory_than_its_pixels():
    strip = np.full((24, 100_000, 3), 90, dtype=np.uint8)  # its square would take 30 GB
    strip[:, 50_000:] = 200
    found = crop_face(strip, None, margin=0, size=64)
    assert difference(found[:, :31], np.full((64, 31, 3), 90)) <= 1
    assert difference(found[:, 33:], np.full((64, 31, 3), 200)) <= 1


@pytest.mark.parametrize(
    "box",
    [
        FaceBox(0, 0, 1e9, 1e9),
        FaceBox(-1e9, -1e9, 2e9, 2e9),
        FaceBox(-1e6, 3, 1e6 + 5, 9),
        FaceBox(0, 0, 1e300, 1e300),
        FaceBox(-1e300, 0, 1.7e308, 3),
        FaceBox(1e300, 1, 5, 5),
    ],
)
def test_absurd_boxes_give_some_square_or_an_error_and_no_crash(box):
    with suppress(ValueError):
        assert crop_face(picture(9), box, margin=0.5, size=32).shape == (32, 32, 3)


def test_the_other_way_to_cut_gives_nearly_the_same_face(monkeypatch):
    image = picture(9, 400, 300)
    for box in (FaceBox(-30, 40, 280, 240), FaceBox(50, 60, 90, 90), FaceBox(100, 30, 21, 20), FaceBox(5, 5, 50, 50)):
        direct = crop_face(image, box, margin=0.1, size=32)
        with monkeypatch.context() as patch:
            patch.setattr(faces, "MAX_SIDE", 1)
            found = crop_face(image, box, margin=0.1, size=32).astype(float)
        assert np.abs(found - direct).mean() < 1
        assert difference(found, direct) <= 8  # in a corner that goes on outside the image


def eyes_at(x: float, y: float, distance: float, turn: float = 0.0) -> Eyes:
    """Eyes `distance` apart around (x, y), turned clockwise by `turn` degrees."""
    across, down = (distance / 2 * part for part in (math.cos(math.radians(turn)), math.sin(math.radians(turn))))
    return Eyes(x - across, y - down, x + across, y + down)


def align_with_skimage(image: np.ndarray, eyes: Eyes, margin: float, size: int) -> np.ndarray:
    """The independent reference: skimage's own estimate and warp, at four times the size, averaged."""
    fine = 4 * size
    share = 1 / (1 + 2 * margin)
    height = 0.5 + (faces.EYE_HEIGHT - 0.5) * share
    targets = [(0.5 + side * faces.EYE_DISTANCE / 2 * share, height) for side in (-1, 1)]
    transform = SimilarityTransform.from_estimate(
        [(eyes.left_x, eyes.left_y), (eyes.right_x, eyes.right_y)], np.array(targets) * fine - 0.5
    )
    warped = warp(image.astype(float), transform.inverse, output_shape=(fine, fine), order=1, mode="edge")
    return warped.reshape(size, 4, size, 4, 3).mean(axis=(1, 3))


@settings(max_examples=25)
@given(
    x=st.floats(180, 220),
    y=st.floats(130, 160),
    distance=st.floats(5, 55),
    turn=st.floats(-80, 80),
    margin=st.sampled_from([0.0, 0.2]),
    size=st.sampled_from([24, 32]),
)
def test_eyes_come_where_skimage_brings_them(x, y, distance, turn, margin, size):
    image = picture(11, 400, 300)
    eyes = eyes_at(x, y, distance, turn)
    found = crop_face(image, None, eyes, margin=margin, size=size, align="eyes")
    expected = align_with_skimage(image, eyes, margin, size)
    assert np.abs(found - expected).mean() < 0.7  # a place wrong by a pixel makes twice that
    assert difference(found, expected) < 4


@pytest.mark.parametrize("turn", [0.0, 35.0])
def test_aligned_faces_go_on_with_the_border_s_pixels_outside_the_image(turn):
    image = picture(11, 400, 300)
    eyes = eyes_at(70, 60, 100, turn)
    found = crop_face(image, None, eyes, margin=0.2, size=32, align="eyes")
    # Where a large face is shrunk first, it is the average of the last few pixels that goes on.
    assert np.abs(found - align_with_skimage(image, eyes, 0.2, 32)).mean() < 2.5


def test_a_strongly_shrunk_aligned_face_is_averaged_and_not_sampled():
    noise = np.random.default_rng(1).integers(0, 256, (900, 900, 3)).astype(np.uint8)
    found = crop_face(noise, None, eyes_at(450, 400, 300, 20), margin=0, size=32, align="eyes")
    assert np.abs(found - 127.5).mean() < 6  # a field of 25 x 25 pixels averages to 127.5 +- 3; one pixel to +- 64


def test_marks_drawn_on_the_eyes_come_level_to_the_template_s_places():
    image = np.zeros((400, 500, 3), dtype=np.uint8)
    cv2.circle(image, (180, 200), 6, (255, 0, 0), -1)
    cv2.circle(image, (260, 160), 6, (0, 255, 0), -1)
    box = FaceBox(110, 80, 230, 230)
    found = crop_face(image, box, Eyes(180, 200, 260, 160), margin=0, size=64, align="eyes").astype(float)
    places = np.arange(64) + 0.5
    for channel, side in ((0, -1), (1, 1)):
        mark = found[:, :, channel] / found[:, :, channel].sum()
        assert (mark.sum(axis=0) * places).sum() == pytest.approx(64 * (0.5 + side * faces.EYE_DISTANCE / 2), abs=0.2)
        assert (mark.sum(axis=1) * places).sum() == pytest.approx(64 * faces.EYE_HEIGHT, abs=0.2)


BOX = FaceBox(100, 50, 160, 180)


@pytest.mark.parametrize(
    "eyes",
    [
        None,
        Eyes(180, 120, 180, 120),
        Eyes(180, 120, 181, 120),
        Eyes(210, 120, 150, 120),
        Eyes(180, 90, 180, 150),
        Eyes(-20, 120, 60, 120),
        Eyes(150, 120, 450, 120),
        Eyes(150, -5, 210, -3),
        Eyes(150, 120, math.nan, 120),
        Eyes(150, 120, math.inf, 120),
        Eyes(math.nan, math.nan, math.nan, math.nan),
        Eyes(150, 120, 170, 120),
        Eyes(20, 120, 380, 120),
        Eyes(310, 280, 370, 280),
    ],
    ids=[
        *("no eyes", "one point", "too near", "swapped", "one above the other", "beside the image"),
        *("right of it", "above it", "half NaN", "infinite", "all NaN", "much narrower than the box"),
        *("much wider than the box", "on another face"),
    ],
)
def test_eyes_that_cannot_be_right_leave_the_cut_to_the_box(eyes):
    image = picture(12, 400, 300)
    by_box = crop_face(image, BOX, margin=0.1, size=48)
    np.testing.assert_array_equal(crop_face(image, BOX, eyes, margin=0.1, size=48, align="eyes"), by_box)
    content = encode(image)
    by_eyes = decode_face(content, BOX, eyes, margin=0.1, size=48, align="eyes")
    assert difference(by_eyes, decode_face(content, BOX, margin=0.1, size=48)) <= 2  # decoded at another scale


def test_align_none_does_not_look_at_the_eyes():
    image = picture(12, 400, 300)
    found = crop_face(image, BOX, eyes_at(180, 120, 60, 30), margin=0, size=48)
    np.testing.assert_array_equal(found, crop_face(image, BOX, margin=0, size=48))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("align", ["none", "eyes"])
@pytest.mark.parametrize("with_box", [True, False])
def test_a_face_from_a_scaled_decode_is_nearly_that_of_the_whole_image(orientation, align, with_box):
    tags = Image.Exif()
    tags[0x0112] = orientation
    image = cv2.GaussianBlur(picture(13, 640, 480), (0, 0), 1)
    cv2.putText(image, "detail", (180, 260), cv2.FONT_HERSHEY_DUPLEX, 2.5, (240, 20, 60), 9, cv2.LINE_AA)
    content = encode(image, quality=92, exif=tags.tobytes())
    whole = decode_image(content).pixels
    box = FaceBox(91.5, 66, 351, 339.25) if with_box else None
    eyes = eyes_at(270, 200, 133, 12)
    for size in (32, 48, 64, 96):
        found = decode_face(content, box, eyes, margin=0, size=size, align=align)
        expected = crop_face(whole, box, eyes, margin=0, size=size, align=align)
        assert np.abs(found.astype(float) - expected).mean() < 1.2


def test_a_large_face_is_decoded_at_a_smaller_size_and_a_small_one_is_not(monkeypatch):
    asked = []
    plain = faces.decode_image
    monkeypatch.setattr(faces, "decode_image", lambda *a, **k: asked.append(plain(*a, **k)) or asked[-1])
    content = encode(picture(13, 640, 480))
    decode_face(content, FaceBox(10, 10, 400, 300), margin=0, size=42)
    decode_face(content, FaceBox(10, 10, 90, 90), margin=0, size=42)
    decode_face(content, FaceBox(10, 10, 90, 90), margin=0.6, size=42)
    decode_face(content, FaceBox(10, 10, 400, 300), eyes_at(200, 150, 60), margin=0, size=42, align="eyes")
    assert [image.scale for image in asked] == [0.25, 1, 0.5, 0.5]
