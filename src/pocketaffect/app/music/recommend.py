"""Five songs for a face: the paper's mapping, changed by what the listener rated, never the same five for long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

import numpy as np
import numpy.typing as npt

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue, Track
from pocketaffect.app.music.listeners import Listeners, Rating
from pocketaffect.app.music.taste import Context, Features, Taste

SERVICES: Final[dict[str, tuple[str, str]]] = {
    "spotify": ("Spotify", "https://open.spotify.com/search/{path}"),
    "apple": ("Apple Music", "https://music.apple.com/search?{term}"),
    "youtube": ("YouTube", "https://www.youtube.com/results?{search_query}"),
    "youtube-music": ("YouTube Music", "https://music.youtube.com/search?{q}"),
    "deezer": ("Deezer", "https://www.deezer.com/search/{path}"),
    "tidal": ("TIDAL", "https://listen.tidal.com/search?{q}"),
    "amazon": ("Amazon Music", "https://music.amazon.com/search/{path}"),
    "soundcloud": ("SoundCloud", "https://soundcloud.com/search?{q}"),
}
"""Music services by key: name, and the address that opens a search there, without account, key or call by us. `{path}`
stands for the search as a part of the path, any other `{key}` for the query key=search."""

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
class Suggestion:
    """A song and why it was chosen.

    Attributes:
        track: The song.
        reason: A line such as "calm and bright: valence .6, energy .2".
        score: The score that ranked it, without the chance; higher is better.
        links: Key of each service in SERVICES to the address that searches it for the song.
        tone: The two words of the reason, for translations: calm, steady or lively, then dark, mellow or bright.
        adapted: Whether the listener's ratings took part.
    """

    track: Track
    reason: str
    score: float
    links: dict[str, str]
    tone: tuple[str, str]
    adapted: bool


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
        """Suggests songs for an affect, best first, one for each artist.

        Args:
            affect: The face's affect.
            listener: Name of the listener whose stored ratings adapt the ranking; None adapts to nobody.
            ratings: Ratings that the listener keeps on their own device, in place of stored ones.
            recent: Ids of tracks not to suggest again; they come back only where nothing else is left.
            count: Number of songs.
            seed: Seed of the chance: equal arguments give equal songs.

        Returns:
            `count` suggestions, fewer where the catalogue holds fewer tracks.
        """
        random = np.random.default_rng(seed)
        taste = self._taste(listener, ratings)
        context = Context(self._features, affect)
        scores = context.mapped if taste is None else context.weigh(taste.sample(random))
        chosen = self._choose(scores, recent, count, random)
        return [self._suggest(index, float(scores[index]), adapted=taste is not None) for index in chosen]

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
        self, scores: npt.NDArray[np.float32], recent: Collection[str], count: int, random: np.random.Generator
    ) -> list[int]:
        """Picks the indices of the best tracks, by score and chance."""
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


def search_links(title: str, artist: str) -> dict[str, str]:
    """Maps the key of each service to the address that searches it for a song."""
    text = f"{artist} {title}"
    links = {}
    for service, (_, address) in SERVICES.items():
        base, _, key = address.removesuffix("}").partition("{")
        links[service] = base + (quote(text, safe="") if key == "path" else urlencode({key: text}))
    return links


def explain(track: Track) -> tuple[tuple[str, str], str]:
    """Finds two words for a track's energy and valence, and the line that says them with their numbers."""
    energy = "calm" if track.energy < 0.4 else "steady" if track.energy <= 0.6 else "lively"
    valence = "dark" if track.valence < 0.4 else "mellow" if track.valence <= 0.6 else "bright"
    reason = f"{energy} and {valence}: valence {_short(track.valence)}, energy {_short(track.energy)}"
    return (energy, valence), reason


def _short(number: float) -> str:
    """Rounds to one decimal and leaves out the zero before it: .6."""
    return f"{number:.1f}".removeprefix("0") if number < 0.95 else "1"
