"""From image bytes, a face box and two eyes to the square the network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np

from pocketaffect.data.faces.images import RGB, decode_image

Align: TypeAlias = Literal["none", "eyes"]

MAX_SIDE: Final = 4096
"""Larger squares are not padded: a panorama's would not fit into memory."""

EYE_DISTANCE: Final = 0.375
EYE_HEIGHT: Final = 0.385
"""Where `align: eyes` puts the eyes, as shares of the square's side at margin 0: side by side around the middle, at
this height from the top. They are the medians inside the box crops of 1,832 photographs (LFW and OASIS with iBUG's 68
landmarks: 0.375 and 0.386), so that both ways of cutting show a face at the same size. Templates for recognition
show less of it: ArcFace's has 0.315 and 0.461."""

MIN_EYE_DISTANCE: Final = 4.0
"""Pixels. Nearer eyes say little about where up is."""

MAX_SIDE_RATIO: Final = 2.0
"""Ratio of the squares by eyes and by box. In a profile the eyes come together, and their square would cut the face."""

SUPERSAMPLING: Final = 2
"""Factor by which a turned square is sampled larger than the result before it is averaged."""

LEAST_DETAIL: Final = 1.5
"""Pixels that a scaled decode keeps for one of the result. `predict` decodes in full; on LFW's faces no such decode
costs accuracy that can be told from none (`benchmarks/data/decode.py`), and fewer classes change at 1.5 than at 1, for
the same decode of AffectNet's mean face."""


@dataclass(frozen=True)
class FaceBox:
    """Face box in pixels, AffectNet's convention: upper left corner, then sides."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Eyes:
    """Centres of the eyes in pixels, the first pixel's centre being (0, 0); left and right as seen in the image."""

    left_x: float
    left_y: float
    right_x: float
    right_y: float

    @property
    def distance(self) -> float:
        """Pixels between the centres."""
        return math.hypot(self.right_x - self.left_x, self.right_y - self.left_y)


@dataclass(frozen=True)
class FaceSquare:
    """The part of an image to cut: centre and side in pixels from the image's upper left corner, its turn in radians.

    A positive turn is clockwise, as seen: the square's own "right" points down then.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0

    def scaled(self, factor: float) -> FaceSquare:
        """Gives the same square on a copy of the image that is `factor` times as large."""
        return FaceSquare(self.x * factor, self.y * factor, self.side * factor, self.turn)


def decode_face(
    content: bytes, box: FaceBox | None, eyes: Eyes | None = None, *, margin: float, size: int, align: Align = "none"
) -> RGB:
    """Decodes an image file no larger than the face needs, and cuts the face out.

    Nearly what `crop_face` cuts out of the whole image, in less time where the face is large. Box and eyes are in
    pixels of the upright picture at its full size; all else is as for `crop_face`.

    Returns:
        uint8 [size, size, 3].

    Raises:
        ImageProblemError: As `decode_image`.
        ValueError: As `place_square`.
    """
    sides = [] if box is None else [_box_side(box, margin)]
    if align == "eyes" and eyes is not None and math.isfinite(eyes.distance):
        sides.append(_eye_side(eyes, margin))
    # Which of the two squares it will be is known when the image is.
    decoded = decode_image(content, least_side=math.ceil(LEAST_DETAIL * size), face_side=min(sides, default=None))
    square = place_square(decoded.width, decoded.height, box, eyes, margin=margin, align=align)
    return cut_square(decoded.pixels, square.scaled(decoded.scale), size)


def crop_face(
    image: RGB, box: FaceBox | None, eyes: Eyes | None = None, *, margin: float, size: int, align: Align = "none"
) -> RGB:
    """Cuts the face out of a decoded image, uint8 [height, width, 3]: `cut_square` of `place_square`.

    Without a box the whole image is taken. With `align` "eyes" the face is turned and placed by them; eyes that cannot
    be right, or none, leave the cut to the box. `margin` is the share of the face's square that is added at each end.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    return cut_square(image, place_square(width, height, box, eyes, margin=margin, align=align), size)


def place_square(
    width: int, height: int, box: FaceBox | None, eyes: Eyes | None, *, margin: float, align: Align
) -> FaceSquare:
    """Places the square of a `width` x `height` image that shows the face.

    By box: upright, around the box's centre, its side the box's longer side, rounded to whole pixels. A square keeps
    a face's proportions, and is what an app's face detector gives most easily. By eyes: turned until they are level,
    and placed so that they come to EYE_DISTANCE and EYE_HEIGHT. Eyes that cannot be right leave it to the box.

    Raises:
        ValueError: The box does not touch the image.
    """
    frame = FaceBox(0, 0, width, height) if box is None else box
    beside = ValueError(f"face box {frame} does not touch the {width} x {height} image")
    try:
        # From 2 pixels on, a square whose centre lies on the image also shares pixels with it.
        side = max(2, round(_box_side(frame, margin)))
        left = round(frame.x + frame.width / 2 - side / 2)
        top = round(frame.y + frame.height / 2 - side / 2)
    except OverflowError:
        raise beside from None
    if not (left < width and top < height and left + side > 0 and top + side > 0):
        raise beside
    square = FaceSquare(left + side / 2, top + side / 2, side)
    if align == "none" or eyes is None or not _are_plausible(eyes, width, height):
        return square
    by_eyes = _place_by_eyes(eyes, margin)
    # A box says how large the face is and where; the whole image, standing in for one, does not.
    return by_eyes if box is None or _agree(by_eyes, square) else square


def _box_side(box: FaceBox, margin: float) -> float:
    return max(box.width, box.height) * (1 + 2 * margin)


def _eye_side(eyes: Eyes, margin: float) -> float:
    return eyes.distance / EYE_DISTANCE * (1 + 2 * margin)


def _are_plausible(eyes: Eyes, width: int, height: int) -> bool:
    """Tells whether two eyes are apart, on the image, and not swapped, which would turn the face over; not for NaN."""
    return (
        eyes.left_x < eyes.right_x
        and eyes.distance >= MIN_EYE_DISTANCE
        and all(-0.5 <= x <= width - 0.5 for x in (eyes.left_x, eyes.right_x))
        and all(-0.5 <= y <= height - 0.5 for y in (eyes.left_y, eyes.right_y))
    )


def _place_by_eyes(eyes: Eyes, margin: float) -> FaceSquare:
    turn = math.atan2(eyes.right_y - eyes.left_y, eyes.right_x - eyes.left_x)
    side = _eye_side(eyes, margin)
    below = side * (0.5 - EYE_HEIGHT) / (1 + 2 * margin)  # from between the eyes down to the square's centre
    # A pixel's centre lies half a pixel from the corner that squares are measured from.
    x, y = (eyes.left_x + eyes.right_x + 1) / 2, (eyes.left_y + eyes.right_y + 1) / 2
    return FaceSquare(x - below * math.sin(turn), y + below * math.cos(turn), side, turn)


def _agree(one: FaceSquare, other: FaceSquare) -> bool:
    ratio = one.side / other.side
    apart = max(abs(one.x - other.x), abs(one.y - other.y))
    return 1 / MAX_SIDE_RATIO <= ratio <= MAX_SIDE_RATIO and apart <= max(one.side, other.side) / 2


def cut_square(image: RGB, square: FaceSquare, size: int) -> RGB:
    """Cuts `square` out as uint8 [size, size, 3], averaging over areas when it shrinks; border pixels go on outside."""
    left, top = square.x - square.side / 2, square.y - square.side / 2
    # Only these give each source pixel its exact weight; the other way is within two grey levels of them.
    whole = square.turn == 0 and all(float(value).is_integer() for value in (left, top, square.side))
    if whole and square.side <= MAX_SIDE:
        return _cut_pixels(image, int(left), int(top), int(square.side), size)
    return _warp(image, square, size)


def _cut_pixels(image: RGB, left: int, top: int, side: int, size: int) -> RGB:
    height, width = image.shape[:2]
    inside = image[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    before_y, before_x = max(0, -top), max(0, -left)
    after_y, after_x = max(0, top + side - height), max(0, left + side - width)
    if before_y or before_x or after_y or after_x:
        inside = cv2.copyMakeBorder(inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)
    # Averaging over areas when shrinking keeps what a plain bilinear sample would alias.
    method = cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inside, (size, size), interpolation=method), dtype=np.uint8)


def _warp(image: RGB, square: FaceSquare, size: int) -> RGB:
    """Makes one bilinear warp from a copy at most twice as large: a bilinear sample sees two pixels a side, no more.

    Turned squares are warped to a larger size and averaged, since in an upright one that takes longer than decoding
    gains.
    """
    target = SUPERSAMPLING * size if square.turn and square.side >= size else size
    shrink = 2 ** max(0, math.ceil(math.log2(square.side / (2 * target))))
    region, left, top = _cut_around(image, square, shrink)
    across = down = 1.0
    if shrink > 1:
        sides = [max(1, round(length / shrink)) for length in region.shape[1::-1]]
        across, down = sides[0] / region.shape[1], sides[1] / region.shape[0]
        region = cv2.resize(region, sides, interpolation=cv2.INTER_AREA)
    step = square.side / target
    cosine, sine = step * math.cos(square.turn), step * math.sin(square.turn)
    # From the target's pixel to the region's: half a pixel leads from its corner to its centre, and back at the end.
    half = (1 - target) / 2
    x, y = square.x - left + half * (cosine - sine), square.y - top + half * (sine + cosine)
    matrix = np.array(
        [
            [across * cosine, -across * sine, across * x - 0.5],
            [down * sine, down * cosine, down * y - 0.5],
        ]
    )
    warped = cv2.warpAffine(
        region,
        matrix,
        (target, target),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if target > size:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(warped, dtype=np.uint8)


def _cut_around(image: RGB, square: FaceSquare, shrink: int) -> tuple[RGB, int, int]:
    """Cuts the part of the image that the square's pixels come from, and says where its corner is.

    Its sides are multiples of `shrink` where the image has room for it, which makes shrinking exact and fast.
    """
    reach = square.side / 2 * (abs(math.cos(square.turn)) + abs(math.sin(square.turn))) + 2 * shrink
    (left, right), (top, bottom) = (
        _choose_range(centre, reach, length, shrink)
        for centre, length in ((square.x, image.shape[1]), (square.y, image.shape[0]))
    )
    return image[top:bottom, left:right], left, top


def _choose_range(centre: float, reach: float, length: int, multiple: int) -> tuple[int, int]:
    start = min(max(0, math.floor(centre - reach)), length - 1)
    end = min(max(start + 1, math.ceil(centre + reach)), length)
    return start, min(length, start + math.ceil((end - start) / multiple) * multiple)
