"""Five songs for a face: the paper's mapping, changed by what the listener rated, never the same five for long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue, Track
from pocketaffect.app.music.features import Features
from pocketaffect.app.music.links import search_links
from pocketaffect.app.music.listeners import Listeners, Rating
from pocketaffect.app.music.taste import Taste

COUNT: Final = 5
SHORTLIST: Final = 256
"""Best tracks among which chance and the rule of one song per artist choose."""

VARIETY: Final = 0.04
"""Scale of the chance in a score (a Gumbel draw times this): tracks whose scores differ by less take turns."""


HEARD_PENALTY: Final = 100.0
"""More than any difference of scores: what was heard comes after all else."""

MAX_TASTES: Final = 1000
"""Listeners whose taste is kept at hand; more start afresh from the stored ratings."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A song and why.

    Attributes:
        track: The song.
        reason: In a line: "calm and bright: valence .6, energy .2".
        score: What ranked it, without the chance; higher is better.
        links: Key of each service in `links.SERVICES` to the address that searches it for the song.
        tone: The two words of the reason, for translations: one of calm, steady, lively, then of dark, mellow, bright.
        adapted: Whether the listener's ratings took part.
    """

    track: Track
    reason: str
    score: float
    links: dict[str, str]
    tone: tuple[str, str]
    adapted: bool


class SuggestsSongs(Protocol):
    """What the app asks for songs: `Recommender`, or `spotify.SpotifyRecommender`."""

    def recommend(
        self,
        affect: Affect,
        *,
        listener: str | None = None,
        ratings: Sequence[Rating] = (),
        recent: Collection[str] = (),
        count: int = COUNT,
        seed: int = 0,
    ) -> list[Suggestion]:
        """Songs for an affect, best first."""
        ...


class Recommender:
    """Ranks a catalogue for an affect and a listener. Safe to share between threads.

    Args:
        catalogue: The tracks.
        listeners: The store of ratings; None adapts to nobody but who sends their ratings along.
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
    ) -> list[Suggestion]:
        """Songs for an affect, best first, one for each artist.

        Args:
            affect: Of the face.
            listener: Whose stored ratings adapt the ranking; None switches that off.
            ratings: Ratings that the listener keeps on their own device, in place of stored ones.
            recent: Ids of tracks not to suggest again; they come back only where nothing else is left.
            count: How many.
            seed: Of chance: equal arguments give equal songs.

        Returns:
            `count` suggestions, fewer where the catalogue holds fewer tracks.
        """
        random = np.random.default_rng(seed)
        taste = self._taste(listener, ratings)
        context = self._features.context(affect)
        scores = context.mapped if taste is None else context.weigh(taste.sample(random))
        chosen = self._choose(scores, recent, count, random)
        return [self._suggest(index, float(scores[index]), adapted=taste is not None) for index in chosen]

    def _taste(self, listener: str | None, ratings: Sequence[Rating]) -> Taste | None:
        """What is known of the listener, None without any rating of a track in this catalogue."""
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
        placed = [(rating, self.catalogue.position(rating.track_id)) for rating in ratings]
        known = [(rating, index) for rating, index in placed if index is not None]
        if not known:
            return None
        rows = self._features.rows([rating.affect for rating, _ in known], [index for _, index in known])
        return Taste(rows, np.array([rating.stars for rating, _ in known]))

    def _choose(
        self, scores: npt.NDArray[np.float32], recent: Collection[str], count: int, random: np.random.Generator
    ) -> list[int]:
        """Indices of the best tracks, by score and chance."""
        scores = scores.copy()
        heard = [index for name in recent if (index := self.catalogue.position(name)) is not None]
        scores[heard] -= HEARD_PENALTY
        best = np.argpartition(-scores, SHORTLIST)[:SHORTLIST] if len(scores) > SHORTLIST else np.arange(len(scores))
        best.sort()
        drawn = scores[best] + VARIETY * random.gumbel(size=len(best))
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

    def _suggest(self, index: int, score: float, *, adapted: bool) -> Suggestion:
        track = self.catalogue.tracks[index]
        tone, reason = explain(track)
        return Suggestion(track, reason, score, search_links(track.title, track.artist), tone, adapted)


def explain(track: Track) -> tuple[tuple[str, str], str]:
    """Two words on a track's energy and valence, and the line that says them with their numbers."""
    energy = "calm" if track.energy < 0.4 else "steady" if track.energy <= 0.6 else "lively"
    valence = "dark" if track.valence < 0.4 else "mellow" if track.valence <= 0.6 else "bright"
    reason = f"{energy} and {valence}: valence {_short(track.valence)}, energy {_short(track.energy)}"
    return (energy, valence), reason


def _short(number: float) -> str:
    """One decimal without its zero: .6."""
    return f"{number:.1f}".removeprefix("0") if number < 0.95 else "1"
