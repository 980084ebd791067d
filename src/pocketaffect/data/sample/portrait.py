"""Draws one picture: a person with an expression, or a scene without one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketaffect.data.sample.action_units import ActionUnits
from pocketaffect.data.sample.canvas import Canvas, Placement
from pocketaffect.data.sample.curves import Points
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.features import (
    paint_brow,
    paint_eye,
    paint_mouth,
    paint_nose,
    paint_skin,
    paint_wrinkles,
)
from pocketaffect.data.sample.geometry import Face, landmarks, shape_face
from pocketaffect.data.sample.identity import Identity, sample_identity
from pocketaffect.data.sample.scene import paint_background, paint_scene, take_picture
from pocketaffect.data.sample.wear import (
    OCCLUDERS,
    paint_beard,
    paint_behind,
    paint_glasses,
    paint_hair,
    paint_occluder,
)

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

SMALLEST_SIDE = 70
LARGEST_SIDE = 140


@dataclass(frozen=True)
class Picture:
    """One drawn image.

    Attributes:
        pixels: uint8 RGB of shape (height, width, 3).
        box: Face box inside the image; bounds the head, not its hair.
        landmarks: 68 iBUG points in pixels, shape (68, 2); None without a face.
    """

    pixels: np.ndarray
    box: Box
    landmarks: Points | None


def draw_portrait(draws: Draws, units: ActionUnits, *, poor: bool = False) -> Picture:
    """Draws a person who shows the given action units.

    Args:
        draws: Random numbers for everything but the units.
        units: The action units that the face shows.
        poor: Blur and hide so much that the expression is uncertain.
    """
    height, width = _sample_size(draws)
    identity = sample_identity(draws)
    face = shape_face(identity, units)
    placement = _sample_placement(draws, identity, face, height, width)
    canvas = Canvas(paint_background(draws, height, width), placement)
    paint_behind(canvas, identity)
    paint_person(canvas, identity, units, face, draws)
    if poor or draws.chance(0.10):
        paint_occluder(canvas, identity, draws, draws.pick(OCCLUDERS))
    pixels = take_picture(draws, canvas.finish(), poor=poor)
    box = _face_box(draws, placement.place(face.outline), height, width)
    return Picture(pixels, box, placement.place(landmarks(face)))


def draw_scene(draws: Draws) -> Picture:
    """Draws a scene without a face; its box is what a detector took for one."""
    height, width = _sample_size(draws)
    pixels = take_picture(draws, paint_scene(draws, height, width))
    left, top = draws.index(width // 6), draws.index(height // 6)
    box = (left, top, width - left - draws.index(width // 6), height - top - draws.index(height // 6))
    return Picture(pixels, box, None)


def paint_person(canvas: Canvas, identity: Identity, units: ActionUnits, face: Face, draws: Draws) -> None:
    """Paints head, features and what is worn, back to front."""
    gaze = (draws.bell(-0.05, 0.05), draws.bell(-0.012, 0.012))
    paint_skin(canvas, identity, face)
    paint_beard(canvas, identity, face)
    paint_wrinkles(canvas, identity, units, face)
    for eye in face.eyes:
        paint_eye(canvas, identity, eye, gaze)
    paint_nose(canvas, identity, face)
    for eye, sign in zip(face.eyes, (-1.0, 1.0), strict=True):
        paint_brow(canvas, identity, eye, sign)
    paint_mouth(canvas, identity, units, face)
    paint_hair(canvas, identity, draws)
    paint_glasses(canvas, identity, face)


def _sample_size(draws: Draws) -> tuple[int, int]:
    share = draws.uniform(0, 1)
    height = SMALLEST_SIDE + int((LARGEST_SIDE - SMALLEST_SIDE) * share * share)
    width = int(height * draws.bell(0.86, 1.08))
    return height, max(SMALLEST_SIDE, min(LARGEST_SIDE, width))


def _sample_placement(draws: Draws, identity: Identity, face: Face, height: int, width: int) -> Placement:
    roll = draws.bell(-0.12, 0.12)
    head_height = float(face.outline[:, 1].max() - face.outline[:, 1].min()) + 0.05
    fill = draws.bell(0.72, 0.96)
    scale = min(height * fill / head_height, width * 0.94 / (2 * identity.head_width))
    middle = float(face.outline[:, 1].max() + face.outline[:, 1].min()) / 2
    slack_x = max(0.0, width - 2 * identity.head_width * scale) * 0.3
    slack_y = max(0.0, height - head_height * scale) * 0.4
    center = (
        width / 2 + draws.bell(-slack_x, slack_x) + 2 * roll * middle * scale,
        height / 2 - middle * scale + draws.bell(-slack_y, slack_y),
    )
    return Placement(center, scale, roll, draws.bell(-0.2, 0.2), draws.bell(-0.08, 0.08), identity.head_width)


def _face_box(draws: Draws, outline: Points, height: int, width: int) -> Box:
    """Computes a square about the head as a detector finds it: a few per cent off, cut at the image's rim."""
    left, top = float(outline[:, 0].min()), float(outline[:, 1].min())
    right, bottom = float(outline[:, 0].max()), float(outline[:, 1].max())
    slip = 0.05 * (bottom - top)
    side = max(right - left, bottom - top) + draws.bell(-slip, slip)
    x = (left + right) / 2 + draws.bell(-slip, slip)
    y = (top + bottom) / 2 + draws.bell(-slip, slip)
    x0, y0 = max(0, int(x - side / 2)), max(0, int(y - side / 2))
    x1, y1 = min(width, int(x + side / 2) + 1), min(height, int(y + side / 2) + 1)
    return x0, y0, x1 - x0, y1 - y0
