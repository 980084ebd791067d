"""Recognises the columns of other services' lists of tracks, and the scale of their numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.data.release.headers import plain_name
from pocketaffect.errors import PocketAffectError

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("trackname", "title", "songname", "songtitle", "tracktitle", "name", "song", "track", "sngtitle"),
    "artist": ("artistname", "artistnames", "artistsname", "trackartist", "artist", "artists", "artname", "performer"),
    "id": ("trackid", "id", "trackuri", "uri", "spotifyid", "spotifyuri", "dzrsngid", "sngid", "songid", "deezerid"),
    "year": ("year", "releaseyear", "releasedyear", "releasedate", "trackalbumreleasedate", "albumreleasedate", "date"),
    "genres": ("genre", "genres", "trackgenre", "artistgenres", "playlistgenre", "topgenre", "playlistsubgenre"),
    "valence": ("valence", "val", "happiness"),
    "energy": ("energy", "arousal", "nrgy"),
    "mode": ("mode", "audiomode", "majorminor"),
    "estimated": ("estimated",),
}
"""Meaning to the names that columns have in Spotify's API, Exportify's and Kaggle's dumps of it, Deezer's mood
detection set and our own catalogues: letters and digits only, the likeliest first. Every column of genres is read."""

REQUIRED: Final = ("title", "artist", "valence", "energy")

SPOTIFY_MARKS: Final = frozenset(
    ("danceability", "speechiness", "acousticness", "instrumentalness", "liveness", "trackuri", "spotifyid")
)
DEEZER_MARKS: Final = frozenset(("dzrsngid", "deezerid", "sngid", "arousal"))


@dataclass(frozen=True)
class Scale:
    """A range of numbers, and the map from it to 0..1.

    Attributes:
        name: The name that `--scale` takes.
        low: Smallest number.
        high: Largest number.
        to_unit: Maps numbers of the scale to 0..1.
    """

    name: str
    low: float
    high: float
    to_unit: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def _place_by_normal(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Computes the share of a normal distribution that lies below each z-score."""
    return np.array([0.5 * (1 + math.erf(score / math.sqrt(2))) for score in scores])


SCALES: Final = (
    Scale("0-1", 0, 1, lambda numbers: numbers),
    Scale("-1-1", -1, 1, lambda numbers: (numbers + 1) / 2),
    Scale("z", -5, 5, _place_by_normal),
    Scale("0-100", 0, 100, lambda numbers: numbers / 100),
)
"""Scales in the order in which they are tried; z: standard deviations from the mean."""

_OUTLIERS: Final = 0.02
"""Share of a column's numbers that may lie outside its scale, as broken rows; one may in any case."""


def recognise_columns(header: Sequence[str], path: Path) -> dict[str, list[str]]:
    """Maps each meaning to the column that holds it; genres may have several.

    Raises:
        PocketAffectError: A required column is missing.
    """
    plain = {name: plain_name(name) for name in header}
    found = {}
    for meaning, names in NAMES.items():
        columns = sorted((name for name in header if plain[name] in names), key=lambda name: names.index(plain[name]))
        if columns:
            found[meaning] = columns if meaning == "genres" else columns[:1]
    if missing := [meaning for meaning in REQUIRED if meaning not in found]:
        raise PocketAffectError(
            f"{path}: no column for {' and '.join(missing)}",
            found=", ".join(header)[:300],
            allowed="; ".join(f"{meaning}: {', '.join(NAMES[meaning])}" for meaning in missing),
            todo="rename the columns in its first line",
        )
    return found


def name_source(header: Sequence[str]) -> str:
    """Names the service whose style the list has."""
    plain = {plain_name(name) for name in header}
    if plain & SPOTIFY_MARKS:
        return "Spotify-style"
    return "Deezer-style" if plain & DEEZER_MARKS else "other"


def find_scale(name: str) -> Scale:
    """Finds a scale by its name.

    Raises:
        PocketAffectError: There is none of that name.
    """
    for scale in SCALES:
        if scale.name == name:
            return scale
    raise PocketAffectError("--scale: unknown", found=name, allowed=", ".join(scale.name for scale in SCALES))


def choose_scale(numbers: npt.NDArray[np.float64], meaning: str, column: str, path: Path) -> Scale:
    """Finds the narrowest scale that nearly all numbers of a column lie on.

    Args:
        numbers: The column's numbers.
        meaning: "valence" or "energy", as `--scale` takes it.
        column: The column's name in the list.
        path: The list, for messages.

    Raises:
        PocketAffectError: They lie on none.
    """
    allowed_outside = max(1, int(_OUTLIERS * len(numbers))) if len(numbers) > 2 else 0
    outside = {scale: int(((numbers < scale.low) | (numbers > scale.high)).sum()) for scale in SCALES}
    for scale in SCALES:
        if outside[scale] <= allowed_outside:
            return scale
    low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
    nearest = min(SCALES, key=lambda scale: outside[scale])
    kept = len(numbers) - outside[nearest]
    raise PocketAffectError(
        f"{path}: column {column} is on no scale that we know",
        found=f"{low:g} to {high:g}, median {middle:g}",
        allowed=", ".join(scale.name for scale in SCALES),
        todo="bring it to 0..1"
        + (f"; or `--scale {meaning}={nearest.name}` keeps {kept:,} of {len(numbers):,} rows" if kept else ""),
    )
