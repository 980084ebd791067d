"""Pictures with what was read drawn over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pocketaffect.data.faces.images import RGB
from pocketaffect.files import write_atomically
from pocketaffect.predict.reader import Face, Reading

FRAME: Final = (255, 176, 0)
INK: Final = (20, 20, 20)
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
LETTER_PIXELS: Final = 22
"""Height of FONT's capitals at scale 1."""

LEAST_SCALE: Final = 0.05


class Annotator:
    """Writes annotated pictures into a folder, made where it is missing: PNG for an image, JPEG for a film's frames."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Path] = {}

    def write(self, reading: Reading) -> Path:
        """Writes one picture.

        Returns:
            The file: FOLDER/NAME.png, or FOLDER/NAME/000012.jpg for a frame; NAME is the input's, with a number
            where another input has the same.

        Raises:
            PocketAffectError: It cannot be written.
        """
        picture = reading.picture
        name = self._name(picture.source)
        target = self._folder / (f"{name}.png" if picture.frame is None else f"{name}/{picture.frame:06d}.jpg")
        done, content = cv2.imencode(target.suffix, np.ascontiguousarray(draw(reading)[..., ::-1]))
        assert done, target
        with write_atomically(target) as draft:
            draft.write_bytes(content.tobytes())
        return target

    def _name(self, source: Path) -> str:
        number = 1
        name = source.name
        while self._names.setdefault(name, source) != source:
            number += 1
            name = f"{source.stem}-{number}{source.suffix}"
        return name


def draw(reading: Reading) -> RGB:
    """Draws a box, the likeliest expression, and valence and arousal at each face: uint8, as large as the picture."""
    image = reading.picture.pixels.copy()
    height, width = image.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    if not reading.faces:
        _write(image, ("no face found",), 0, 0, scale)
    for face in reversed(reading.faces):  # the largest last, on top
        _draw_face(image, face, scale)
    return image


def _draw_face(image: RGB, face: Face, scale: float) -> None:
    left, top, right, bottom = 0, 0, image.shape[1], image.shape[0]
    if face.box is not None:
        left, top = round(face.box.x), round(face.box.y)
        right, bottom = round(face.box.x + face.box.width), round(face.box.y + face.box.height)
        cv2.rectangle(image, (left, top), (right, bottom), FRAME, max(1, round(2 * scale)))
    track = "" if face.track is None else f"#{face.track} "
    doubt = " (unsure)" if face.unsure else ""
    lines = (
        f"{track}{face.expression} {face.probabilities[face.expression]:.0%}{doubt}",
        f"V {face.valence:+.2f}  A {face.arousal:+.2f}",
    )
    below = bottom + len(lines) * _line_pixels(scale) <= image.shape[0]
    _write(image, lines, left, bottom if below else bottom - len(lines) * _line_pixels(scale), scale)


def _line_pixels(scale: float) -> int:
    return round(1.8 * LETTER_PIXELS * scale)


def _write(image: RGB, lines: Sequence[str], left: int, top: int, scale: float) -> None:
    """Lines of dark text on the frame's colour, the upper left corner at (left, top); moved and shrunk to fit in."""
    height, width = image.shape[:2]

    def measure(text: str) -> int:
        return int(cv2.getTextSize(text, FONT, scale, max(1, round(1.5 * scale)))[0][0]) + 4

    scale = min(scale, height / (len(lines) * _line_pixels(1)))
    scale *= min(1, width / max(map(measure, lines)))
    while max(map(measure, lines)) > width and scale > LEAST_SCALE:  # lines are whole pixels thick
        scale *= 0.95
    line = _line_pixels(scale)
    top = max(0, min(top, height - len(lines) * line))
    for text in lines:
        across = max(0, min(left, width - measure(text)))
        cv2.rectangle(image, (across, top), (across + measure(text), top + line), FRAME, cv2.FILLED)
        base = top + line - round(0.4 * LETTER_PIXELS * scale)
        cv2.putText(image, text, (across + 2, base), FONT, scale, INK, max(1, round(1.5 * scale)), cv2.LINE_AA)
        top += line
