"""Converts another service's list of tracks to a catalogue: finds columns and scales, says them, merges duplicates."""

import hashlib
import re
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pocketaffect.app.music.catalogue import Track, normalise_genre, read_text, read_year
from pocketaffect.app.music.tables import BrokenRow, Problem, Table, read_table
from pocketaffect.data.release.delimited import plain_name
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


@dataclass(frozen=True)
class Scale:
    """A range of numbers, by the name that `--scale` takes, and the map from it to 0..1."""

    name: str
    low: float
    high: float
    to_unit: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


SCALES: Final = (
    Scale("0-1", 0, 1, lambda numbers: numbers),
    Scale("-1-1", -1, 1, lambda numbers: (numbers + 1) / 2),
    Scale("z", -5, 5, ndtr),  # the share of a normal distribution below each z-score
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


def find_scale(name: str) -> Scale:
    """Finds a scale by its name.

    Raises:
        PocketAffectError: There is none of that name.
    """
    named = {scale.name: scale for scale in SCALES}
    if name not in named:
        raise PocketAffectError("--scale: unknown", found=name, allowed=", ".join(named))
    return named[name]


def choose_scale(numbers: npt.NDArray[np.float64], meaning: str, column: str, path: Path) -> Scale:
    """Finds the narrowest scale that nearly all numbers of a column lie on.

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


MIN_TO_CENTRE: Final = 20
"""Tracks below which a median says nothing."""

_CENTRED: Final = (0.45, 0.55)
_MAX_ID: Final = 100
_VERSION: Final = re.compile(
    r"\s*[\(\[](feat|ft|with|featuring)\b[^)\]]*[\)\]]"
    r"|\s*[\(\[][^)\]]*\b(remaster(ed)?|mono|stereo|explicit|album version|single version)\b[^)\]]*[\)\]]"
    r"|\s+-\s+[^-]*\b(remaster(ed)?|mono|stereo|album version|single version)\b.*$"
)
"""Differences between one recording's titles; a remix, a live or another artist's version is another song."""

_NO_LETTERS: Final = re.compile(r"[\W_]+")
_MODES: Final = {"1": 1, "1.0": 1, "major": 1, "0": 0, "0.0": 0, "minor": 0, "": None, "-1": None}


@dataclass
class Imported:
    """A list of tracks as a catalogue."""

    tracks: list[Track]
    problems: list[Problem]
    rows: int
    merged: int
    """Rows that were merged into an earlier one of the same song."""
    declarations: list[str]
    """One line for each column that was recognised, each scale, and each change."""


def import_tracks(file: Path, scales: Mapping[str, str] | None = None) -> Imported:
    """Reads a list of tracks, CSV with a header line of any style in NAMES.

    `scales` may name one of SCALES for "valence" and "energy", in place of found ones.

    Raises:
        PocketAffectError: The file is not readable, a column is missing, a scale is unknown, or no row is sound.
    """
    table = read_table(file)
    columns = recognise_columns(table.header, file)
    problems: list[Problem] = []
    rows = list(_read_rows(table, columns, problems))
    _require_rows(rows, problems, file)
    unused = sorted(set(table.header).difference(*columns.values()))
    declarations = [
        f"list: separated by {table.separator!r}",
        *(f"{meaning}: column {' + '.join(names)}" for meaning, names in columns.items()),
        f"not used: {', '.join(unused) or 'none'}",
    ]
    count = len(rows) + len(problems)
    for name in ("valence", "energy"):
        column = columns[name][0]
        values = np.array([getattr(track, name) for _, track in rows])
        scale = find_scale(scales[name]) if scales and name in scales else choose_scale(values, name, column, file)
        outside = (values < scale.low) | (values > scale.high)
        problems += [
            Problem(rows[place][0], f"{column}: {values[place]:g} is not on the column's scale {scale.name}")
            for place in np.flatnonzero(outside)
        ]
        sound = [row for row, bad in zip(rows, outside, strict=True) if not bad]
        units = scale.to_unit(values[~outside]).tolist()
        rows = [(line, replace(track, **{name: unit})) for (line, track), unit in zip(sound, units, strict=True)]
        declarations.append(f"scale of {name}: {scale.name}")
    _require_rows(rows, problems, file)
    songs: dict[tuple[str, str], list[Track]] = {}
    for _, track in rows:
        songs.setdefault((_key(track.title), _key(track.artist)), []).append(track)
    energies = np.array([fmean(track.energy for track in song) for song in songs.values()])
    power, said = _centring_power(energies)
    declarations.append(f"energy: {said}")
    tracks = _merge(songs, energies**power)
    return Imported(tracks, sorted(problems), count, len(rows) - len(songs), declarations)


def _require_rows(rows: Sequence[object], problems: Sequence[Problem], file: Path) -> None:
    if not rows:
        first = f"{len(problems)} broken, the first in line {problems[0]}" if problems else "none"
        raise PocketAffectError(f"{file}: no sound row", found=first)


def _read_rows(table: Table, columns: Mapping[str, list[str]], problems: list[Problem]) -> Iterator[tuple[int, Track]]:
    """Yields line and track of each sound row; valence and energy are still on the list's scale."""
    wanted = [name for names in columns.values() for name in names]
    meanings = [meaning for meaning, names in columns.items() for _ in names]
    known_genres: dict[str, tuple[str, ...]] = {}
    for line, values in table.records(wanted, problems):
        texts: dict[str, str] = {}
        for meaning, value in zip(meanings, values, strict=True):
            texts[meaning] = f"{texts[meaning]},{value}" if meaning in texts else value
        genres, artist = texts.get("genres", ""), texts["artist"]
        if genres not in known_genres:
            known_genres[genres] = tuple(genre for name in _split_list(genres) for genre in normalise_genre(name))
        try:
            track = Track(
                id=texts.get("id", "").strip(),
                title=read_text("title", texts["title"]),
                artist=read_text("artist", ", ".join(_split_list(artist)) if artist[:1] == "[" else artist),
                genres=known_genres[genres],
                valence=_read_number(columns["valence"][0], texts["valence"]),
                energy=_read_number(columns["energy"][0], texts["energy"]),
                mode=_read_mode(texts.get("mode", "")),
                year=read_year(texts.get("year", "")),
                estimated=texts.get("estimated", "") == "1",
            )
        except BrokenRow as broken:
            problems.append(Problem(line, str(broken)))
        else:
            yield line, track


def _split_list(text: str) -> list[str]:
    """Splits "a, b", "a;b", "a|b" or "['a', 'b']" into names."""
    names = (name.strip(" []'\"") for name in re.split(r"[,;|]", text))
    return [name for name in names if name]


def _read_number(column: str, value: str) -> float:
    text = value.strip()
    if "," in text and "." not in text:
        text = text.replace(",", ".")  # where a semicolon separates values, a comma is the decimal point
    try:
        number = float(text)
    except ValueError:
        raise BrokenRow(f"{column}: {value[:40]!r} is no number") from None
    if not np.isfinite(number):
        raise BrokenRow(f"{column}: {value[:40]!r} is no finite number")
    return number


def _read_mode(value: str) -> int | None:
    text = value.strip().casefold()
    if text not in _MODES:
        raise BrokenRow(f"mode: {value[:40]!r} is none of {', '.join(name for name in _MODES if name)}")
    return _MODES[text]


def _key(name: str) -> str:
    """Reduces a title or name to what stays equal when its spelling differs."""
    text = name.casefold()
    if not text.isascii():
        text = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return _NO_LETTERS.sub("", _VERSION.sub("", text).replace("&", "and")) or name.casefold()


def _centring_power(energies: npt.NDArray[np.float64]) -> tuple[float, str]:
    """Finds the power that brings the median to .5, and words for it.

    Lists of hits are loud: with a median of .7 a calm face finds hardly a song near it. A power keeps the order, and
    0 and 1 where they are.
    """
    median = float(np.median(energies))
    if len(energies) < MIN_TO_CENTRE:
        return 1.0, f"left as it is, of {len(energies)} tracks (a median of fewer than {MIN_TO_CENTRE} says nothing)"
    if _CENTRED[0] <= median <= _CENTRED[1]:
        return 1.0, f"left as it is, its median is {median:.2f}"
    power = float(np.log(0.5) / np.log(np.clip(median, 0.05, 0.95)))
    return power, f"centred: median {median:.2f} becomes {median**power:.2f} (to the power of {power:.2f})"


def _merge(songs: Mapping[tuple[str, str], Sequence[Track]], energies: npt.NDArray[np.float64]) -> list[Track]:
    """Makes one track of each song's rows: genres together, valence averaged, the first known mode and year."""
    tracks, seen = [], set[str]()
    for (key, rows), energy in zip(songs.items(), energies.tolist(), strict=True):
        name = rows[0].id
        if not name or len(name) > _MAX_ID or not name.isprintable() or name in seen:
            name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
        seen.add(name)
        track = replace(
            rows[0],
            id=name,
            genres=tuple(sorted({genre for row in rows for genre in row.genres})),
            valence=fmean(row.valence for row in rows),
            energy=energy,
            mode=next((row.mode for row in rows if row.mode is not None), None),
            year=next((row.year for row in rows if row.year is not None), None),
            estimated=any(row.estimated for row in rows),
        )
        tracks.append(track)
    return tracks
