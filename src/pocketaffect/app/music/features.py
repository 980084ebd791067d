"""Numbers that tie a track to an affect: what the paper's mapping weighs, and what a listener may weigh otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Track
from pocketaffect.app.music.genres import GENRES, OTHER_GENRES, PAPER_GENRES
from pocketaffect.labels import EXPRESSIONS

ALL_GENRES: Final = (*PAPER_GENRES, *OTHER_GENRES)
FIT_NAMES: Final = ("bias", "genre", "closeness", "mode", "brighter", "livelier", "valence", "energy")
NAMES: Final = (*FIT_NAMES, *(f"likes {genre}" for genre in ALL_GENRES))
"""Features in their order.

genre: how likely the face shows an expression of the track's genres. closeness: 1 where valence and energy are the
face's, 0 at opposite corners. mode: 1 where the track is major for a pleasant face, minor for an unpleasant one, 0
otherwise, .5 unknown. brighter, livelier: how much the track lies above the face's valence and energy, for listeners
who want music against their mood. valence, energy: the track's own. The rest: its genres, equal parts of 1.
"""

MAPPING: Final = {"genre": 0.35, "closeness": 0.6, "mode": 0.05}
"""Weights that stand for the paper's mapping: within the expression's genres the nearest valence and energy, then the
mode. Its service took genres as seeds, so that a near song of another genre came behind. They sum to 1: the best fit
scores what five stars do."""

Floats = npt.NDArray[np.float32]


class Features:
    """Features of a catalogue's tracks.

    Args:
        tracks: n of them.
    """

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

    def context(self, affect: Affect) -> Context:
        """All tracks beside one affect."""
        return Context(self, affect)

    def rows(self, affects: Sequence[Affect], indices: Sequence[int]) -> npt.NDArray[np.float64]:
        """All features of some tracks, each beside an affect of its own, [r, len(NAMES)]."""
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
        """The features of FIT_NAMES: one number for all tracks, or float32 [n]."""
        own_valence, own_energy, major = self._valence[indices], self._energy[indices], self._major[indices]
        brighter, livelier = own_valence - valence, own_energy - energy
        closeness = 1 - np.hypot(brighter, livelier) / np.float32(np.sqrt(2))
        mode = np.where(valence >= 0.5, major, 1 - major)
        return 1.0, genre, closeness, mode, brighter, livelier, own_valence, own_energy


class Context:
    """A catalogue's tracks beside one affect.

    Attributes:
        mapped: The paper's mapping, float32 [n], 0 to 1; higher fits better.
    """

    def __init__(self, features: Features, affect: Affect) -> None:
        self._features = features
        per_genre = np.array(affect.probabilities, np.float32) @ _TABLE
        genre = (features._in_set * per_genre).max(1)[features._set_of]
        valence, energy = np.array(affect.target, np.float32)
        self._columns = features._fit(slice(None), genre, valence, energy)
        self.mapped = self._sum([MAPPING.get(name, 0.0) for name in FIT_NAMES])

    def weigh(self, weights: npt.NDArray[np.float64]) -> Floats:
        """Features times weights, float32 [n]."""
        features, count = self._features, len(FIT_NAMES)
        by_set: Floats = features._shares @ weights[count:].astype(np.float32)
        scores = self._sum(weights[:count].tolist())
        scores += by_set[features._set_of]
        return scores

    def _sum(self, weights: Sequence[float]) -> Floats:
        scores: Floats = np.zeros(len(self._features._valence), np.float32)
        for weight, column in zip(weights, self._columns, strict=True):
            if weight:
                scores += np.float32(weight) * column
        return scores


def _make_table() -> Floats:
    """float32 [8, genres]: 1 where the paper gives an expression a genre."""
    rows = [[float(genre in GENRES[expression]) for genre in ALL_GENRES] for expression in EXPRESSIONS]
    return np.array(rows, np.float32)


_TABLE: Final = _make_table()
