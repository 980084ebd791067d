"""Five songs for a face: the paper's mapping, changed by what the listener rated, never the same five for long.

A listener's taste is a Bayesian linear regression of stars on features that tie a track to an affect, sampled for each
query (Thompson sampling; Agrawal & Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs"). Its
prior mean is the paper's mapping: a listener without ratings gets that, and each rating moves the weights away from it.

Libraries that were looked at: MABWiser keeps a separate model for each arm (25,000 tracks, five ratings) and takes no
prior mean; scikit-learn's BayesianRidge shrinks to zero, which is no mapping at all; Vowpal Wabbit, a native program of
its own, has no prior either and is large beside these twenty lines.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import GENRES, OTHER_GENRES, PAPER_GENRES, Catalogue, Track
from pocketaffect.app.music.listeners import Listeners, Rating
from pocketaffect.labels import EXPRESSIONS

ALL_GENRES: Final = (*PAPER_GENRES, *OTHER_GENRES)
FIT_NAMES: Final = ("bias", "genre", "closeness", "mode", "brighter", "livelier", "valence", "energy")
NAMES: Final = (*FIT_NAMES, *(f"likes {genre}" for genre in ALL_GENRES))
"""Names of the features, in their order.

genre: how likely the face shows an expression of the track's genres. closeness: 1 where valence and energy are the
face's, 0 at opposite corners. mode: 1 where the track is major for a pleasant face, minor for an unpleasant one, 0
otherwise, .5 unknown. brighter, livelier: how much the track lies above the face's valence and energy, for listeners
who want music against their mood. valence, energy: the track's own. The rest: its genres, equal parts of 1.
"""

MAPPING: Final = {"genre": 0.35, "closeness": 0.6, "mode": 0.05}
"""Weights that stand for the paper's mapping: within the expression's genres the nearest valence and energy, then the
mode. Its service took genres as seeds, so that a near song of another genre came behind. They sum to 1: the best fit
scores what five stars do."""

_TABLE: Final = np.array([[genre in GENRES[name] for genre in ALL_GENRES] for name in EXPRESSIONS], np.float32)
"""float32 [8, genres]: 1 where the paper gives an expression a genre."""

Floats = npt.NDArray[np.float32]

NOISE: Final = 0.25
"""Standard deviation of a rating about the listener's taste, where five stars are 1 and one star is 0."""

EXPLORATION: Final = 0.3
"""Standard deviations of the posterior that a sample strays, times this: ratings are few, songs many."""

PRIOR_MEAN: Final = np.array([MAPPING.get(name, 0.0) for name in NAMES])
"""Weights of a listener without ratings: the paper's mapping, which scores 0 to 1, higher fits."""
_PRIOR_SCALE: Final = np.array([0.5, 0.3, 0.5, 0.1, 0.4, 0.4, 0.4, 0.4, *[0.3] * len(ALL_GENRES)])
"""Standard deviations of the weights before any rating, in the order of NAMES."""


class Features:
    """Computes the features of n tracks."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._valence = np.array([track.valence for track in tracks], np.float32)
        self._energy = np.array([track.energy for track in tracks], np.float32)
        self._major = np.array([0.5 if track.mode is None else track.mode for track in tracks], np.float32)
        # Catalogues hold a few hundred different sets of genres: each is weighed once.
        sets = sorted({track.genres for track in tracks})
        number = {genres: index for index, genres in enumerate(sets)}
        self._set_of = np.array([number[track.genres] for track in tracks], np.intp)
        columns = {genre: index for index, genre in enumerate(ALL_GENRES)}
        self._in_set = np.zeros((len(sets), len(ALL_GENRES)), np.float32)
        for index, genres in enumerate(sets):
            for genre in genres:
                self._in_set[index, columns.get(genre, len(columns) - 1)] = 1
        self._shares = self._in_set / np.maximum(self._in_set.sum(1, keepdims=True), 1)

    def rows(self, affects: Sequence[Affect], indices: Sequence[int]) -> npt.NDArray[np.float64]:
        """Computes all features of some tracks, each beside an affect of its own, float64 [r, len(NAMES)]."""
        sets = self._set_of[indices]
        probabilities = np.array([affect.probabilities for affect in affects], np.float32)
        genre = (self._in_set[sets] * (probabilities @ _TABLE)).max(1)
        targets = np.array([affect.target for affect in affects], np.float32)
        fit = self._fit(indices, genre, targets[:, 0], targets[:, 1])
        columns = [np.broadcast_to(column, len(sets)) for column in fit]
        return np.hstack([np.stack(columns, axis=1), self._shares[sets]]).astype(np.float64)

    def _fit(
        self, indices: slice | Sequence[int], genre: Floats, valence: Floats | np.float32, energy: Floats | np.float32
    ) -> tuple[float | Floats, ...]:
        """Computes the features of FIT_NAMES: one number for all tracks, or float32 [n]."""
        own_valence, own_energy, major = self._valence[indices], self._energy[indices], self._major[indices]
        brighter, livelier = own_valence - valence, own_energy - energy
        closeness = 1 - np.hypot(brighter, livelier) / np.float32(np.sqrt(2))
        mode = np.where(valence >= 0.5, major, 1 - major)
        return 1.0, genre, closeness, mode, brighter, livelier, own_valence, own_energy

    def weigh(self, affect: Affect, weights: npt.NDArray[np.float64]) -> Floats:
        """Computes all tracks' features beside one affect, times weights in the order of NAMES: float32 [n]."""
        per_genre = np.array(affect.probabilities, np.float32) @ _TABLE
        genre = (self._in_set * per_genre).max(1)[self._set_of]
        columns = self._fit(slice(None), genre, *np.array(affect.target, np.float32))
        scores: Floats = np.zeros(len(self._valence), np.float32)
        for weight, column in zip(weights.tolist(), columns, strict=False):
            if weight:
                scores += np.float32(weight) * column
        by_set: Floats = self._shares @ weights[len(FIT_NAMES) :].astype(np.float32)
        return np.asarray(scores + by_set[self._set_of])


class Taste:
    """The posterior over a listener's weights, from ratings of 1 to 5 stars, int [r].

    The features, float64 [r, len(NAMES)], are those of the rated tracks beside the affects they were rated for.
    """

    def __init__(self, features: npt.NDArray[np.float64], stars: npt.NDArray[np.integer]) -> None:
        liking = (stars - 1) / 4
        precision = np.diag(1 / _PRIOR_SCALE**2) + features.T @ features / NOISE**2
        # The factor L of the precision gives both: the mean by two triangular solves, a sample by one more.
        self._factor = np.linalg.cholesky(precision)
        surprise = features.T @ (liking - features @ PRIOR_MEAN) / NOISE**2
        self.mean = PRIOR_MEAN + np.linalg.solve(precision, surprise)

    def sample(self, random: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draws weights that the listener may have, float64 [len(NAMES)]."""
        noise = np.linalg.solve(self._factor.T, random.standard_normal(len(self.mean)))
        return np.asarray(self.mean + EXPLORATION * noise)


SERVICES: Final[dict[str, tuple[str, str]]] = {
    "spotify": ("Spotify", "https://open.spotify.com/search/{}"),
    "apple": ("Apple Music", "https://music.apple.com/search?term={}"),
    "youtube": ("YouTube", "https://www.youtube.com/results?search_query={}"),
    "youtube-music": ("YouTube Music", "https://music.youtube.com/search?q={}"),
    "deezer": ("Deezer", "https://www.deezer.com/search/{}"),
    "tidal": ("TIDAL", "https://listen.tidal.com/search?q={}"),
    "amazon": ("Amazon Music", "https://music.amazon.com/search/{}"),
    "soundcloud": ("SoundCloud", "https://soundcloud.com/search?q={}"),
}
"""Music services by key: name, and the address that opens a search there, without account, key or call by us."""

COUNT: Final = 5
"""Songs that are suggested at once."""

SHORTLIST: Final = 256
"""Best tracks among which chance and the rule of one song per artist choose."""

VARIETY: Final = 0.04
"""Scale of the chance in a score (a Gumbel draw times this): tracks whose scores differ by less take turns."""

HEARD_PENALTY: Final = 100.0
"""More than any difference of scores: what was heard comes after all else."""

MAX_TASTES: Final = 1000
"""Listeners whose taste is kept at hand; more start afresh from the stored ratings."""


@dataclass(frozen=True, slots=True)
class Suggestion(Track):
    """A song and why it was chosen."""

    reason: str
    """A line such as "calm and bright: valence .6, energy .2"."""
    links: dict[str, str]
    """Key of each service in SERVICES to the address that searches it for the song."""
    adapted: bool
    """Whether the listener's ratings took part."""


class Recommender:
    """Ranks a catalogue for an affect and a listener. Safe to share between threads.

    Without a store of ratings it adapts to nobody but who sends their ratings along.
    """

    def __init__(self, catalogue: Catalogue, listeners: Listeners | None = None) -> None:
        self.catalogue = catalogue
        self._listeners = listeners
        self._features = Features(catalogue.tracks)
        artists: dict[str, int] = {}
        self._artist = [artists.setdefault(track.artist.casefold(), len(artists)) for track in catalogue.tracks]
        self._tastes: dict[str, tuple[int, Taste]] = {}

    def recommend(
        self,
        affect: Affect,
        *,
        listener: str | None = None,
        ratings: Sequence[Rating] = (),
        recent: Collection[str] = (),
        count: int = COUNT,
        seed: int = 0,
        variety: float = VARIETY,
    ) -> list[Suggestion]:
        """Suggests `count` songs for an affect, best first, one for each artist; fewer where there are fewer tracks.

        The stored ratings of `listener` adapt the ranking, or `ratings` that they keep on their own device; equal
        arguments give equal songs, another seed others. Tracks whose ids are in `recent` come back only where nothing
        else is left. `variety` scales the chance in a score; 0 is the mapping alone.
        """
        random = np.random.default_rng(seed)
        taste = self._taste(listener, ratings)
        scores = self._features.weigh(affect, PRIOR_MEAN if taste is None else taste.sample(random))
        tracks = [self.catalogue.tracks[index] for index in self._choose(scores, recent, count, variety, random)]
        return [suggest(track, explain(track), adapted=taste is not None) for track in tracks]

    def _taste(self, listener: str | None, ratings: Sequence[Rating]) -> Taste | None:
        """Learns or looks up the listener's taste; None without any rating of a track in this catalogue."""
        if ratings:
            return self._learn(ratings)
        if listener is None or self._listeners is None:
            return None
        version = self._listeners.version(listener)
        if version == 0:
            self._tastes.pop(listener, None)
            return None
        known = self._tastes.get(listener)
        if known is None or known[0] != version:
            taste = self._learn(self._listeners.ratings(listener))
            if taste is None:
                return None
            if len(self._tastes) >= MAX_TASTES:
                self._tastes.clear()
            known = self._tastes[listener] = version, taste
        return known[1]

    def _learn(self, ratings: Sequence[Rating]) -> Taste | None:
        placed = [(rating, self.catalogue.position(rating.track)) for rating in ratings]
        known = [(rating, index) for rating, index in placed if index is not None]
        if not known:
            return None
        rows = self._features.rows([rating.affect for rating, _ in known], [index for _, index in known])
        return Taste(rows, np.array([rating.stars for rating, _ in known]))

    def _choose(
        self,
        scores: npt.NDArray[np.float32],
        recent: Collection[str],
        count: int,
        variety: float,
        random: np.random.Generator,
    ) -> list[int]:
        """Picks the indices of the best tracks, by score and chance."""
        scores = scores.copy()
        heard = [index for name in recent if (index := self.catalogue.position(name)) is not None]
        scores[heard] -= HEARD_PENALTY
        best = np.argpartition(-scores, SHORTLIST)[:SHORTLIST] if len(scores) > SHORTLIST else np.arange(len(scores))
        best.sort()
        drawn = scores[best] + variety * random.gumbel(size=len(best))
        chosen: list[int] = []
        postponed: list[int] = []
        artists: set[int] = set()
        for index in best[np.argsort(-drawn, kind="stable")].tolist():
            if scores[index] > -HEARD_PENALTY / 2 and self._artist[index] not in artists:
                artists.add(self._artist[index])
                chosen.append(index)
                if len(chosen) == count:
                    break
            else:
                postponed.append(index)
        return (chosen + postponed)[:count]


def suggest(track: Track, reason: str, *, adapted: bool) -> Suggestion:
    """Adds reason and links to a track."""
    own = {part.name: getattr(track, part.name) for part in fields(Track)}
    return Suggestion(**own, reason=reason, links=search_links(track.title, track.artist), adapted=adapted)


def search_links(title: str, artist: str) -> dict[str, str]:
    """Maps the key of each service to the address that searches it for a song."""
    text = quote(f"{artist} {title}", safe="")
    return {service: address.format(text) for service, (_, address) in SERVICES.items()}


def explain(track: Track) -> str:
    """Finds a word each for a track's energy and valence, and says them with their numbers."""
    energy = "calm" if track.energy < 0.4 else "steady" if track.energy <= 0.6 else "lively"
    valence = "dark" if track.valence < 0.4 else "mellow" if track.valence <= 0.6 else "bright"
    return f"{energy} and {valence}: valence {_short(track.valence)}, energy {_short(track.energy)}"


def _short(number: float) -> str:
    """Rounds to one decimal and leaves out the zero before it: .6."""
    return f"{number:.1f}".removeprefix("0") if number < 0.95 else "1"
