"""Sheets of small pictures with captions, and the contact sheet of each class made from the shards.

Drawn with Pillow: pixels stay what they are, and no text can be taken for markup.
"""

from __future__ import annotations

import functools
import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pocketaffect.data.faces.images import RGB
from pocketaffect.data.shards.split import open_split
from pocketaffect.figures import GREY, INK, ORANGE, PAPER
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

CONTACT_COLUMNS: Final = 10
CONTACT_ROWS: Final = {"train": 5, "validation": 1}
CONTACT_SIDE: Final = 64
"""Larger faces are shrunk to it, so that a sheet stays below a megabyte."""

GAP: Final = 8
MARGIN: Final = 14
MIN_WIDTH: Final = 460
TITLE: Final = 15
TEXT: Final = 11
LINE: Final = 1.3
"""Height of a line, in sizes of its letters."""

MAX_MARKS: Final = 3
"""Accents on one letter; no writing needs more."""

TILE_GROUND: Final = "#eaeef2"
FARTHEST: Final = 1e9
"""Pixels; a box may be anywhere."""

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, uint8 [height, width, 3] as it will stand there, and the lines below it."""

    picture: RGB
    heading: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Tiles of one size under a common heading."""

    heading: str
    tiles: Sequence[Tile]


def draw_sheet(title: str, sections: Sequence[Section], *, columns: int, caption_lines: int = 0) -> bytes:
    """Sets tiles in rows of `columns`, each with a heading and `caption_lines` of caption where it has them, as a PNG.

    Texts may be anything: what does not print is shown escaped, what does not fit is cut with an ellipsis. The same
    input gives the same bytes.
    """
    from PIL import Image

    tiles = [tile for section in sections for tile in section.tiles]
    widest = max((tile.picture.shape[1] for tile in tiles), default=0)
    width = max(MIN_WIDTH, columns * (widest + GAP) - GAP + 2 * MARGIN)
    height = _lay_out(Image.new("RGB", (width, 1)), title, sections, columns, caption_lines)
    image = Image.new("RGB", (width, height), PAPER)
    _lay_out(image, title, sections, columns, caption_lines)
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=6)
    return data.getvalue()


def _lay_out(image: Image, title: str, sections: Sequence[Section], columns: int, caption_lines: int) -> int:
    """Draws everything and returns the height it takes; what lies below a lower image is not drawn."""
    from PIL import Image, ImageDraw

    draw = ImageDraw.Draw(image)
    width = image.width - 2 * MARGIN
    top = _write(draw, (MARGIN, MARGIN), title, TITLE, width, lines=3, bold=True) + GAP
    for section in sections:
        if section.heading:
            top = _write(draw, (MARGIN, top), section.heading, TEXT + 1, width, lines=2, colour=GREY) + 4
        for start in range(0, len(section.tiles), columns):
            row = section.tiles[start : start + columns]
            bottom = top
            for place, tile in enumerate(row):
                side = tile.picture.shape[1]
                left = MARGIN + place * (side + GAP)
                image.paste(Image.fromarray(tile.picture), (left, top))
                end = top + tile.picture.shape[0]
                if caption_lines:
                    end = _write(draw, (left, end + 3), tile.heading, TEXT, side, lines=1, bold=True)
                    end = _write(draw, (left, end), tile.caption, TEXT, side, lines=caption_lines)
                bottom = max(bottom, end)
            top = bottom + GAP
    return top - GAP + MARGIN


def fit_picture(pixels: RGB, side: int, box: Box | None = None) -> RGB:
    """Shrinks or enlarges a picture into a square of `side` pixels on grey, with a box in its pixels drawn on it.

    Room is made for what of the box lies outside the picture, as far as one more picture at each end.
    """
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    (left, right), (top, bottom) = (0, width), (0, height)
    if box is not None and np.isnan(box).any():
        box = None
    if box is not None:
        x, y, across, down = (float(np.clip(value, -FARTHEST, FARTHEST)) for value in box)
        box = (x, y, across, down)
        left, right = max(min(0, math.floor(x)), -width), min(max(width, math.ceil(x + across)), 2 * width)
        top, bottom = max(min(0, math.floor(y)), -height), min(max(height, math.ceil(y + down)), 2 * height)
    scale = side / max(right - left, bottom - top)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    before_x = (side - (right - left) * scale) / 2 - left * scale
    before_y = (side - (bottom - top) * scale) / 2 - top * scale
    image = Image.new("RGB", (side, side), TILE_GROUND)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    image.paste(Image.fromarray(pixels).resize(size, method), (int(before_x), int(before_y)))
    if box is not None:
        _draw_box(ImageDraw.Draw(image), box, scale, (before_x, before_y), side)
    return np.asarray(image)


def _draw_box(draw: ImageDraw, box: Box, scale: float, corner: tuple[float, float], side: int) -> None:
    """Draws a box in orange with white around it, so that it shows on any picture; what lies far outside is cut."""
    ends = [corner[0] + box[0] * scale, corner[1] + box[1] * scale]
    ends += [ends[0] + max(box[2], 0) * scale, ends[1] + max(box[3], 0) * scale]
    left, top, right, bottom = (int(np.clip(round(end), -side, 2 * side)) for end in ends)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=PAPER)
    draw.rectangle((left, top, right, bottom), outline=ORANGE)


def draw_reason(reason: str, side: int) -> RGB:
    """Draws a grey square that says why there is no picture: uint8 [side, side, 3]."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side, side), TILE_GROUND)
    draw = ImageDraw.Draw(image)
    lines = int((side - 2 * GAP) / (TEXT * LINE))
    _write(draw, (GAP, GAP), reason, TEXT, side - 2 * GAP, lines=lines, colour=GREY)
    return np.asarray(image)


def write_contact_sheets(shards: Path, target: Path) -> None:
    """Writes `<expression>.png` for each class into folder `target`, from the shards in folder `shards`.

    A sheet has rows of training faces and one of validation faces, each spread evenly over the split's faces of
    that class in their order.

    Raises:
        PocketAffectError: There are no shards, or the sheets cannot be written.
    """
    splits = {name: open_split(shards, name) for name in CONTACT_ROWS}
    for code, expression in enumerate(EXPRESSIONS):
        sections, total = [], 0
        for name, split in splits.items():
            faces = np.flatnonzero(split.expression == code)
            chosen = spread_evenly(faces, CONTACT_ROWS[name] * CONTACT_COLUMNS)
            side = split.shards[0].shape[1]
            tiles = [Tile(_shrink(face, CONTACT_SIDE)) for face in split.gather(chosen)] if len(chosen) else []
            shown = f"{len(tiles):,} of {len(faces):,}" if len(tiles) < len(faces) else f"{len(faces):,}"
            heading = f"{'training' if name == 'train' else name}: {shown} faces of {side} x {side} pixels"
            sections.append(Section(heading, tiles))
            total += len(faces)
        with write_atomically(target / f"{expression}.png") as draft:
            draft.write_bytes(
                draw_sheet(f"{expression.capitalize()}: {total:,} faces", sections, columns=CONTACT_COLUMNS)
            )


def spread_evenly(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Chooses at most `most` of `rows`, evenly apart, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def show_text(text: object, limit: int) -> str:
    r"""Shows text of unknown origin safely: at most `limit` of its characters, those that do not print as `\x00`.

    Among those that do not print are the marks that turn the direction of writing: they would let one path look
    like another. Accents that stand on no letter, or pile up on one, are shown the same way.
    """
    written = str(text)
    shown = []
    marks = MAX_MARKS  # at the start there is no letter to stand on
    for letter in written[:limit]:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        prints = letter.isprintable() and marks <= MAX_MARKS
        shown.append(letter if prints else letter.encode("unicode_escape").decode("ascii"))
    return "".join(shown) + "…" * (len(written) > limit)


def _shrink(face: RGB, side: int) -> RGB:
    if face.shape[0] <= side:
        return face
    from PIL import Image

    return np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BOX))


def _write(
    draw: ImageDraw,
    corner: tuple[int, int],
    text: str,
    size: int,
    width: int,
    *,
    lines: int,
    bold: bool = False,
    colour: str = INK,
) -> int:
    """Writes text into a column of `width` pixels and returns where the next line would be."""
    font = _font(size, bold)
    left, top = corner
    for line in _wrap(show_text(text, 400), font, width, lines):
        draw.text((left, top), line, fill=colour, font=font)
        top += round(size * LINE)
    return top


def _wrap(text: str, font: FreeTypeFont, width: int, most: int) -> list[str]:
    """Breaks text into lines that fit, after a space, slash or comma where one is near, else anywhere."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < most:
        end = len(rest)
        while end > 1 and font.getlength(rest[:end]) > width:
            end = min(end - 1, max(1, int(end * width / font.getlength(rest[:end]))))
        if end < len(rest):
            if len(lines) == most - 1:
                while end > 1 and font.getlength(rest[:end] + "…") > width:
                    end -= 1
                return [*lines, rest[:end] + "…"]
            near = max(rest.rfind(mark, end // 2, end) for mark in " /,_")
            end = near + 1 if near > 0 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


@functools.cache
def _font(size: int, bold: bool) -> FreeTypeFont:
    from matplotlib import get_data_path
    from PIL import ImageFont

    # Matplotlib's letters, so that figures and sheets look alike; the basic layout, which every Pillow has.
    file = Path(get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
