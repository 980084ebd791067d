"""The catalogue: tracks with valence, energy, mode and the paper's genres, in a CSV file of fixed columns.

`pocketaffect music import` makes such a file from another service's export; a curated one comes with the package.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pocketaffect.app.music.tables import BrokenRow, Problem, read_table
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.tables import render_table

CURATED: Final = Path(__file__).parent / "catalogue.csv"
COLUMNS: Final = ("id", "title", "artist", "year", "genres", "valence", "energy", "mode", "estimated")
GENRE_SEPARATOR: Final = "|"
MAX_TEXT: Final = 300
"""Characters of a title or an artist's name."""
YEARS: Final = range(1000, 2101)
MAX_PROBLEMS: Final = 20

GENRES: Final[dict[str, tuple[str, ...]]] = {
    "neutral": ("jazz", "ambient", "reggae", "indie", "alt-rock"),
    "happiness": ("dance", "pop", "rock", "show-tunes", "party"),
    "sadness": ("sad", "classical", "folk", "songwriter", "blues"),
    "surprise": ("funk", "electronic", "techno", "disco", "ska"),
    "fear": ("classical", "soul", "piano"),
    "disgust": ("drum-and-bass", "dub", "edm", "house", "club"),
    "anger": ("metal", "grunge", "punk", "industrial", "garage"),
    "contempt": ("blues", "soul", "country"),
}
"""Seed genres by expression (Hewitt & Gunes 2018), in the order of `labels.EXPRESSIONS`."""

PAPER_GENRES: Final = tuple(dict.fromkeys(genre for genres in GENRES.values() for genre in genres))

OTHER_GENRES: Final = ("hip-hop", "latin", "rnb", "world", "other")
"""Families without an expression in the paper, which a listener may still like; the last one holds all the rest."""

_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(genres.split())
    for genres, names in {
        "alt-rock": "alt alternative alternative-rock",
        "ambient": "chill",
        "classical": "opera soundtrack",
        "country": "bluegrass",
        "country folk": "americana",
        "dance pop": "dance-pop",
        "drum-and-bass": "dnb drum-n-bass jungle",
        "dub edm": "dubstep",
        "edm": "brostep trance",
        "edm house": "electro-house progressive-house",
        "edm pop": "edm-pop",
        "electronic": "electro electronica idm trip-hop",
        "electronic pop": "synth-pop",
        "garage": "garage-rock",
        "hip-hop": "hiphop rap trap",
        "house": "deep-house",
        "indie pop": "indie-pop",
        "indie rock": "indie-rock",
        "jazz latin": "bossa-nova",
        "latin": "salsa samba",
        "latin party": "reggaeton",
        "metal": "heavy-metal",
        "pop rock": "pop-rock",
        "punk": "hardcore punk-rock",
        "rnb soul": "neo-soul r-and-b r-n-b rhythm-and-blues",
        "rock": "psych-rock rock-n-roll",
        "rock electronic": "new-wave",
        "rock metal": "hard-rock",
        "show-tunes": "broadway musical musicals showtunes",
        "songwriter": "acoustic singer-songwriter",
        "soul": "motown",
        "techno": "minimal-techno",
        "world": "world-music",
        "world funk": "afrobeat",
    }.items()
    for name in names.split()
}
_KNOWN: Final = {genre: (genre,) for genre in (*PAPER_GENRES, *OTHER_GENRES)} | _SYNONYMS


def normalise_genre(name: str) -> tuple[str, ...]:
    """Translates a catalogue's own name of a genre to `PAPER_GENRES` and `OTHER_GENRES`.

    "R&B" is soul too, "Alternative Rock" is alt-rock, "melodic techno" ends in a known genre. An unknown name is
    "other"; an empty one is none.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold().replace("&", " n ")).strip("-")
    words = slug.split("-")
    for start in range(len(words)):
        if genres := _KNOWN.get("-".join(words[start:])):
            return genres
    return ("other",) if slug else ()


@dataclass(frozen=True, slots=True)
class Track:
    """One song.

    Attributes:
        id: Unique in its catalogue.
        title: Plain text, as the artist is: whoever shows it in a page escapes it.
        genres: Names from PAPER_GENRES and OTHER_GENRES, sorted; empty where the source has none.
        valence: 0 sad to 1 cheerful.
        energy: 0 calm to 1 intense, centred: the catalogue's median is about .5.
        mode: 1 major, 0 minor, None unknown.
        year: Year of the recording (for classical works: of the composition), or None.
        estimated: Whether valence, energy and mode are somebody's estimates, not measurements of the audio.
    """

    id: str
    title: str
    artist: str
    genres: tuple[str, ...]
    valence: float
    energy: float
    mode: int | None
    year: int | None
    estimated: bool


class Catalogue:
    """Tracks in their file's order, with the file's rows that were skipped, and its name in messages.

    Raises:
        PocketAffectError: There is no track, or an id occurs twice.
    """

    def __init__(self, tracks: Sequence[Track], problems: Sequence[Problem] = (), source: str = "catalogue") -> None:
        self.tracks = tuple(tracks)
        self.problems = tuple(problems)
        self.source = source
        self._positions = {track.id: position for position, track in enumerate(self.tracks)}
        if not self.tracks:
            found = f"{len(problems)} broken row(s), the first in line {problems[0]}" if problems else "no rows"
            raise PocketAffectError(f"{source}: no track", found=found, todo="import another list of tracks")
        if len(self._positions) < len(self.tracks):
            raise PocketAffectError(f"{source}: an id occurs twice", allowed="ids that occur once")

    def __len__(self) -> int:
        return len(self.tracks)

    def position(self, track_id: str) -> int | None:
        """Finds a track's index in `tracks`, None where the catalogue does not hold it."""
        return self._positions.get(track_id)

    @staticmethod
    def load(file: Path | None = None) -> Catalogue:
        """Reads a file that `pocketaffect music import` wrote, or the curated catalogue of the package.

        Broken rows and second occurrences of an id are skipped and listed in `problems`.

        Raises:
            PocketAffectError: The file is no catalogue, cannot be read, or holds no sound row.
        """
        path = file or CURATED
        table = read_table(path, COLUMNS)
        if missing := [column for column in COLUMNS if column not in table.header]:
            raise PocketAffectError(
                f"{path}: not one of our catalogues",
                found=f"no column {', '.join(missing)}",
                allowed=",".join(COLUMNS),
                todo=f"pocketaffect music import {path}",
            )
        tracks, seen = [], set[str]()
        problems: list[Problem] = []
        for line, values in table.records(COLUMNS, problems):
            try:
                track = _read_track(values)
                if track.id in seen:
                    raise BrokenRow(f"id {track.id!r} occurred before")
            except BrokenRow as broken:
                problems.append(Problem(line, str(broken)))
            else:
                seen.add(track.id)
                tracks.append(track)
        return Catalogue(tracks, sorted(problems), str(file or "curated catalogue"))


def _read_track(values: Sequence[str]) -> Track:
    row = dict(zip(COLUMNS, values, strict=True))
    if row["mode"] not in ("", "0", "1"):
        raise BrokenRow(f"mode: {row['mode']!r}, not 0, 1 or empty")
    if row["estimated"] not in ("0", "1"):
        raise BrokenRow(f"estimated: {row['estimated']!r}, not 0 or 1")
    return Track(
        id=read_text("id", row["id"]),
        title=read_text("title", row["title"]),
        artist=read_text("artist", row["artist"]),
        genres=tuple(sorted({genre for genre in row["genres"].split(GENRE_SEPARATOR) if genre})),
        valence=_read_fraction("valence", row["valence"]),
        energy=_read_fraction("energy", row["energy"]),
        mode=int(row["mode"]) if row["mode"] else None,
        year=read_year(row["year"]),
        estimated=row["estimated"] == "1",
    )


def read_text(column: str, value: str) -> str:
    """Puts a title or name on one line, without unprintable characters.

    Raises:
        BrokenRow: It is empty, or longer than MAX_TEXT.
    """
    text = " ".join("".join(character if character.isprintable() else " " for character in value).split())
    if not text:
        raise BrokenRow(f"{column}: empty")
    if len(text) > MAX_TEXT:
        raise BrokenRow(f"{column}: {len(text)} characters, more than {MAX_TEXT}")
    return text


def _read_fraction(column: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise BrokenRow(f"{column}: {value[:40]!r} is no number") from None
    if not 0 <= number <= 1:
        raise BrokenRow(f"{column}: {value[:40]} is not in 0..1")
    return number


def read_year(value: str) -> int | None:
    """Reads the year that a date begins with, None for none.

    Raises:
        BrokenRow: It begins with something else.
    """
    start = value.strip()[:4]
    if not start or start == "0000":
        return None
    if not (start.isdecimal() and int(start) in YEARS):
        raise BrokenRow(f"year: {value[:40]!r} does not begin with one")
    return int(start)


def write_catalogue(tracks: Iterable[Track], target: Path) -> None:
    """Writes tracks as the CSV file that `Catalogue.load` reads: equal tracks give equal bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for track in tracks:
        genres, estimated = GENRE_SEPARATOR.join(track.genres), int(track.estimated)
        numbers = (f"{track.valence:.4g}", f"{track.energy:.4g}", track.mode, estimated)  # None is written as nothing
        writer.writerow((track.id, track.title, track.artist, track.year, genres, *numbers))
    with write_atomically(target) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")


def describe_catalogue(catalogue: Catalogue) -> str:
    """Counts tracks by genre of the paper's table and by thirds of valence and energy; lists the skipped rows."""
    tracks = catalogue.tracks
    counts = Counter(genre for track in tracks for genre in track.genres)
    valence, energy = np.array([track.valence for track in tracks]), np.array([track.energy for track in tracks])
    years = sorted(track.year for track in tracks if track.year is not None)
    thirds, _, _ = np.histogram2d(energy, valence, bins=3, range=((0, 1), (0, 1)))
    levels = zip(("calm", "steady", "lively"), thirds.astype(int).tolist(), strict=True)
    table: list[tuple[str, ...]] = [("tracks", "dark", "mellow", "bright", "(thirds of valence and energy)")]
    table += reversed([(level, *(f"{count:,}" for count in cells), "") for level, cells in levels])
    genres = [(name, "   ".join(f"{genre} {counts[genre]:,}" for genre in named)) for name, named in GENRES.items()]
    genres.append(("other", f"{sum(not track.genres for track in tracks):,} tracks without a genre"))
    lines = [
        f"{catalogue.source}: {len(catalogue):,} tracks by {len({track.artist for track in tracks}):,} artists",
        f"years: {f'{years[0]} to {years[-1]}' if years else 'none given'}",
        f"valence: median {np.median(valence):.2f}   energy: median {np.median(energy):.2f}"
        f"   mode known: {sum(track.mode is not None for track in tracks):,}"
        f"   values estimated: {sum(track.estimated for track in tracks):,}",
        "",
        render_table(table, "lrrrl"),
        "",
        render_table(genres, "l"),
    ]
    return "\n".join([*lines, *describe_problems(catalogue.problems)])


def describe_problems(problems: Sequence[Problem]) -> list[str]:
    """Lists the first MAX_PROBLEMS skipped rows, a line each, under their number; nothing where there are none."""
    if not problems:
        return []
    shown = [f"  line {problem}" for problem in problems[:MAX_PROBLEMS]]
    more = [f"  and {len(problems) - MAX_PROBLEMS:,} more"] if len(problems) > MAX_PROBLEMS else []
    return [f"{len(problems):,} row(s) skipped:", *shown, *more]
