"""What suits a listener: features that tie a track to an affect, the paper's weights of them, and a listener's own.

A listener's taste is a Bayesian linear regression of stars on features, sampled for each query (Thompson sampling;
Agrawal & Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs"). Its prior mean is the paper's
mapping: a listener without ratings gets that mapping, and each rating moves the weights away from it.

Libraries that were looked at: MABWiser keeps a separate model for each arm (25,000 tracks, five ratings) and takes no
prior mean; scikit-learn's BayesianRidge shrinks to zero, which is no mapping at all; Vowpal Wabbit, a native program of
its own, has no prior either and is large beside these twenty lines.
"""

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

_FIT_SCALES: Final = {
    "bias": 0.5,
    "genre": 0.3,
    "closeness": 0.5,
    "mode": 0.1,
    "brighter": 0.4,
    "livelier": 0.4,
    "valence": 0.4,
    "energy": 0.4,
}
_GENRE_SCALE: Final = 0.3
_PRIOR_MEAN: Final = np.array([MAPPING.get(name, 0.0) for name in NAMES])
_PRIOR_SCALE: Final = np.array([_FIT_SCALES.get(name, _GENRE_SCALE) for name in NAMES])


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
        """Computes features times weights, float32 [n]."""
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


class Taste:
    """The posterior over a listener's weights.

    Args:
        features: float64 [r, len(NAMES)], the rated tracks' beside the affects they were rated for.
        stars: int [r], 1 to 5.
    """

    def __init__(self, features: npt.NDArray[np.float64], stars: npt.NDArray[np.integer]) -> None:
        liking = (stars - 1) / 4
        precision = np.diag(1 / _PRIOR_SCALE**2) + features.T @ features / NOISE**2
        # The factor L of the precision gives both: the mean by two triangular solves, a sample by one more.
        self._factor = np.linalg.cholesky(precision)
        surprise = features.T @ (liking - features @ _PRIOR_MEAN) / NOISE**2
        self.mean = _PRIOR_MEAN + np.linalg.solve(precision, surprise)

    def sample(self, random: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draws weights that the listener may have, float64 [len(NAMES)]."""
        noise = np.linalg.solve(self._factor.T, random.standard_normal(len(self.mean)))
        return np.asarray(self.mean + EXPLORATION * noise)
