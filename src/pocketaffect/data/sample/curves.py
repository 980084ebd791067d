"""Curves as point lists, by + - * / and square root alone: IEEE arithmetic gives one answer everywhere.

Matrix products are avoided for the same reason: BLAS libraries fuse and reorder them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np

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
    mirrored: Points = curve * np.array([-1.0, 1.0])
    return mirrored


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
    placed: Points = _unit_circle(quarter) * np.array(radii) + np.array(center)
    return placed


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
    """Computes the outline of a stroke along an open curve.

    Args:
        curve: The middle of the stroke, shape (n, 2).
        widths: Full widths at evenly spaced places from start to end, two or more; linear in between.
    """
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
