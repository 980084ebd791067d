"""What songs cost at 25,000 tracks: importing the list, loading the catalogue, one query without and with stars.

    .venv/bin/python benchmarks/music/speed.py [--list FILE.csv] [--tracks 25000] [--queries 500]

Without `--list`, a Spotify-style list of made-up tracks is generated. Prints CPU seconds of `import_tracks` and
`Catalogue.load` (the best of three) beside pandas' `read_csv` of the same file, and the median and 99 % quantile in
milliseconds of `Recommender.recommend`: by the mapping, and for a listener with 200 stored ratings.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue, write_catalogue
from pocketaffect.app.music.import_tracks import import_tracks
from pocketaffect.app.music.listeners import Listeners
from pocketaffect.app.music.recommend import Recommender


def make_list(file: Path, tracks: int) -> Path:
    """A Spotify-style list."""
    random = np.random.default_rng(0)
    numbers = np.arange(tracks)
    pd.DataFrame(
        {
            "track_name": [f"Song {number}" for number in numbers],
            "artist_name": [f"Artist {number // 8}" for number in numbers],
            "genre": random.choice(["pop", "rock", "edm", "rap", "latin", "r&b"], tracks),
            "energy": random.beta(6, 2, tracks).round(3),
            "valence": random.beta(2, 2, tracks).round(3),
            "mode": random.integers(0, 2, tracks),
            "track_id": [f"id{number}" for number in numbers],
        }
    ).to_csv(file, index=False)
    return file


def best_of_three(work: Callable[[], object]) -> float:
    """Seconds of CPU, which other people's work on the machine changes less."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", type=Path)
    parser.add_argument("--tracks", type=int, default=25_000)
    parser.add_argument("--queries", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.list or make_list(Path(folder) / "list.csv", arguments.tracks)
        tracks = import_tracks(file).tracks
        write_catalogue(tracks, Path(folder) / "catalogue.csv")
        catalogue = Catalogue.load(Path(folder) / "catalogue.csv")
        print(f"{len(catalogue):,} tracks")
        for name, work in {
            "import_tracks": lambda: import_tracks(file),
            "Catalogue.load": lambda: Catalogue.load(Path(folder) / "catalogue.csv"),
            "pandas.read_csv": lambda: pd.read_csv(file),
        }.items():
            print(f"  {name:<18}{best_of_three(work):8.2f} s of CPU")
        listeners = Listeners(Path(folder) / "own" / "listeners.db")
        recommender, random = Recommender(catalogue, listeners), np.random.default_rng(1)
        affects = [
            Affect(tuple(random.dirichlet(np.full(8, 0.4))), *random.uniform(-1, 1, 2))
            for _ in range(arguments.queries)
        ]
        for affect in affects[:200]:
            listeners.rate("somebody", affect, catalogue.tracks[random.integers(len(catalogue))].id, 4)
        for name, listener in (("mapping", None), ("200 ratings", "somebody")):
            recommender.recommend(affects[0], listener=listener)
            spent = []
            for seed, affect in enumerate(affects):
                start = time.perf_counter()
                recommender.recommend(affect, listener=listener, seed=seed)
                spent.append(1000 * (time.perf_counter() - start))
            print(f"  query, {name:<11}{np.median(spent):8.2f} ms   p99 {np.quantile(spent, 0.99):.2f} ms")
        listeners.close()


if __name__ == "__main__":
    main()
