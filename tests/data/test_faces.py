from __future__ import annotations

import numpy as np
import pytest
from affectnet_copies import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data import faces
from pocketaffect.data.faces import FaceBox, crop_face


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


@settings(max_examples=100, deadline=None)
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


def test_the_smaller_copy_of_a_large_image_gives_nearly_the_same_face(monkeypatch):
    image = picture(9, 400, 300)
    box = FaceBox(-30, 40, 280, 240)
    direct = crop_face(image, box, margin=0.1, size=32)
    monkeypatch.setattr(faces, "MAX_SIDE", 128)
    assert difference(crop_face(image, box, margin=0.1, size=32), direct) <= 4
