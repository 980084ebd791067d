"""What a catalogue holds, in words: how many tracks of which genres, and how they lie over valence and energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.genres import GENRES
from pocketaffect.app.music.tables import Problem

MAX_PROBLEMS: Final = 20
_ROWS: Final = (("lively", 2 / 3, 1.01), ("steady", 1 / 3, 2 / 3), ("calm", 0, 1 / 3))
_COLUMNS: Final = (("dark", 0, 1 / 3), ("mellow", 1 / 3, 2 / 3), ("bright", 2 / 3, 1.01))


def describe_catalogue(catalogue: Catalogue) -> str:
    """Counts by genre of the paper's table and by thirds of valence and energy, and the rows that were skipped."""
    tracks = catalogue.tracks
    counts = Counter(genre for track in tracks for genre in track.genres)
    valence, energy = np.array([track.valence for track in tracks]), np.array([track.energy for track in tracks])
    years = sorted(track.year for track in tracks if track.year is not None)
    lines = [
        f"{catalogue.source}: {len(catalogue):,} tracks by {len({track.artist for track in tracks}):,} artists",
        f"years: {f'{years[0]} to {years[-1]}' if years else 'none given'}",
        f"valence: median {np.median(valence):.2f}   energy: median {np.median(energy):.2f}"
        f"   mode known: {sum(track.mode is not None for track in tracks):,}"
        f"   values estimated: {sum(track.estimated for track in tracks):,}",
        "",
        f"{'tracks':<10}" + "".join(f"{name:>8}" for name, _, _ in _COLUMNS) + "   (thirds of valence and energy)",
    ]
    for name, low, high in _ROWS:
        row = (energy >= low) & (energy < high)
        cells = [int((row & (valence >= left) & (valence < right)).sum()) for _, left, right in _COLUMNS]
        lines.append(f"{name:<10}" + "".join(f"{count:>8,}" for count in cells))
    lines.append("")
    for expression, genres in GENRES.items():
        lines.append(f"{expression:<10}" + "   ".join(f"{genre} {counts[genre]:,}" for genre in genres))
    lines.append("other".ljust(10) + f"{sum(not track.genres for track in tracks):,} tracks without a genre")
    return "\n".join([*lines, *describe_problems(catalogue.problems)])


def describe_problems(problems: Sequence[Problem]) -> list[str]:
    """A line for each of the first MAX_PROBLEMS skipped rows, with how many there are."""
    if not problems:
        return []
    shown = [f"  line {problem}" for problem in problems[:MAX_PROBLEMS]]
    more = [f"  and {len(problems) - MAX_PROBLEMS:,} more"] if len(problems) > MAX_PROBLEMS else []
    return [f"{len(problems):,} row(s) skipped:", *shown, *more]
