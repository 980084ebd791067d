"""Paints the parts of a face that move: skin relief and wrinkles, eyes, brows, nose, mouth."""

from __future__ import annotations

import numpy as np

from pocketaffect.data.sample.action_units import ActionUnits
from pocketaffect.data.sample.canvas import Canvas
from pocketaffect.data.sample.curves import Points, brush, ellipse, points, smooth_open
from pocketaffect.data.sample.geometry import Eye, Face, Mouth, strength
from pocketaffect.data.sample.identity import Colour, Identity, darken, mix

_TEETH: Colour = (240, 236, 226)
_MOUTH_INSIDE: Colour = (70, 22, 26)
_TONGUE: Colour = (176, 76, 80)
_SCLERA: Colour = (244, 241, 236)
_PUPIL: Colour = (16, 13, 13)


def paint_skin(canvas: Canvas, identity: Identity, face: Face) -> None:
    """Paints the head's skin with soft relief: sockets, cheeks, nose ridge, chin."""
    width = identity.head_width
    canvas.fill(identity.skin, face.outline)
    rim = face.outline * np.array([0.86, 0.9]) + np.array([0.0, -0.02])
    canvas.shade(-34, face.outline, rim)
    for eye in face.eyes:
        x, y = eye.center
        canvas.shade(-24, ellipse((x * 0.95, y - 0.05), (eye.width * 1.25, 0.16)))
        canvas.shade(16, ellipse((x * 1.15, y + 0.34), (0.16, 0.12)))
    canvas.shade(14, ellipse((0.0, -0.55), (0.4 * width, 0.14)))
    chin = 0.84 + face.jaw_drop * 0.75
    canvas.shade(12, ellipse((0.0, chin), (0.13, 0.07)))


def paint_wrinkles(canvas: Canvas, identity: Identity, units: ActionUnits, face: Face) -> None:
    """Folds that action units and age press into the skin."""
    for side, sign in ((0, -1.0), (1, 1.0)):
        unit = {number: both[side] for number, both in units.items()}
        _paint_side_folds(canvas, identity, unit, face, sign)
    forehead = max(strength(units, 1), strength(units, 2), 0.25 * identity.age)
    only_inner = max(0.0, strength(units, 1) - strength(units, 2))
    reach = identity.head_width * (0.62 - 0.3 * only_inner)
    for y, share in ((-0.60, 0.7), (-0.52, 1.0), (-0.44, 0.8)):
        bend = 0.03 - 0.05 * only_inner
        line = points((-reach, y + bend), (-reach / 2, y), (0.0, y + 0.012), (reach / 2, y), (reach, y + bend))
        _crease(canvas, identity, line, forehead * share, 0.024)
    nose = strength(units, 9)
    for y, half in ((-0.10, 0.055), (-0.04, 0.075), (0.02, 0.07)):
        _crease(canvas, identity, points((-half, y), (0.0, y - 0.025), (half, y)), nose, 0.026)
    chin = strength(units, 17)
    y = 0.79 + face.jaw_drop * 0.7
    _crease(canvas, identity, points((-0.09, y), (0.0, y - 0.03), (0.09, y)), chin, 0.028)


def _paint_side_folds(canvas: Canvas, identity: Identity, unit: dict[int, float], face: Face, sign: float) -> None:
    au = {number: unit.get(number, 0.0) for number in (4, 6, 9, 10, 12, 14, 15)}
    aged = 0.3 * identity.age
    nose, mouth = face.nose, face.mouth
    corner_x, corner_y = mouth.inner_upper[12 if sign > 0 else 0]
    out = abs(float(corner_x))

    def fold(line: Points, depth: float, width: float) -> None:
        _crease(canvas, identity, line * np.array([sign, 1.0]), depth, width)

    wing = nose.half_width
    smile = max(au[12], 0.8 * au[10], 0.8 * au[9], aged)
    fold(
        points(
            (wing + 0.03, nose.wing_y - 0.02),
            (wing + 0.10 + 0.07 * au[12], (nose.wing_y + corner_y) / 2 - 0.03 * au[12]),
            (out + 0.07 + 0.03 * au[12], corner_y - 0.01),
        ),
        smile, 0.034,
    )  # fmt: skip
    fold(points((0.045, -0.36), (0.035, -0.27), (0.05, -0.18)), max(au[4], 0.6 * au[9]), 0.032)
    fold(points((0.06, -0.02), (0.12, 0.06), (0.15, 0.14)), au[9], 0.03)
    eye_x = identity.eye_distance + identity.eye_width
    for y in (-0.10, -0.06, -0.01):
        fold(points((eye_x + 0.05, y * 0.8), (eye_x + 0.15, y * 1.6 + 0.04)), 0.9 * au[6], 0.022)
    fold(points((eye_x - 0.3, 0.07), (eye_x - 0.15, 0.085), (eye_x + 0.03, 0.02)), max(0.8 * au[6], aged), 0.024)
    fold(
        points((out + 0.05, corner_y - 0.09), (out + 0.09, corner_y - 0.01), (out + 0.06, corner_y + 0.08)),
        au[14], 0.042,
    )  # fmt: skip
    fold(points((out + 0.0, corner_y + 0.03), (out + 0.05, corner_y + 0.13)), au[15], 0.034)


def _crease(canvas: Canvas, identity: Identity, line: Points, depth: float, width: float) -> None:
    if depth > 0.12:
        colour = darken(identity.skin, min(0.62, 0.14 + 0.5 * depth))
        canvas.fill(colour, brush(smooth_open(line), (0.006, width * (0.5 + 0.5 * depth), 0.006)))


def paint_eye(canvas: Canvas, identity: Identity, eye: Eye, gaze: tuple[float, float]) -> None:
    """Paints one eye: sclera, iris and pupil, lids drawn over them as a ring of skin, lashes, crease.

    Args:
        canvas: The canvas to paint on.
        identity: The person whose eye it is.
        eye: Its curves.
        gaze: Distance of the iris from the eye's centre, in units.
    """
    x, y = eye.center
    ring = ellipse((x, y), (eye.width * 1.12, 0.27))
    contour = np.concatenate([eye.upper, eye.lower[::-1]])
    line = darken(identity.skin, 0.75)
    if eye.closed:
        canvas.fill(line, brush(eye.lower, (0.014, 0.034, 0.022)))
        return
    canvas.fill(mix(_SCLERA, identity.skin, 0.08), contour)
    iris = (x + gaze[0], y - 0.005 + gaze[1])
    radius = eye.iris_radius
    canvas.fill(darken(identity.iris, 0.5), ellipse(iris, (radius, radius)))
    canvas.fill(identity.iris, ellipse(iris, (radius * 0.82, radius * 0.82)))
    canvas.fill(_PUPIL, ellipse(iris, (radius * 0.45, radius * 0.45)))
    canvas.fill((255, 255, 255), ellipse((iris[0] - 0.03, iris[1] - 0.03), (0.02, 0.02), 3))
    canvas.fill(identity.skin, ring, contour)
    canvas.fill(line, brush(eye.upper, (0.014, 0.036, 0.024)))
    canvas.fill(darken(identity.skin, 0.35), brush(eye.lower, (0.008, 0.016, 0.008)))
    crease = eye.upper[2:-2] - np.array([0.0, 0.045])
    canvas.fill(darken(identity.skin, 0.3), brush(crease, (0.006, 0.02, 0.006)))


def paint_brow(canvas: Canvas, identity: Identity, eye: Eye, sign: float) -> None:
    """Paints one brow, thick at the nose and thin outside."""
    thick = identity.brow_thickness
    widths = (thick * 0.75, thick, thick * 0.85, thick * 0.22)
    canvas.fill(identity.brow, brush(eye.brow, widths if sign > 0 else widths[::-1]))


def paint_nose(canvas: Canvas, identity: Identity, face: Face) -> None:
    """Paints ridge and wings by light and shade, nostrils and wings by lines."""
    nose = face.nose
    half, tip, wing = nose.half_width, nose.tip, nose.wing_y
    for sign in (-1.0, 1.0):
        flank = points(
            (sign * 0.05, nose.root), (sign * 0.12, nose.root - 0.02), (sign * half, wing), (sign * half * 0.5, wing)
        )
        canvas.shade(-30, flank, fine=True)
        side = points(
            (sign * half * 0.82, wing - 0.08), (sign * half * 1.03, wing - 0.02), (sign * half * 0.8, wing + 0.045)
        )
        canvas.fill(darken(identity.skin, 0.38), brush(smooth_open(side), (0.008, 0.026, 0.012)))
        nostril = ellipse((sign * half * 0.45, wing + 0.035), (half * 0.24, 0.022), 3)
        canvas.fill(darken(identity.skin, 0.72), nostril)
    canvas.shade(26, ellipse((0.0, (nose.root + tip) / 2), (0.035, (tip - nose.root) / 2)), fine=True)
    canvas.shade(-26, ellipse((0.0, wing + 0.09), (half * 0.9, 0.03)), fine=True)
    canvas.shade(34, ellipse((0.0, tip - 0.04), (0.045, 0.04)), fine=True)


def paint_mouth(canvas: Canvas, identity: Identity, units: ActionUnits, face: Face) -> None:
    """Paints inside, teeth and tongue, then lips; one dark line when closed."""
    mouth = face.mouth
    inside = np.concatenate([smooth_open(mouth.inner_upper), smooth_open(mouth.inner_lower)[::-1]])
    if mouth.opening > 0.02:
        canvas.fill(_MOUTH_INSIDE, inside)
        _paint_teeth(canvas, units, mouth)
    upper = np.concatenate([smooth_open(mouth.outer_upper), smooth_open(mouth.inner_upper)[::-1]])
    lower = np.concatenate([smooth_open(mouth.inner_lower), smooth_open(mouth.outer_lower)[::-1]])
    canvas.fill(darken(identity.lips, 0.16), upper)
    canvas.fill(identity.lips, lower)
    line = darken(identity.lips, 0.78)
    if mouth.opening > 0.02:
        for edge in (mouth.inner_upper, mouth.inner_lower):
            canvas.fill(line, brush(smooth_open(edge), (0.02, 0.014, 0.02)))
    else:
        canvas.fill(line, brush(smooth_open(mouth.inner_upper), (0.022, 0.03, 0.022)))
    low = mouth.outer_lower[6, 1]
    canvas.shade(-30, ellipse((0.0, float(low) + 0.05), (0.14, 0.03)), fine=True)
    canvas.shade(22, ellipse((0.0, float(low) - 0.035), (0.09, 0.016)), fine=True)


def _paint_teeth(canvas: Canvas, units: ActionUnits, mouth: Mouth) -> None:
    opening = mouth.opening
    shown = 0.35 + 0.5 * max(strength(units, 12), strength(units, 10), strength(units, 20))
    height = min(opening * 0.95, 0.12 * shown + 0.02)
    gap = mouth.inner_lower - mouth.inner_upper
    if strength(units, 26) > 0.3:
        center = mouth.inner_lower[6]
        size = (0.13, opening * 0.32)
        canvas.fill(_TONGUE, ellipse((float(center[0]), float(center[1]) - size[1] * 0.7), size))
    row = mouth.inner_upper + gap * np.minimum(1.0, height / np.maximum(gap[:, 1:], 1e-6))
    canvas.fill(_TEETH, np.concatenate([mouth.inner_upper[1:-1], row[1:-1][::-1]]))
    bared = strength(units, 16)
    if bared > 0.2:
        share = np.minimum(1.0, 0.06 * bared / np.maximum(gap[:, 1:], 1e-6))
        low = mouth.inner_lower - gap * share
        canvas.fill((222, 216, 204), np.concatenate([mouth.inner_lower[2:-2], low[2:-2][::-1]]))
