"""Where a face's features lie when its action units move them.

Face frame: the origin is between the eyes and the nose's root, x to the image's right, y down, the unit half
a head's height: the crown is at about -1.05, the chin at +1.
"""

from dataclasses import dataclass

import numpy as np

from pocketaffect.data.sample.annotations import ActionUnits
from pocketaffect.data.sample.canvas import Points, mirror, points, smooth_closed, smooth_open
from pocketaffect.data.sample.identity import Identity

MOUTH_PLACES = np.arange(-6, 7, dtype=np.float64) / 6
"""Places of the 13 points of a mouth contour: -1 the image's left corner, 0 the middle, 1 the right corner."""
_CUPID_BOW = np.array([0, 0.34, 0.6, 0.8, 0.95, 1.04, 0.9, 1.04, 0.95, 0.8, 0.6, 0.34, 0])


@dataclass(frozen=True)
class Eye:
    """One eye; contours run from the image's left to its right."""

    center: tuple[float, float]
    width: float
    upper: Points
    lower: Points
    iris_radius: float
    brow: Points
    closed: bool


@dataclass(frozen=True)
class Nose:
    """The nose's places."""

    root: float
    tip: float
    wing_y: float
    half_width: float


@dataclass(frozen=True)
class Mouth:
    """The mouth's contours at MOUTH_PLACES, each of shape (13, 2)."""

    outer_upper: Points
    inner_upper: Points
    inner_lower: Points
    outer_lower: Points
    opening: float


@dataclass(frozen=True)
class Face:
    """All curves of a face in the face frame."""

    outline: Points
    eyes: tuple[Eye, Eye]
    nose: Nose
    mouth: Mouth
    jaw_drop: float


def strength(units: ActionUnits, unit: int) -> float:
    """Computes a unit's intensity, the mean of both sides."""
    left, right = units.get(unit, (0.0, 0.0))
    return (left + right) / 2


def shape_face(identity: Identity, units: ActionUnits) -> Face:
    """Lays out a face."""
    jaw_drop = 0.21 * strength(units, 26) + 0.03 * strength(units, 25) - 0.02 * strength(units, 17)
    return Face(
        outline=_outline(identity, jaw_drop),
        eyes=(_eye(identity, units, 0), _eye(identity, units, 1)),
        nose=_nose(identity, units),
        mouth=_mouth(identity, units, jaw_drop),
        jaw_drop=jaw_drop,
    )


def _outline(identity: Identity, jaw_drop: float) -> Points:
    """Computes the closed contour of the head, from the crown by the image's right to the chin and back."""
    width, square = identity.head_width, identity.jaw_squareness
    right = points(
        (0.46 * width, -1.0),
        (0.84 * width, -0.74),
        (1.0 * width, -0.32),
        (1.0 * width, 0.05),
        ((0.95 + 0.02 * square) * width, 0.38),
        ((0.80 + 0.07 * square) * width, 0.69),
        ((0.52 + 0.10 * square) * width, 0.91),
        ((0.22 + 0.06 * square) * width, 0.99),
    )
    outline = np.concatenate([points((0.0, -1.06)), right, points((0.0, 1.0)), mirror(right)[::-1]])
    below = np.maximum(outline[:, 1] - 0.35, 0.0)
    outline[:, 1] += below * (identity.chin - 1) / 0.65 + below * jaw_drop / 0.65
    return smooth_closed(outline)


def _eye(identity: Identity, units: ActionUnits, side: int) -> Eye:
    """Lays out one eye with its brow on the right side, mirrored for the left."""
    unit = {number: both[side] for number, both in units.items()}

    def au(number: int) -> float:
        return unit.get(number, 0.0)

    width, x, y = identity.eye_width, identity.eye_distance, -0.08
    size = identity.eye_opening
    upper = 0.115 * size * (1 - 0.22 * au(7) - 0.3 * au(6) - 0.3 * au(9) - 0.12 * au(4) - 0.95 * au(43))
    upper += 0.115 * au(5) + 0.015 * au(1) * (1 - au(43))
    lower = 0.08 * size * (1 - 0.85 * au(6) - 0.5 * au(7) - 0.45 * au(9) + 0.25 * au(5) - 0.5 * au(43))
    upper, lower = max(upper, -0.02), max(lower, 0.012)
    droop = 0.035 * au(1) * (1 - au(2)) + 0.03 * au(43)  # the outer part of a sad lid hangs
    slant = identity.eye_slant
    inner, outer = (x - width, y + 0.015), (x + width, y - 0.012 - slant + droop)
    upper_lid = points(
        inner,
        (x - 0.55 * width, y - 0.72 * upper + 0.03 * au(4) * (1 - au(1))),
        (x, y - upper),
        (x + 0.55 * width, y - 0.85 * upper - slant / 2 + droop),
        outer,
    )
    lower_lid = points(
        inner, (x - 0.5 * width, y + 0.75 * lower), (x, y + lower), (x + 0.55 * width, y + 0.8 * lower), outer
    )
    parts = smooth_open(upper_lid), smooth_open(lower_lid), smooth_open(_brow(identity, unit))
    if side == 0:
        parts = tuple(mirror(part)[::-1] for part in parts)  # type: ignore[assignment]
    sign = 1 if side else -1
    return Eye((sign * x, y), width, parts[0], parts[1], 0.112, parts[2], upper + lower < 0.03)


def _brow(identity: Identity, unit: dict[int, float]) -> Points:
    """Computes the right brow's four control points, from the nose outwards."""
    au1, au2, au4, au9 = (unit.get(number, 0.0) for number in (1, 2, 4, 9))
    x, width = identity.eye_distance, identity.eye_width
    base = -0.08 - identity.brow_height
    lowering = au4 * (1 - 0.75 * au1)
    pinch = 0.055 * au4 + 0.02 * au9
    return points(
        (x - 1.05 * width - pinch, base + 0.025 - 0.21 * au1 + 0.2 * lowering + 0.09 * au9),
        (x - 0.35 * width - 0.6 * pinch, base - 0.01 - 0.13 * au1 - 0.09 * au2 + 0.13 * lowering + 0.06 * au9),
        (x + 0.45 * width, base - 0.02 - identity.brow_arch - 0.2 * au2 + 0.03 * lowering),
        (x + 1.35 * width, base + 0.055 + 0.08 * au1 * (1 - au2) - 0.14 * au2 - 0.03 * lowering),
    )


def _nose(identity: Identity, units: ActionUnits) -> Nose:
    au9, au10, au12 = (strength(units, number) for number in (9, 10, 12))
    tip = identity.nose_length - 0.045 * au9 - 0.015 * au10
    return Nose(
        root=-0.08,
        tip=tip,
        wing_y=tip - 0.005 - 0.05 * au9 - 0.03 * au10,
        half_width=identity.nose_width * (1 + 0.16 * au9 + 0.1 * au10 + 0.08 * au12),
    )


def _mouth(identity: Identity, units: ActionUnits, jaw_drop: float) -> Mouth:
    au = {number: strength(units, number) for number in (9, 10, 12, 15, 16, 17, 20, 23, 24, 25, 26)}
    middle = identity.mouth_height - 0.02 * au[17] - 0.035 * au[10] - 0.02 * au[9] + 0.05 * jaw_drop
    ends = [_corner(identity, units, side, middle, jaw_drop) for side in (0, 1)]
    place, square = MOUTH_PLACES, MOUTH_PLACES * MOUTH_PLACES
    end_x = np.where(place < 0, -ends[0][0], ends[1][0])
    end_y = np.where(place < 0, ends[0][1], ends[1][1])
    x = np.abs(place) * end_x
    line = middle + (end_y - middle) * square

    opening = 0.13 * au[25] + 0.34 * au[26] + 0.04 * au[16] * au[25]
    boxy = min(1.0, 0.9 * au[20] + 0.7 * au[16] + 0.3 * au[10])
    round_arch = 1 - square
    arch = round_arch + ((1 - square * square * square) - round_arch) * boxy
    lift = 0.16 * opening + 0.03 * au[10] * au[25]
    thin = max(0.12, 1 - 0.62 * au[24] - 0.5 * au[23] - 0.18 * au[12] - 0.2 * au[20] - 0.2 * au[17])
    upper_lip = identity.upper_lip * thin * (1 + 0.15 * au[10])
    pout = 1 + 0.55 * au[17] * (1 - au[24])
    inner_upper = line - lift * arch
    inner_lower = line + (opening - lift) * arch
    outer_upper = inner_upper - upper_lip * _CUPID_BOW - 0.05 * au[10] * round_arch
    outer_lower = inner_lower + identity.lower_lip * thin * pout * (1 - square * square)
    curves = [np.stack([x, y], axis=1) for y in (outer_upper, inner_upper, inner_lower, outer_lower)]
    return Mouth(curves[0], curves[1], curves[2], curves[3], opening)


def _corner(identity: Identity, units: ActionUnits, side: int, middle: float, jaw_drop: float) -> tuple[float, float]:
    """Computes the distance of one mouth corner from the middle line, and its y."""
    au = {number: units.get(number, (0.0, 0.0))[side] for number in (12, 14, 15, 20, 23, 24, 26)}
    reach = 1 + 0.3 * au[12] + 0.33 * au[20] - 0.15 * au[23] - 0.1 * au[24] + 0.06 * au[14]
    reach -= 0.36 * au[26] * (1 - au[12])
    drop = 0.185 * au[15] - 0.215 * au[12] - 0.05 * au[14] + 0.03 * au[20] + 0.4 * jaw_drop
    return identity.mouth_width * reach, middle + identity.mouth_rest + drop


def landmarks(face: Face) -> Points:
    """Computes the 68 points of the iBUG scheme, in the face frame: jaw, brows, nose, eyes, mouth. Shape (68, 2)."""
    steps = len(face.outline) // 18
    jaw = face.outline[14 * steps - (10 * steps * np.arange(17) + 8) // 16]
    left, right = face.eyes
    brows = [eye.brow[[0, 4, 8, 11, 15]] for eye in face.eyes]
    nose = face.nose
    bridge = [(0.0, nose.root + (nose.tip - nose.root) * step / 3) for step in range(4)]
    base = [
        (share * nose.half_width * 0.85, nose.wing_y + 0.05 - 0.01 * abs(share) * 2)
        for share in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    lids = [np.concatenate([eye.upper[[0, 7, 13, 20]], eye.lower[[13, 7]]]) for eye in (left, right)]
    mouth = face.mouth
    lips = [
        mouth.outer_upper[[0, 2, 4, 6, 8, 10, 12]],
        mouth.outer_lower[[10, 8, 6, 4, 2]],
        mouth.inner_upper[[0, 4, 6, 8, 12]],
        mouth.inner_lower[[8, 6, 4]],
    ]
    return np.concatenate([jaw, *brows, points(*bridge), points(*base), *lids, *lips])
