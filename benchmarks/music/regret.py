"""What adapting to a listener's stars is worth: regret of the bandit, of the paper's fixed mapping, and of chance.

    .venv/bin/python benchmarks/music/regret.py [--listeners 60] [--rounds 60] [--rated 2] [--seed 0]

Simulated listeners look at a face a round, get five songs from the curated catalogue by `Recommender`, and give stars
to `--rated` of them. What they like is not of the bandit's form: a bell around an ideal point of valence and energy,
plus a liking for each genre, plus one for each song that no feature tells. A third wants songs that match their face
(the paper's assumption), a third songs against it, a third songs of one kind whatever their face. Regret is the mean
liking of the five songs they like best in the catalogue (an oracle's, in every round) minus that of the five
they got; 0..1, one star is .25. All three policies see the same listeners, faces and recent songs. Prints
the mean over listeners by ten rounds with the 95 % interval (bootstrap over listeners), and the difference between
the bandit and the fixed mapping. The same arguments give the same figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import Rating
from pocketaffect.app.music.recommend import ALL_GENRES, COUNT, Recommender
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS

Floats = npt.NDArray[np.float64]
Policy = Callable[[Affect, list[Rating], list[str], int], list[str]]

KINDS = ("matching", "opposite", "steady")
RECENT = 25
BLOCK = 10
STAR_NOISE = 0.5


@dataclass
class Listener:
    """Likings that no policy sees."""

    kind: str
    ideal: Floats
    genres: Floats
    songs: Floats

    def like(self, affect: Affect, tracks: Floats, shares: Floats) -> Floats:
        """Liking of each track, 0..1."""
        target = np.array(affect.target)
        ideal = {"matching": target, "opposite": 1 - target, "steady": self.ideal}[self.kind]
        near = np.exp(-((tracks - ideal) ** 2).sum(1) / (2 * 0.25**2))
        liking: Floats = 0.45 * near + 0.4 * (shares @ self.genres) + 0.15 * self.songs
        return liking


def make_listener(random: np.random.Generator, kind: str, songs: int) -> Listener:
    """Somebody: two thirds of the genres leave them cold."""
    genres = random.random(len(ALL_GENRES)) * (random.random(len(ALL_GENRES)) < 1 / 3)
    return Listener(kind, random.uniform(0.1, 0.9, 2), genres, random.random(songs))


def make_face(random: np.random.Generator) -> Affect:
    """A prediction around one expression's mean."""
    index = int(random.integers(len(EXPRESSIONS)))
    concentration = np.full(len(EXPRESSIONS), 0.3)
    concentration[index] += 6
    valence, arousal = np.array(CLASS_MEAN_VA[index]) + random.normal(0, 0.15, 2)
    return Affect(tuple(random.dirichlet(concentration)), valence, arousal)


def simulate(policy: Policy, catalogue: Catalogue, kind: str, seed: int, rounds: int, rated: int) -> Floats:
    """Regret of each round with one listener."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    listener = make_listener(random, kind, len(catalogue))
    tracks = np.array([(track.valence, track.energy) for track in catalogue.tracks])
    shares = np.array([[float(name in track.genres) for name in ALL_GENRES] for track in catalogue.tracks])
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    recent: list[str] = []
    ratings: list[Rating] = []
    regrets = []
    for number in range(rounds):
        face = make_face(random)
        likings = listener.like(face, tracks, shares)
        suggested = policy(face, ratings, recent, 1000 * seed + number)
        places = [position for name in suggested if (position := catalogue.position(name)) is not None]
        regrets.append(np.sort(likings)[-COUNT:].mean() - likings[places].mean())
        noise = random.normal(0, STAR_NOISE, COUNT)
        for place, stray in list(zip(places, noise, strict=True))[:rated]:
            stars = int(np.clip(np.rint(1 + 4 * likings[place] + stray), 1, 5))
            ratings.append(Rating(face, catalogue.tracks[place].id, stars))
        recent = (recent + suggested)[-RECENT:]
    return np.array(regrets)


def interval(values: Floats, seed: int) -> tuple[float, float]:
    """95 % interval of a mean, by drawing listeners."""
    draws = np.random.default_rng(seed).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975)).tolist()
    return low, high


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listeners", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--rated", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    catalogue = Catalogue.load()
    recommender = Recommender(catalogue)
    names = np.array([track.id for track in catalogue.tracks])

    def adapt(face: Affect, ratings: list[Rating], recent: list[str], seed: int) -> list[str]:
        found = recommender.recommend(face, ratings=ratings, recent=recent, seed=seed)
        return [each.id for each in found]

    def fix(face: Affect, _: list[Rating], recent: list[str], seed: int) -> list[str]:
        return [each.id for each in recommender.recommend(face, recent=recent, seed=seed)]

    def guess(_: Affect, __: list[Rating], ___: list[str], seed: int) -> list[str]:
        return np.random.default_rng(seed).choice(names, COUNT, replace=False).tolist()

    policies: dict[str, Policy] = {"bandit": adapt, "fixed": fix, "chance": guess}
    kinds = [KINDS[number % len(KINDS)] for number in range(arguments.listeners)]
    regrets = {
        name: np.array(
            [
                simulate(policy, catalogue, kind, arguments.seed + number, arguments.rounds, arguments.rated)
                for number, kind in enumerate(kinds)
            ]
        )
        for name, policy in policies.items()
    }
    print(
        f"{arguments.listeners} listeners, {arguments.rounds} rounds, {arguments.rated} of {COUNT} songs rated in each"
    )
    print(f"{'rounds':>8}" + "".join(f"{name:>24}" for name in policies) + f"{'bandit - fixed':>26}")
    for start in range(0, arguments.rounds, BLOCK):
        cells = {name: values[:, start : start + BLOCK].mean(1) for name, values in regrets.items()}
        row = f"{start + 1:>4}-{min(start + BLOCK, arguments.rounds):<3}"
        for values in (*cells.values(), cells["bandit"] - cells["fixed"]):
            low, high = interval(values, arguments.seed)
            row += f"{values.mean():>9.3f} ({low:+.3f}, {high:+.3f})"
        print(row)
    last = {name: values[:, -2 * BLOCK :].mean(1) for name, values in regrets.items()}
    print(f"last {2 * BLOCK} rounds by what listeners want (bandit, fixed):")
    for kind in KINDS:
        chosen = np.array([each == kind for each in kinds])
        print(f"  {kind:<9} {last['bandit'][chosen].mean():.3f}  {last['fixed'][chosen].mean():.3f}")
    better = interval(last["bandit"] - last["fixed"], arguments.seed)[1] < 0
    print("the bandit's regret is lower" if better else "the bandit's regret is NOT lower")
    sys.exit(0 if better else 1)


if __name__ == "__main__":
    main()
