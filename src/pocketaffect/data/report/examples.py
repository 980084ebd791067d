"""Examples to look at: quarantined rows with their reasons, and pairs of near-duplicates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.data.faces.images import RGB, ImageProblemError, decode_image
from pocketaffect.data.release.folder import Place, read_place
from pocketaffect.data.report.sheets import Box, Section, Tile, draw_reason, draw_sheet, fit_picture, spread_evenly

MAX_QUARANTINED: Final = 24
MAX_PAIRS: Final = 12
TILE_SIDE: Final = 132
PAIR_SIDE: Final = 112
PAIR_GAP: Final = 2
BOX_RULE: Final = "box_on_image"


def draw_quarantine(quarantine: pd.DataFrame, root: Path) -> bytes:
    """Draws up to MAX_QUARANTINED quarantined rows, as many of each rule, with pictures where they still decode.

    Args:
        quarantine: The quarantine table of `contract.ContractResult`.
        root: The data folder.

    Returns:
        A PNG file.
    """
    if len(quarantine) == 0:
        return draw_sheet("Quarantine: no row broke a rule", [], columns=6)
    rows = quarantine.take(_choose(quarantine["rule"].to_numpy(dtype=object), MAX_QUARANTINED))
    tiles = []
    for row in rows.to_dict("records"):
        box = _read_box(str(row["value"])) if row["rule"] == BOX_RULE else None
        picture = _read_picture(root, row, TILE_SIDE, box)
        tiles.append(Tile(picture, str(row["rule"]), f"{row['list']} line {row['line']}: {row['value']}"))
    title = f"Quarantine: {len(quarantine):,} row{'s' * (len(quarantine) > 1)}"
    return draw_sheet(title, [Section(_say_shown(len(tiles), len(quarantine)), tiles)], columns=6, caption_lines=5)


def draw_duplicates(duplicates: pd.DataFrame, root: Path) -> bytes:
    """Draws up to MAX_PAIRS pairs of near-duplicates side by side, across splits and inside one, near and far ones.

    Args:
        duplicates: The table of duplicates of `contract.ContractResult`.
        root: The data folder.

    Returns:
        A PNG file.
    """
    if len(duplicates) == 0:
        return draw_sheet("Near-duplicates: none found", [], columns=3)
    ordered = duplicates.sort_values("distance", kind="stable")
    dropped = ordered["dropped"].to_numpy(dtype=bool)
    sections = []
    groups = [("across splits: the training copy is dropped", dropped), ("inside a split: marked and kept", ~dropped)]
    quotas = _share_out([int(chosen.sum()) for _, chosen in groups], MAX_PAIRS)
    for (name, chosen), quota in zip(groups, quotas, strict=True):
        pairs = ordered.take(spread_evenly(np.flatnonzero(chosen), quota))
        tiles = [_draw_pair(pair, root) for pair in pairs.to_dict("records")]
        if tiles:
            sections.append(Section(f"{name}; {_say_shown(len(tiles), int(chosen.sum()))}", tiles))
    title = f"Near-duplicates: {len(duplicates):,} pair{'s' * (len(duplicates) > 1)}"
    return draw_sheet(title, sections, columns=3, caption_lines=2)


def _draw_pair(pair: Mapping[Any, Any], root: Path) -> Tile:
    sides: list[RGB] = []
    for side in ("a", "b"):
        place = {name: pair[f"{name}_{side}"] for name in ("path", "archive", "offset", "length", "deflated")}
        sides.append(_read_picture(root, place, PAIR_SIDE))
    gap = np.full((PAIR_SIDE, PAIR_GAP, 3), 255, dtype=np.uint8)
    bits = int(pair["distance"])
    heading = f"{bits} bit{'s' * (bits != 1)} apart: {pair['split_a']}, {pair['split_b']}"
    names = " | ".join("/".join(str(pair[f"path_{side}"]).split("/")[-2:]) for side in ("a", "b"))
    return Tile(np.concatenate([sides[0], gap, sides[1]], axis=1), heading, names)


def _read_picture(root: Path, row: Mapping[Any, Any], side: int, box: Box | None = None) -> RGB:
    """Draws the picture in a square with the box on it, or a grey square with the reason why there is none."""
    if not row["path"]:
        return draw_reason("no path", side)
    place = Place(str(row["path"]), str(row["archive"]), int(row["offset"]), int(row["length"]), bool(row["deflated"]))
    try:
        image = decode_image(read_place(root, place), least_side=side)
    except ImageProblemError as error:
        return draw_reason(str(error), side)
    if box is not None:
        x, y, width, height = (value * image.scale for value in box)
        box = (x, y, width, height)
    return fit_picture(image.pixels, side, box)


def _read_box(value: str) -> Box | None:
    """Reads the face box, where the reason of a quarantined row gives all four of its numbers."""
    numbers = []
    for name in ("face_x", "face_y", "face_width", "face_height"):
        found = re.search(rf"\b{name} (-?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)(?=[,;]|$)", value)
        if found is None:
            return None
        numbers.append(float(found[1]))
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def _choose(kinds: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Positions of at most `most` items, as many of each kind as possible, spread evenly within a kind, in order."""
    names = list(dict.fromkeys(kinds))
    places = [np.flatnonzero(kinds == name) for name in names]
    quotas = _share_out([len(found) for found in places], most)
    chosen = [spread_evenly(found, quota) for found, quota in zip(places, quotas, strict=True)]
    return np.concatenate(chosen)


def _share_out(counts: list[int], most: int) -> list[int]:
    """Decides how many of each kind are shown: one more of each in turn, until `most` are or none is left."""
    quotas = [0] * len(counts)
    while sum(quotas) < min(most, sum(counts)):
        for kind, count in enumerate(counts):
            if quotas[kind] < count and sum(quotas) < most:
                quotas[kind] += 1
    return quotas


def _say_shown(shown: int, total: int) -> str:
    return f"all {total:,}" if shown == total else f"{shown:,} of {total:,}"
