"""From another service's list of tracks to a catalogue: columns and scales found and declared, duplicates merged."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.app.music.catalogue import Track, read_text, read_year
from pocketaffect.app.music.export_columns import SCALES, Scale, choose_scale, name_source, recognise_columns
from pocketaffect.app.music.genres import normalise_genre
from pocketaffect.app.music.tables import BrokenRow, Problem, Table, read_table
from pocketaffect.errors import PocketAffectError

MIN_TO_CENTRE: Final = 20
"""Tracks below which a median says nothing."""

_CENTRED: Final = (0.45, 0.55)
_MAX_ID: Final = 100
_VERSION: Final = re.compile(
    r"\s*[\(\[](feat|ft|with|featuring)\b[^)\]]*[\)\]]"
    r"|\s*[\(\[][^)\]]*\b(remaster(ed)?|mono|stereo|explicit|album version|single version)\b[^)\]]*[\)\]]"
    r"|\s+-\s+[^-]*\b(remaster(ed)?|mono|stereo|album version|single version)\b.*$"
)
"""What one recording's titles differ by; a remix, a live or another artist's version is another song."""

_NO_LETTERS: Final = re.compile(r"[\W_]+")


@dataclass
class Imported:
    """A list of tracks as a catalogue.

    Attributes:
        tracks: In the list's order.
        problems: Rows that were skipped.
        rows: How many rows the list has.
        merged: How many rows were merged into an earlier one of the same song.
        declarations: What was taken for what: one line for each column, scale and change.
    """

    tracks: list[Track]
    problems: list[Problem]
    rows: int
    merged: int
    declarations: list[str]


@dataclass
class _Row:
    """One sound row; valence and energy still on the list's scale."""

    line: int
    id: str
    title: str
    artist: str
    genres: frozenset[str]
    valence: float
    energy: float
    mode: int | None
    year: int | None
    estimated: bool


@dataclass
class _Song:
    """Rows of the same song."""

    row: _Row
    valences: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)


def import_tracks(file: Path, scales: Mapping[str, str] | None = None) -> Imported:
    """Reads a list of tracks of any style in `export_columns.NAMES`.

    Args:
        file: CSV with a header line.
        scales: Names of scales in `export_columns.SCALES` for "valence" and "energy", in place of found ones.

    Raises:
        PocketAffectError: The file is not readable, a column is missing, a scale is unknown, or no row is sound.
    """
    table = read_table(file)
    columns = recognise_columns(table.header, file)
    problems: list[Problem] = []
    rows = list(_read_rows(table, columns, problems))
    if not rows:
        first = f"{len(problems)} broken, the first in line {problems[0]}" if problems else "none"
        raise PocketAffectError(f"{file}: no sound row", found=first)
    source, unused = (
        name_source(table.header),
        sorted(set(table.header) - {name for of in columns.values() for name in of}),
    )
    declarations = [
        f"list: {source}, separated by {table.separator!r}",
        *(f"{meaning}: column {' + '.join(names)}" for meaning, names in columns.items()),
        f"not used: {', '.join(unused)}" if unused else "not used: none",
    ]
    count = len(rows) + len(problems)
    for name in ("valence", "energy"):
        column = columns[name][0]
        values = np.array([getattr(row, name) for row in rows])
        scale = _named_scale(scales[name]) if scales and name in scales else choose_scale(values, name, column, file)
        outside = (values < scale.low) | (values > scale.high)
        problems += [
            Problem(row.line, f"{column}: {value:g} is not on the column's scale {scale.name}")
            for row, value, bad in zip(rows, values.tolist(), outside.tolist(), strict=True)
            if bad
        ]
        rows = [row for row, bad in zip(rows, outside.tolist(), strict=True) if not bad]
        for row, value in zip(rows, scale.to_unit(values[~outside]).tolist(), strict=True):
            setattr(row, name, value)
        declarations.append(f"scale of {name}: {scale.name}")
    songs = _merge(rows)
    if not songs:
        raise PocketAffectError(
            f"{file}: no sound row", found=f"{len(problems)} broken, the first in line {problems[0]}"
        )
    energies = np.array([fmean(song.energies) for song in songs])
    power, said = _centring_power(energies)
    declarations.append(f"energy: {said}")
    tracks = _name_tracks(songs, energies**power)
    return Imported(tracks, sorted(problems), count, len(rows) - len(songs), declarations)


def _read_rows(table: Table, columns: Mapping[str, list[str]], problems: list[Problem]) -> Iterator[_Row]:
    wanted = [name for names in columns.values() for name in names]
    meanings = [meaning for meaning, names in columns.items() for _ in names]
    genre_cache: dict[str, frozenset[str]] = {}
    for line, values in table.records(wanted, problems):
        texts: dict[str, str] = {}
        for meaning, value in zip(meanings, values, strict=True):
            texts[meaning] = f"{texts[meaning]},{value}" if meaning in texts else value
        genres = texts.get("genres", "")
        if genres not in genre_cache:
            genre_cache[genres] = frozenset(genre for name in _split_list(genres) for genre in normalise_genre(name))
        try:
            yield _Row(
                line=line,
                id=texts.get("id", "").strip(),
                title=read_text("title", texts["title"]),
                artist=read_text(
                    "artist", ", ".join(_split_list(texts["artist"])) if texts["artist"][:1] == "[" else texts["artist"]
                ),
                genres=genre_cache[genres],
                valence=_read_number(columns["valence"][0], texts["valence"]),
                energy=_read_number(columns["energy"][0], texts["energy"]),
                mode=_read_mode(texts.get("mode", "")),
                year=read_year(texts.get("year", "")),
                estimated=texts.get("estimated", "") == "1",
            )
        except BrokenRow as broken:
            problems.append(Problem(line, str(broken)))


def _split_list(text: str) -> list[str]:
    """Names of "a, b", "a;b", "a|b" or "['a', 'b']"."""
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


_MODES: Final = {"1": 1, "1.0": 1, "major": 1, "0": 0, "0.0": 0, "minor": 0, "": None, "-1": None}


def _read_mode(value: str) -> int | None:
    text = value.strip().casefold()
    if text not in _MODES:
        raise BrokenRow(f"mode: {value[:40]!r} is none of {', '.join(name for name in _MODES if name)}")
    return _MODES[text]


def _named_scale(name: str) -> Scale:
    for scale in SCALES:
        if scale.name == name:
            return scale
    raise PocketAffectError("--scale: unknown", found=name, allowed=", ".join(scale.name for scale in SCALES))


def _merge(rows: list[_Row]) -> list[_Song]:
    """Songs in the order of their first rows: genres together, numbers averaged, the first known mode and year."""
    songs: dict[tuple[str, str], _Song] = {}
    for row in rows:
        song = songs.setdefault((_key(row.title), _key(row.artist)), _Song(row))
        song.valences.append(row.valence)
        song.energies.append(row.energy)
        if song.row is not row:
            kept = song.row
            kept.genres |= row.genres
            kept.mode = row.mode if kept.mode is None else kept.mode
            kept.year = row.year if kept.year is None else kept.year
            kept.estimated |= row.estimated
    return list(songs.values())


def _key(name: str) -> str:
    """What stays of a title or name when spelling does not count."""
    text = name.casefold()
    if not text.isascii():
        text = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return _NO_LETTERS.sub("", _VERSION.sub("", text).replace("&", "and")) or name.casefold()


def _centring_power(energies: npt.NDArray[np.float64]) -> tuple[float, str]:
    """The power that brings the median to .5, and what to say of it.

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


def _name_tracks(songs: list[_Song], energies: npt.NDArray[np.float64]) -> list[Track]:
    tracks, seen = [], set[str]()
    for song, energy in zip(songs, energies.tolist(), strict=True):
        row = song.row
        name = row.id
        if not name or len(name) > _MAX_ID or not name.isprintable() or name in seen:
            name = hashlib.sha256(f"{_key(row.title)}\n{_key(row.artist)}".encode()).hexdigest()[:16]
        seen.add(name)
        valence = fmean(song.valences)
        genres = tuple(sorted(row.genres))
        tracks.append(Track(name, row.title, row.artist, genres, valence, energy, row.mode, row.year, row.estimated))
    return tracks
