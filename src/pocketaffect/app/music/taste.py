"""A listener's taste: Bayesian linear regression of stars on features, sampled for each query (Thompson sampling).

Its prior is the paper's mapping, so that a listener without ratings gets that mapping and each rating moves away from
it by as much as it says. (Agrawal & Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs".)

Of libraries: MABWiser keeps a separate model for each arm (25,000 tracks, five ratings) and takes no prior mean;
scikit-learn's BayesianRidge shrinks to zero, which is no mapping at all; Vowpal Wabbit, a native program of its own,
has no prior either and is large beside these twenty lines.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pocketaffect.app.music.features import ALL_GENRES, FIT_NAMES, MAPPING, NAMES

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


class Taste:
    """The posterior over a listener's weights.

    Args:
        features: float64 [r, len(NAMES)], of the rated tracks beside the affects they were rated for.
        stars: [r], 1 to 5.
    """

    def __init__(self, features: npt.NDArray[np.float64], stars: npt.NDArray[np.integer]) -> None:
        liking = (stars - 1) / 4
        precision = np.diag(1 / _PRIOR_SCALE**2) + features.T @ features / NOISE**2
        # The factor L of the precision gives both: the mean by two triangular solves, a sample by one more.
        self._factor = np.linalg.cholesky(precision)
        surprise = features.T @ (liking - features @ _PRIOR_MEAN) / NOISE**2
        self.mean = _PRIOR_MEAN + np.linalg.solve(precision, surprise)

    def sample(self, random: np.random.Generator) -> npt.NDArray[np.float64]:
        """Weights that the listener may have, float64 [len(NAMES)]."""
        noise = np.linalg.solve(self._factor.T, random.standard_normal(len(self.mean)))
        return np.asarray(self.mean + EXPLORATION * noise)


def _make_prior() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = np.array([MAPPING.get(name, 0.0) for name in NAMES])
    scale = np.array([*(_FIT_SCALES[name] for name in FIT_NAMES), *([_GENRE_SCALE] * len(ALL_GENRES))])
    return mean, scale


_PRIOR_MEAN, _PRIOR_SCALE = _make_prior()
