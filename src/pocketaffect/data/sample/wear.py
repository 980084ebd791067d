"""Paints what surrounds a face: neck and clothes, hair, beard, glasses, and what hides part of it."""

from __future__ import annotations

import numpy as np

from pocketaffect.data.sample.canvas import Canvas
from pocketaffect.data.sample.curves import Points, brush, ellipse, mirror, points, rotate, smooth_closed, smooth_open
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.geometry import Face
from pocketaffect.data.sample.identity import CLOTH_COLOURS, SKIN_TONES, Identity, darken, mix

OCCLUDERS = ("hand", "bar", "scarf", "lock", "cup")


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
    """Frames on the nose; dark ones hide the eyes."""
    if identity.glasses == "none":
        return
    frame = darken(identity.wear, 0.6)
    for eye in face.eyes:
        x, y = eye.center[0], eye.center[1] + 0.03
        if identity.glasses == "round":
            rim, inner = ellipse((x, y), (0.25, 0.22)), ellipse((x, y), (0.218, 0.188))
        else:
            rim = smooth_closed(_box((x, y), 0.25, 0.17))
            inner = smooth_closed(_box((x, y), 0.22, 0.14))
        if identity.glasses == "dark":
            canvas.fill((34, 34, 40), rim)
        else:
            canvas.fill(frame, rim, inner)
        sign = 1.0 if x > 0 else -1.0
        arm = points((x + sign * 0.24, y - 0.03), (sign * identity.head_width, y - 0.08))
        canvas.fill(frame, brush(arm, (0.035, 0.03)))
    bridge = points((face.eyes[0].center[0] + 0.24, -0.06), (0.0, -0.1), (face.eyes[1].center[0] - 0.24, -0.06))
    canvas.fill(frame, brush(smooth_open(bridge), (0.03, 0.03)))


def _box(center: tuple[float, float], half_width: float, half_height: float) -> Points:
    x, y = center
    top = points((x - half_width, y - half_height), (x, y - half_height), (x + half_width, y - half_height))
    return np.concatenate([top, top[::-1] + np.array([0.0, 2 * half_height])])


def paint_occluder(canvas: Canvas, identity: Identity, draws: Draws, kind: str) -> None:
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
        canvas.fill(colour, smooth_closed(_box((x, y + 0.25), 0.26, 0.3)))
        canvas.fill(mix(colour, (255, 255, 255), 0.5), ellipse((x, y - 0.03), (0.27, 0.06)))
