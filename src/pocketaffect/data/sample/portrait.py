"""Draws one picture: a person before a background, or a scene without one, as light and camera show it."""

from dataclasses import dataclass

import numpy as np

from pocketaffect.data.sample.annotations import ActionUnits
from pocketaffect.data.sample.canvas import (
    Canvas,
    Placement,
    Points,
    brush,
    ellipse,
    points,
    rotate,
    smooth_closed,
    smooth_open,
)
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.features import paint_behind, paint_person, rounded_box
from pocketaffect.data.sample.geometry import Face, landmarks, shape_face
from pocketaffect.data.sample.identity import CLOTH_COLOURS, SKIN_TONES, Colour, Identity, darken, mix


def paint_background(draws: Draws, height: int, width: int) -> np.ndarray:
    """Paints a plain, graded or textured background, uint8 RGB of shape (height, width, 3)."""
    first, second = _any_colour(draws), _any_colour(draws)
    kind = draws.pick_weighted({"plain": 2.0, "graded": 3.0, "texture": 3.0, "shapes": 2.0})
    if kind == "plain":
        return _mixed(first, first, np.zeros((height, width), dtype=np.int32))
    if kind == "graded":
        return _mixed(first, second, _ramp(draws, height, width))
    texture = _mixed(first, second, value_noise(draws, height, width, draws.pick((5, 9, 16, 30))))
    if kind == "texture":
        return texture
    canvas = Canvas(texture)
    for _ in range(6):
        _paint_shape(canvas, draws)
    return canvas.finish()


def paint_scene(draws: Draws, height: int, width: int) -> np.ndarray:
    """Paints a textured scene without a face, uint8 RGB of shape (height, width, 3)."""
    coarse = value_noise(draws, height, width, draws.pick((12, 20, 34)))
    fine = value_noise(draws, height, width, draws.pick((3, 4, 6)))
    canvas = Canvas(_mixed(_any_colour(draws), _any_colour(draws), (coarse * 3 + fine) // 4))
    for _ in range(draws.index(14) + 6):
        _paint_shape(canvas, draws)
    return canvas.finish()


def value_noise(draws: Draws, height: int, width: int, cell: int) -> np.ndarray:
    """Draws smooth random texture: a grid of random values, linear between its points; int32 in 0..255."""
    grid = draws.bytes_array(height // cell + 2, width // cell + 2).astype(np.int32)
    y, x = np.arange(height), np.arange(width)
    rows, down = y // cell, (y % cell)[:, None]
    columns, right = x // cell, (x % cell)[None, :]
    upper = grid[rows][:, columns] * (cell - right) + grid[rows][:, columns + 1] * right
    lower = grid[rows + 1][:, columns] * (cell - right) + grid[rows + 1][:, columns + 1] * right
    return np.asarray((upper * (cell - down) + lower * down) // (cell * cell))


def take_picture(draws: Draws, image: np.ndarray, *, poor: bool = False) -> np.ndarray:
    """Takes the picture: light from one side, exposure, colour cast, blur, sensor noise, sometimes no colour."""
    height, width = image.shape[:2]
    exposure = int(draws.bell(190, 320))
    slope_x, slope_y = int(draws.bell(-150, 150)), int(draws.bell(-100, 100))
    cast = [int(draws.bell(236, 276)) for _ in range(3)]
    x = np.arange(width, dtype=np.int32)[None, :] * 2 - width
    y = np.arange(height, dtype=np.int32)[:, None] * 2 - height
    light = np.maximum(exposure + slope_x * x // width + slope_y * y // height, 60)
    lit = image.astype(np.int32) * light[:, :, None] * np.array(cast, dtype=np.int32) >> 16
    # A soft shoulder keeps bright skin from turning into a white patch.
    over = np.maximum(lit - 200, 0)
    lit = np.minimum(lit, 200) + over * 55 // (over + 55)
    side = min(height, width)
    passes = 6 + side // 10 if poor else draws.pick((0, 0, 0, 0, 1, 1, 2, 3))
    for _ in range(passes):
        lit = _soften(lit)
    amount = draws.pick((1, 2, 2, 3, 4, 6, 9))
    lit = lit + ((_irwin_hall(draws, height, width) * amount) >> 8)
    if draws.chance(0.06):
        gray = (lit[:, :, 0] * 77 + lit[:, :, 1] * 150 + lit[:, :, 2] * 29) >> 8
        lit = np.repeat(gray[:, :, None], 3, axis=2)
    return np.asarray(np.clip(lit, 0, 255).astype(np.uint8))


def _irwin_hall(draws: Draws, height: int, width: int) -> np.ndarray:
    """Draws bell-shaped noise about 0 in RGB, standard deviation about 210."""
    luma = draws.bytes_array(2, height, width, 1).astype(np.int32).sum(axis=0)
    chroma = draws.bytes_array(height, width, 3).astype(np.int32)
    return np.asarray(luma * 2 + (chroma >> 1) - 510 - 63)


def _soften(image: np.ndarray) -> np.ndarray:
    """Blurs with binomial 1-2-1 in both directions."""
    padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
    image = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return np.asarray((padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:] + 8) >> 4)


def _any_colour(draws: Draws) -> Colour:
    grey = draws.uniform(20, 235)
    red, green, blue = (int(max(0.0, min(255.0, grey + draws.uniform(-55, 55)))) for _ in range(3))
    return red, green, blue


def _mixed(first: Colour, second: Colour, weight: np.ndarray) -> np.ndarray:
    """Interpolates between two colours by an int32 weight in 0..255 of shape (height, width)."""
    low, high = np.array(first, dtype=np.int32), np.array(second, dtype=np.int32)
    return np.asarray((low + (high - low) * weight[:, :, None] // 255).astype(np.uint8))


def _ramp(draws: Draws, height: int, width: int) -> np.ndarray:
    """Computes a gradient in any direction, int32 in 0..255."""
    x = np.arange(width, dtype=np.int32)[None, :] * 255 // max(1, width - 1)
    y = np.arange(height, dtype=np.int32)[:, None] * 255 // max(1, height - 1)
    share = draws.index(257)
    x = x if draws.chance(0.5) else 255 - x
    return (x * share + y * (256 - share)) >> 8


def _paint_shape(canvas: Canvas, draws: Draws) -> None:
    """Paints one thing of the world: a disc, a slab, a branch, a lump."""
    x, y = draws.uniform(0, canvas.width), draws.uniform(0, canvas.height)
    size = draws.uniform(0.05, 0.35) * canvas.height
    colour = _any_colour(draws)
    kind = draws.index(4)
    if kind == 0:
        canvas.fill(colour, ellipse((x, y), (size, size * draws.uniform(0.5, 1.2))))
    elif kind == 1:
        third = size / 3
        slab = points((x - size, y - third), (x + size, y - third), (x + size, y + third), (x - size, y + third))
        canvas.fill(colour, rotate(slab, (x, y), draws.uniform(-0.7, 0.7)))
    elif kind == 2:
        bends = [draws.uniform(-size, size) for _ in range(2)]
        line = points((x, y), (x + bends[0], y + size), (x + bends[1], y + 3 * size))
        canvas.fill(colour, brush(smooth_open(line), (size / 4, size / 8)))
    else:
        lump = ellipse((x, y), (size, size), 2)
        wobble = np.array([[draws.uniform(0.5, 1.4)] for _ in range(len(lump))])
        canvas.fill(colour, smooth_closed((lump - (x, y)) * wobble + (x, y)))


OCCLUDERS = ("hand", "bar", "scarf", "lock", "cup")

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

SMALLEST_SIDE = 70
LARGEST_SIDE = 140


@dataclass(frozen=True)
class Picture:
    """One drawn image, uint8 RGB of shape (height, width, 3), with the box of the head, not its hair."""

    pixels: np.ndarray
    box: Box
    landmarks: Points | None
    """68 iBUG points in pixels, shape (68, 2); None without a face."""


def draw_portrait(draws: Draws, units: ActionUnits, *, poor: bool = False) -> Picture:
    """Draws a person who shows the given action units; `poor` blurs and hides so much that they are uncertain."""
    height, width = _sample_size(draws)
    identity = Identity(draws)
    face = shape_face(identity, units)
    placement = _sample_placement(draws, identity, face, height, width)
    canvas = Canvas(paint_background(draws, height, width), placement)
    paint_behind(canvas, identity)
    paint_person(canvas, identity, units, face, draws)
    if poor or draws.chance(0.10):
        _paint_occluder(canvas, identity, draws, draws.pick(OCCLUDERS))
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


def _paint_occluder(canvas: Canvas, identity: Identity, draws: Draws, kind: str) -> None:
    """Paints something in front of the face that hides a part of it, seldom all that matters."""
    sign = draws.pick((-1.0, 1.0))
    colour = draws.pick(CLOTH_COLOURS)
    if kind == "hand":
        skin = identity.skin if draws.chance(0.8) else draws.pick(SKIN_TONES)
        for finger in range(4):
            y = 0.42 + 0.15 * finger + draws.uniform(-0.02, 0.02)
            tip = sign * (0.22 + 0.05 * abs(finger - 1) + draws.uniform(0.0, 0.1))
            line = points((sign * 1.4, y + 0.35), (sign * 0.8, y + 0.08), (tip, y))
            canvas.fill(darken(skin, 0.4), brush(smooth_open(line), (0.19, 0.17, 0.12)))
            canvas.fill(darken(skin, 0.08), brush(smooth_open(line), (0.16, 0.14, 0.09)))
    elif kind == "bar":
        center = (sign * draws.uniform(0.25, 0.8), draws.uniform(0.1, 0.9))
        bar = points((center[0] - 0.09, -1.6), (center[0] + 0.09, -1.6), (center[0] + 0.09, 2.0),
                     (center[0] - 0.09, 2.0))  # fmt: skip
        canvas.fill(colour, rotate(bar, center, draws.uniform(-0.5, 0.5)))
    elif kind == "scarf":
        top = draws.uniform(0.62, 0.85)
        edge = points((-1.1, top - 0.1), (-0.4, top + 0.02), (0.0, top), (0.5, top + 0.03), (1.1, top - 0.08))
        canvas.fill(colour, np.concatenate([smooth_open(edge), points((1.3, 1.6), (-1.3, 1.6))]))
        canvas.fill(darken(colour, 0.3), brush(smooth_open(edge), (0.03, 0.05, 0.03)))
    elif kind == "lock":
        hair = identity.hair
        for step in range(4):
            x = sign * (0.2 + 0.1 * step)
            line = points((x * 0.7, -1.0), (x * 1.1, -0.5), (x * 1.35, draws.uniform(-0.1, 0.3)))
            canvas.fill(darken(hair, 0.2) if step % 2 else hair, brush(smooth_open(line), (0.12, 0.13, 0.01)))
    else:
        x, y = sign * draws.uniform(0.2, 0.5), draws.uniform(0.75, 0.95)
        canvas.fill(colour, smooth_closed(rounded_box((x, y + 0.25), 0.26, 0.3)))
        canvas.fill(mix(colour, (255, 255, 255), 0.5), ellipse((x, y - 0.03), (0.27, 0.06)))


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
