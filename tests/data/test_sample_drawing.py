from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.sample.canvas import (
    Canvas,
    Placement,
    box_blur,
    brush,
    ellipse,
    points,
    rotation,
    smooth_closed,
    smooth_open,
)
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.features import paint_person
from pocketaffect.data.sample.generate import encode_bitmap
from pocketaffect.data.sample.geometry import landmarks, shape_face
from pocketaffect.data.sample.identity import Identity
from pocketaffect.data.sample.portrait import draw_portrait, draw_scene, take_picture, value_noise


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_bitmap_of_any_size_is_read_back_by_an_independent_decoder(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = encode_bitmap(pixels)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], pixels)
    pillow = pytest.importorskip("PIL.Image")
    np.testing.assert_array_equal(np.asarray(pillow.open(io.BytesIO(content))), pixels)


@given(st.floats(-0.9, 0.9))
def test_rotation_without_sines_agrees_with_numpy(tangent):
    angle = 2 * np.arctan(tangent)
    assert rotation(tangent) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-12)


def test_an_ellipse_lies_on_its_equation_and_goes_round_once():
    curve = ellipse((2.0, -1.0), (3.0, 0.5))
    np.testing.assert_allclose(((curve - (2.0, -1.0)) / (3.0, 0.5)) ** 2 @ np.ones(2), 1.0, atol=1e-12)
    x, y = curve.T
    area = np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2
    assert area == pytest.approx(np.pi * 3 * 0.5, rel=0.02)


def test_smoothed_curves_pass_through_their_control_points():
    control = points((0, 0), (1, 2), (3, 1), (4, 4))
    np.testing.assert_allclose(smooth_open(control, 5)[::5], control)
    np.testing.assert_allclose(smooth_closed(control, 5)[::5], control)


def test_a_brush_stroke_has_the_asked_widths():
    outline = brush(points((0, 0), (1, 0), (2, 0)), (0.2, 0.4))
    np.testing.assert_allclose(outline[:, 1], [0.1, 0.15, 0.2, -0.2, -0.15, -0.1])


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_box_blur_is_the_rounded_mean_of_a_square_with_repeated_borders(radius, seed):
    scipy = pytest.importorskip("scipy.ndimage")
    layer = np.random.default_rng(seed).integers(0, 256, (17, 23))
    expected = scipy.uniform_filter(layer.astype(float), 2 * radius + 1, mode="nearest")
    assert np.abs(box_blur(layer, radius) - expected).max() <= 1.01


def test_a_filled_square_covers_its_area_with_smooth_rims():
    canvas = Canvas(np.zeros((20, 20, 3), dtype=np.uint8))
    canvas.fill((255, 0, 90), points((4.5, 4.5), (14.5, 4.5), (14.5, 14.5), (4.5, 14.5)))
    image = canvas.finish()
    assert image[9, 9].tolist() == [255, 0, 90]
    assert image[0, 0].tolist() == [0, 0, 0]
    assert 0 < image[4, 9, 0] < 255
    assert image[:, :, 0].sum() / 255 == pytest.approx(100, rel=0.1)


def test_drawing_does_not_change_the_background_that_was_passed():
    background = np.full((12, 12, 3), 7, dtype=np.uint8)
    canvas = Canvas(background)
    canvas.fill((200, 200, 200), ellipse((6, 6), (4, 4)))
    canvas.finish()
    assert (background == 7).all()


def test_two_overlapping_contours_leave_a_hole():
    canvas = Canvas(np.zeros((30, 30, 3), dtype=np.uint8))
    canvas.fill((255, 255, 255), ellipse((15, 15), (12, 12)), ellipse((15, 15), (6, 6)))
    image = canvas.finish()
    assert image[15, 15, 0] == 0
    assert image[15, 6, 0] == 255


def test_value_noise_stays_in_range_and_varies_smoothly():
    noise = value_noise(Draws(1), 64, 48, 16)
    assert noise.shape == (64, 48)
    assert noise.min() >= 0
    assert noise.max() <= 255
    assert np.abs(np.diff(noise, axis=0)).max() <= 255 // 16 + 1


def test_a_poor_picture_has_less_detail():
    image = np.zeros((80, 80, 3), dtype=np.uint8)
    image[:, ::4] = 255
    pictures = [take_picture(Draws(3), image, poor=poor).astype(int) for poor in (False, True)]
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert detail[1] < detail[0] / 2


def test_landmarks_follow_the_68_point_scheme():
    face = shape_face(Identity(Draws(5)), {})
    marks = landmarks(face)
    assert marks.shape == (68, 2)
    jaw, chin = marks[:17], marks[8]
    assert (np.diff(jaw[:, 0]) > 0).all()
    assert chin[1] == pytest.approx(jaw[:, 1].max())
    assert marks[17:27, 1].max() < marks[36:48, 1].min() + 0.05  # brows above eyes
    assert (np.diff(marks[17:27, 0]) > 0).all()
    for first in (36, 42):
        assert marks[first, 0] < marks[first + 3, 0]
        assert marks[first + 1, 1] < marks[first + 5, 1]
    assert marks[48, 0] < marks[51, 0] < marks[54, 0]
    assert marks[51, 1] < marks[57, 1]


def test_landmarks_mark_what_is_drawn():
    placement = Placement((64.0, 64.0), 50.0, 0.05, 0.0, 0.0, 0.8)
    for seed in range(6):
        draws = Draws(seed)
        identity = Identity(draws)
        identity.glasses, identity.iris, identity.skin = "none", (60, 40, 30), (229, 186, 154)
        face = shape_face(identity, units := {25: (1.0, 1.0), 26: (0.9, 0.9)})
        canvas = Canvas(np.full((128, 128, 3), 128, dtype=np.uint8), placement)
        paint_person(canvas, identity, units, face, draws)
        image, marks = canvas.finish(), placement.place(landmarks(face))
        pixels = {name: image[int(y), int(x)].astype(int) for name, (x, y) in {
            "skin": (marks[30] + marks[1]) / 2,
            "iris": (marks[36] + marks[39]) / 2,
            "throat": marks[62] * 0.5 + marks[66] * 0.5,
        }.items()}  # fmt: skip
        assert pixels["iris"].sum() < pixels["skin"].sum() - 150
        assert pixels["throat"][1] < pixels["skin"][1] - 50


@pytest.mark.parametrize("seed", range(12))
def test_boxes_lie_inside_their_image_and_bound_the_face(seed):
    picture = draw_portrait(Draws(seed), {26: (1.0, 1.0), 25: (1.0, 1.0)})
    height, width = picture.pixels.shape[:2]
    x, y, box_width, box_height = picture.box
    assert 0 <= x < x + box_width <= width
    assert 0 <= y < y + box_height <= height
    inner = picture.landmarks[17:]
    assert (inner >= (x, y)).all()
    assert (inner <= (x + box_width, y + box_height)).all()


def test_a_scene_has_texture_but_no_landmarks():
    picture = draw_scene(Draws(9))
    assert picture.landmarks is None
    assert picture.pixels.std() > 10


def test_raising_a_unit_moves_what_it_should():
    identity = Identity(Draws(2))
    rest = landmarks(shape_face(identity, {}))

    def moved(*units: int) -> np.ndarray:
        return landmarks(shape_face(identity, dict.fromkeys(units, (1.0, 1.0)))) - rest

    inner_brows, outer_brows, corners = [21, 22], [17, 26], [48, 54]
    assert (moved(1)[inner_brows, 1] < -0.1).all()
    assert (moved(2)[outer_brows, 1] < -0.05).all()
    assert (moved(4)[inner_brows, 1] > 0.05).all()
    assert (moved(12)[corners, 1] < -0.1).all()
    assert (moved(15)[corners, 1] > 0.1).all()
    assert moved(20)[54, 0] > 0.05 > -0.05 > moved(20)[48, 0]
    assert moved(25, 26)[66, 1] - moved(25, 26)[62, 1] > 0.2
    assert moved(26)[8, 1] > 0.1
    opening = moved(5)[[41, 47], 1] - moved(5)[[37, 43], 1]
    assert (opening > 0.05).all()
