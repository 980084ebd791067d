"""Curves and a drawing surface whose points and pixels are the same on every machine.

Curves are point lists, made by + - * / and square root alone: IEEE arithmetic gives one answer everywhere. Matrix
products are avoided, since BLAS libraries fuse and reorder them.

Shapes are filled without anti-aliasing, in fixed-point coordinates, on an enlarged uint8 surface that is then
averaged down in integers: smooth edges without one floating-point pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np

from pocketaffect.data.sample.identity import Colour

Points = np.ndarray
"""float64 of shape (n, 2): x to the right, y down."""

Pair = tuple[float, float]

STEPS: Final = 5
"""Points per control point of a smoothed curve."""


def points(*pairs: Pair) -> Points:
    """Gives the pairs as an array of shape (n, 2)."""
    return np.array(pairs, dtype=np.float64)


def mirror(curve: Points) -> Points:
    """Exchanges left and right of the curve."""
    return np.asarray(curve * np.array([-1.0, 1.0]))


@cache
def _catmull_rom_weights(steps: int) -> np.ndarray:
    t = np.arange(steps, dtype=np.float64) / steps
    square, cube = t * t, t * t * t
    return np.stack(
        [
            (2 * square - cube - t) / 2,
            (3 * cube - 5 * square + 2) / 2,
            (4 * square - 3 * cube + t) / 2,
            (cube - square) / 2,
        ]
    )[:, None, :, None]


def smooth_closed(control: Points, steps: int = STEPS) -> Points:
    """Computes the closed Catmull-Rom curve through n control points: n * steps points."""
    weights = _catmull_rom_weights(steps)
    p0, p1, p2, p3 = (np.roll(control, shift, axis=0)[:, None, :] for shift in (1, 0, -1, -2))
    curve = p0 * weights[0] + p1 * weights[1] + p2 * weights[2] + p3 * weights[3]
    return np.ascontiguousarray(curve.reshape(-1, 2))


def smooth_open(control: Points, steps: int = STEPS) -> Points:
    """Computes the open Catmull-Rom curve through n control points: (n - 1) * steps + 1 points."""
    padded = np.concatenate([control[:1], control, control[-1:]])
    weights = _catmull_rom_weights(steps)
    p0, p1, p2, p3 = (padded[start : len(padded) - 3 + start][:, None, :] for start in range(4))
    curve = (p0 * weights[0] + p1 * weights[1] + p2 * weights[2] + p3 * weights[3]).reshape(-1, 2)
    return np.concatenate([curve, control[-1:]])


@cache
def _unit_circle(quarter: int) -> Points:
    # The rational parametrisation of the circle needs no sine.
    t = np.arange(-quarter, quarter, dtype=np.float64) / quarter
    half = np.stack([(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)], axis=1)
    return np.concatenate([half, -half])


def ellipse(center: Pair, radii: Pair, quarter: int = 6) -> Points:
    """Computes a closed ellipse of 4 * quarter points."""
    return np.asarray(_unit_circle(quarter) * np.array(radii) + np.array(center))


def rotation(half_angle_tangent: float) -> Pair:
    """Computes cosine and sine of the angle whose half has this tangent (about the angle in radians / 2)."""
    square = half_angle_tangent * half_angle_tangent
    return (1 - square) / (1 + square), 2 * half_angle_tangent / (1 + square)


def rotate(curve: Points, center: Pair, half_angle_tangent: float) -> Points:
    """Turns the curve about a point."""
    cosine, sine = rotation(half_angle_tangent)
    x, y = curve[:, 0] - center[0], curve[:, 1] - center[1]
    return np.stack([x * cosine - y * sine + center[0], x * sine + y * cosine + center[1]], axis=1)


def brush(curve: Points, widths: Sequence[float]) -> Points:
    """Computes the outline of a stroke along an open curve; `widths` are at even distances, linear in between."""
    ahead = np.concatenate([curve[1:], curve[-1:]])
    behind = np.concatenate([curve[:1], curve[:-1]])
    direction = ahead - behind
    length = np.sqrt(direction[:, 0] * direction[:, 0] + direction[:, 1] * direction[:, 1])
    direction = direction / np.maximum(length, 1e-9)[:, None]
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    place = np.arange(len(curve), dtype=np.float64) * (len(widths) - 1) / (len(curve) - 1)
    left = np.minimum(place.astype(np.int64), len(widths) - 2)
    table = np.array(widths, dtype=np.float64)
    half = (table[left] + (table[left + 1] - table[left]) * (place - left)) / 2
    return np.concatenate([curve + normal * half[:, None], (curve - normal * half[:, None])[::-1]])


OVERSAMPLING: Final = 3
_FRACTION_BITS: Final = 4
_NEUTRAL: Final = 128


@dataclass(frozen=True)
class Placement:
    """How the face frame lies in the image: its origin in pixels, and pixels per unit."""

    center: tuple[float, float]
    scale: float
    roll: float
    """Tangent of half the head's tilt."""
    yaw: float
    """Head turn: features move by this share of the unit, the outline less (0 at the rim)."""
    pitch: float
    """The same, downwards."""
    head_width: float
    """Half the head's width in units; depth falls to 0 there."""

    def place(self, curve: Points) -> Points:
        """Maps the face frame to pixels."""
        x, y = curve[:, 0], curve[:, 1]
        across, along = x / self.head_width, y / 1.05
        depth = np.maximum(1 - across * across, 0.0) * np.maximum(1 - along * along, 0.0)
        x, y = x + self.yaw * depth, y + self.pitch * depth
        cosine, sine = rotation(self.roll)
        return np.stack(
            [
                (x * cosine - y * sine) * self.scale + self.center[0],
                (x * sine + y * cosine) * self.scale + self.center[1],
            ],
            axis=1,
        )


class Canvas:
    """An RGB image under work, on a uint8 background; without a placement it takes curves in pixels."""

    def __init__(self, background: np.ndarray, placement: Placement | None = None) -> None:
        self.height, self.width = background.shape[:2]
        self.placement = placement
        self._background = background
        self._strokes: list[_Stroke] = []

    def fill(self, colour: Colour, *contours: Points) -> None:
        """Fills closed contours; where two overlap, a hole stays (even-odd rule)."""
        self._strokes.append(_Stroke("pixels", colour, contours))

    def shade(self, amount: int, *contours: Points, fine: bool = False) -> None:
        """Lightens (amount up to 127) or darkens (down to -128) a region with soft rims.

        A later region replaces an earlier one of the same softness where they overlap.
        """
        level = _NEUTRAL + amount
        self._strokes.append(_Stroke("fine" if fine else "broad", (level, level, level), contours))

    def finish(self) -> np.ndarray:
        """Gives the drawn image, uint8 RGB of shape (height, width, 3)."""
        neutral = np.full((self.height, self.width), _NEUTRAL, dtype=np.uint8)
        layers = {
            "pixels": np.repeat(np.repeat(self._background, OVERSAMPLING, axis=0), OVERSAMPLING, axis=1),
            "broad": neutral,
            "fine": neutral.copy(),
        }
        for stroke, contours in zip(self._strokes, self._fixed_contours(), strict=True):
            colour = stroke.colour if stroke.layer == "pixels" else stroke.colour[:1]
            cv2.fillPoly(layers[stroke.layer], contours, colour, lineType=cv2.LINE_8, shift=_FRACTION_BITS)
        unit = self.placement.scale if self.placement else self.height / 2
        broad = max(1, int(unit * 0.09))
        light = box_blur(box_blur(layers["broad"], broad), broad)
        light += box_blur(layers["fine"], max(1, int(unit * 0.035))) - 2 * _NEUTRAL
        # Shadows on skin are warm: red falls less than blue.
        gain = 1024 + light[:, :, None] * np.array([7, 8, 8], dtype=np.int32)
        clipped: np.ndarray = np.clip((_shrink(layers["pixels"]) * gain) >> 10, 0, 255).astype(np.uint8)
        return clipped

    def _fixed_contours(self) -> list[list[np.ndarray]]:
        """Computes all strokes' contours in fillPoly's fixed-point coordinates, placed in one go (ten times faster)."""
        curves = [curve for stroke in self._strokes for curve in stroke.contours]
        if not curves:
            return []
        placed = np.concatenate(curves)
        if self.placement:
            placed = self.placement.place(placed)
        one = 1 << _FRACTION_BITS
        # fillPoly's coordinates name pixel centres, ours their corners.
        coarse = np.floor((placed - 0.5) * one + 0.5).astype(np.int32)
        enlarged = np.floor((placed * OVERSAMPLING - 0.5) * one + 0.5).astype(np.int32)
        contours, start = [], 0
        for stroke in self._strokes:
            source = enlarged if stroke.layer == "pixels" else coarse
            parts = []
            for curve in stroke.contours:
                parts.append(source[start : start + len(curve)])
                start += len(curve)
            contours.append(parts)
        return contours


@dataclass(frozen=True)
class _Stroke:
    """A shape still to be painted."""

    layer: str
    colour: Colour
    contours: tuple[Points, ...]


def _shrink(enlarged: np.ndarray) -> np.ndarray:
    """Computes the mean of each OVERSAMPLING x OVERSAMPLING block, rounded, int32."""
    total = np.zeros((enlarged.shape[0] // OVERSAMPLING, enlarged.shape[1], 3), dtype=np.uint16)
    for row in range(OVERSAMPLING):
        total += enlarged[row::OVERSAMPLING]
    columns = total[:, ::OVERSAMPLING].astype(np.int32)
    for column in range(1, OVERSAMPLING):
        columns += total[:, column::OVERSAMPLING]
    area = OVERSAMPLING * OVERSAMPLING
    return (columns + area // 2) // area


def box_blur(layer: np.ndarray, radius: int) -> np.ndarray:
    """Averages over squares of 2 * radius + 1 pixels in integers; borders repeat. Any layer (h, w[, c]) to int32."""
    side = 2 * radius + 1
    blurred = layer.astype(np.int32)
    for axis in (0, 1):
        widths = [(0, 0)] * blurred.ndim
        widths[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(blurred, widths, mode="edge"), axis=axis, dtype=np.int32)
        length = blurred.shape[axis]
        upper, lower = [slice(None)] * blurred.ndim, [slice(None)] * blurred.ndim
        upper[axis], lower[axis] = slice(side, side + length), slice(0, length)
        blurred = (total[tuple(upper)] - total[tuple(lower)] + side // 2) // side
    return blurred
