"""Paints a person: skin with its relief, what moves in a face, hair, clothes and glasses."""

import numpy as np

from pocketaffect.data.sample.annotations import ActionUnits
from pocketaffect.data.sample.canvas import Canvas, Points, brush, ellipse, mirror, points, smooth_closed, smooth_open
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.geometry import Eye, Face, Mouth, strength
from pocketaffect.data.sample.identity import Colour, Identity, darken, mix

_TEETH: Colour = (240, 236, 226)
_MOUTH_INSIDE: Colour = (70, 22, 26)
_TONGUE: Colour = (176, 76, 80)
_SCLERA: Colour = (244, 241, 236)
_PUPIL: Colour = (16, 13, 13)


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
    """Paints folds that action units and age press into the skin."""
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
    """Paints one eye: sclera, iris and pupil, lids drawn over them as a ring of skin, lashes, crease."""
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


def paint_behind(canvas: Canvas, identity: Identity) -> None:
    """Paints hair behind the head, neck, shoulders, ears."""
    width, volume, style = identity.head_width, identity.hair_volume, identity.hair_style
    if style == "long":
        half = width + 0.10 + volume
        side = points((half * 0.7, -0.95), (half, -0.4), (half * 1.04, 0.3), (half * 0.98, 0.95), (half * 0.8, 1.35))
        canvas.fill(darken(identity.hair, 0.25), smooth_closed(np.concatenate([side, mirror(side)[::-1]])))
    elif style == "afro":
        canvas.fill(identity.hair, ellipse((0.0, -0.42), (width + 0.24 + volume, 0.85 + volume)))
    elif style == "bun":
        canvas.fill(identity.hair, ellipse((0.0, -1.2), (0.3, 0.24)))
    elif style == "scarf":
        canvas.fill(darken(identity.wear, 0.3), ellipse((0.0, 0.0), (width + 0.2, 1.28)))
    neck = points((0.44, 0.5), (0.40, 1.1), (0.52, 1.4))
    canvas.fill(darken(identity.skin, 0.28), np.concatenate([neck, mirror(neck)[::-1]]))
    shoulder = points((0.30, 1.22), (0.62, 1.28), (1.15, 1.45), (1.5, 2.0), (1.5, 3.0))
    colour = identity.wear if style == "scarf" else identity.cloth
    canvas.fill(colour, np.concatenate([shoulder, mirror(shoulder)[::-1]]))
    if style != "scarf":
        for sign in (-1.0, 1.0):
            ear = ellipse((sign * width * 1.0, 0.04), (0.085, 0.19))
            canvas.fill(darken(identity.skin, 0.12), ear)
            canvas.fill(darken(identity.skin, 0.3), ellipse((sign * width * 1.02, 0.03), (0.035, 0.1), 3))


def paint_beard(canvas: Canvas, identity: Identity, face: Face) -> None:
    """Paints beard and stubble below the mouth's paint; a moustache follows the upper lip."""
    if identity.beard == "none":
        return
    mouth, width = face.mouth, identity.head_width
    hair = mix(identity.hair, identity.skin, 0.72 if identity.beard == "stubble" else 0.12)
    if identity.beard in ("full", "stubble"):
        steps = len(face.outline) // 18
        jaw = face.outline[4 * steps + 2 : 14 * steps - 1]
        low = float(mouth.outer_upper[6, 1]) - 0.06
        inner = points((-width * 0.84, 0.22), (-width * 0.62, low - 0.02), (0.0, low - 0.02),
                       (width * 0.62, low - 0.02), (width * 0.84, 0.22))  # fmt: skip
        canvas.fill(hair, np.concatenate([jaw, smooth_open(inner)]))
    if identity.beard == "goatee":
        y = float(mouth.outer_lower[6, 1]) + 0.13
        canvas.fill(hair, ellipse((0.0, y), (0.17, 0.12)))
    if identity.beard in ("full", "moustache", "goatee"):
        top = mouth.outer_upper - np.array([0.0, 0.03])
        canvas.fill(hair, brush(smooth_open(top[1:-1]), (0.03, 0.075, 0.06, 0.075, 0.03)))


def paint_hair(canvas: Canvas, identity: Identity, draws: Draws) -> None:
    """Paints hair and head-dress in front of the head."""
    style, width = identity.hair_style, identity.head_width
    if style == "bald":
        canvas.shade(22, ellipse((-0.15, -0.85), (0.25, 0.1)))
        return
    if style == "scarf":
        rim = ellipse((0.0, 0.03), (width * 0.9, 0.93))
        canvas.fill(identity.wear, ellipse((0.0, 0.0), (width + 0.16, 1.2)), rim)
        canvas.fill(darken(identity.wear, 0.3), brush(rim[12:36], (0.01, 0.03, 0.01)))
        return
    if style == "cap":
        _paint_cap(canvas, identity)
        return
    volume = {"buzz": 0.0, "afro": 0.12}.get(style, 0.04 + identity.hair_volume)
    temple = {"long": 0.2, "buzz": -0.25, "fringe": 0.0}.get(style, -0.1)
    outer = width + 0.02 + volume * 0.6
    crown = points((outer, temple), (outer * 1.0, -0.45), (outer * 0.83, -0.88 - volume * 0.6),
                   (outer * 0.45, -1.07 - volume))  # fmt: skip
    arc = np.concatenate([crown, points((0.0, -1.12 - volume)), mirror(crown)[::-1]])
    hair = mix(identity.hair, identity.skin, 0.35) if style == "buzz" else identity.hair
    canvas.fill(hair, np.concatenate([smooth_open(arc), smooth_open(_hairline(identity, temple))]))
    for _ in range(5 if style != "buzz" else 0):
        start = draws.uniform(-0.75, 0.75) * width
        strand = points((start, -1.02), (start * 1.2 + draws.uniform(-0.06, 0.06), -0.86), (start * 1.3, -0.74))
        tone = mix(hair, (255, 240, 220), 0.16) if draws.chance(0.5) else darken(hair, 0.35)
        canvas.fill(tone, brush(smooth_open(strand), (0.004, 0.03, 0.004)))


def _hairline(identity: Identity, temple: float) -> Points:
    """Computes the line from the left temple over the forehead to the right one."""
    width, line, part = identity.head_width, identity.hairline, identity.parting
    if identity.hair_style == "fringe":
        line = min(line, -0.5) + 0.2
        return points((-0.93 * width, temple), (-0.85 * width, -0.35), (-0.4 * width, line), (part, line + 0.03),
                      (0.4 * width, line - 0.02), (0.85 * width, -0.35), (0.93 * width, temple))  # fmt: skip
    peak = -0.16 if identity.hair_style in ("side", "long") else -0.03
    return points((-0.94 * width, temple), (-0.9 * width, -0.38), (-0.62 * width, line + 0.06),
                  (part, line + peak), (0.62 * width, line + 0.06), (0.9 * width, -0.38),
                  (0.94 * width, temple))  # fmt: skip


def _paint_cap(canvas: Canvas, identity: Identity) -> None:
    width = identity.head_width + 0.05
    side = points((width, -0.5), (width * 0.95, -0.85), (width * 0.5, -1.16))
    dome = np.concatenate([side, points((0.0, -1.22)), mirror(side)[::-1]])
    canvas.fill(identity.wear, smooth_open(dome))
    upper = points((-width, -0.52), (0.0, -0.62), (width, -0.52))
    lower = points((width * 0.8, -0.44), (0.0, -0.5), (-width * 0.8, -0.44))
    brim = np.concatenate([upper, lower])
    canvas.fill(darken(identity.wear, 0.4), smooth_closed(brim))


def paint_glasses(canvas: Canvas, identity: Identity, face: Face) -> None:
    """Paints frames on the nose; dark ones hide the eyes."""
    if identity.glasses == "none":
        return
    frame = darken(identity.wear, 0.6)
    for eye in face.eyes:
        x, y = eye.center[0], eye.center[1] + 0.03
        if identity.glasses == "round":
            rim, inner = ellipse((x, y), (0.25, 0.22)), ellipse((x, y), (0.218, 0.188))
        else:
            rim = smooth_closed(rounded_box((x, y), 0.25, 0.17))
            inner = smooth_closed(rounded_box((x, y), 0.22, 0.14))
        if identity.glasses == "dark":
            canvas.fill((34, 34, 40), rim)
        else:
            canvas.fill(frame, rim, inner)
        sign = 1.0 if x > 0 else -1.0
        arm = points((x + sign * 0.24, y - 0.03), (sign * identity.head_width, y - 0.08))
        canvas.fill(frame, brush(arm, (0.035, 0.03)))
    bridge = points((face.eyes[0].center[0] + 0.24, -0.06), (0.0, -0.1), (face.eyes[1].center[0] - 0.24, -0.06))
    canvas.fill(frame, brush(smooth_open(bridge), (0.03, 0.03)))


def rounded_box(center: tuple[float, float], half_width: float, half_height: float) -> Points:
    """Computes six points whose smooth closed curve is a box with round corners."""
    x, y = center
    top = points((x - half_width, y - half_height), (x, y - half_height), (x + half_width, y - half_height))
    return np.concatenate([top, top[::-1] + np.array([0.0, 2 * half_height])])
