"""Affects and lists of tracks for the music tests."""

import csv
import io
from pathlib import Path

import numpy as np

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Track
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS

SPOTIFY_HEADER = ("track_name", "artist_name", "genre", "danceability", "energy", "valence", "mode", "track_id")


def make_affect(expression: str = "happiness", valence: float | None = None, arousal: float | None = None) -> Affect:
    """A clear face of one expression."""
    index = EXPRESSIONS.index(expression)
    probabilities = np.full(len(EXPRESSIONS), 0.02)
    probabilities[index] = 1 - 0.02 * 7
    mean = CLASS_MEAN_VA[index]
    return Affect(
        tuple(probabilities), mean[0] if valence is None else valence, mean[1] if arousal is None else arousal
    )


def make_tracks(count: int, seed: int = 0, genres: tuple[str, ...] = ("pop", "metal", "jazz", "sad")) -> list[Track]:
    """Tracks all over the plane, three to an artist."""
    random = np.random.default_rng(seed)
    return [
        Track(
            id=f"t{number}",
            title=f"Song {number}",
            artist=f"Artist {number // 3}",
            genres=(genres[number % len(genres)],),
            valence=round(float(random.random()), 3),
            energy=round(float(random.random()), 3),
            mode=int(random.integers(2)),
            year=2000 + number % 20,
            estimated=True,
        )
        for number in range(count)
    ]


def write_list(file: Path, header: tuple[str, ...], rows: list[tuple], separator: str = ",", encoding="utf-8") -> Path:
    """A CSV file as a service would export it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    file.write_bytes(text.getvalue().encode(encoding))
    return file


def spotify_rows(count: int, seed: int = 0) -> list[tuple]:
    """Loud hits, as Spotify's lists hold them: energy about .75."""
    random = np.random.default_rng(seed)
    energies, valences = random.beta(6, 2, count).round(3), random.beta(2, 2, count).round(3)
    return [
        (
            f"Song {number}",
            f"Artist {number}",
            "pop",
            0.5,
            energies[number],
            valences[number],
            number % 2,
            f"id{number}",
        )
        for number in range(count)
    ]
