"""Seeded random draws that give the same numbers on every machine.

Only uniform draws are used, and sums of them: they need no logarithm or cosine, whose last bit may differ
between CPU types and libraries.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """The random numbers of one image; the key alone decides them: seed, split and index, say."""

    def __init__(self, *key: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(list(key)))

    def uniform(self, low: float, high: float) -> float:
        """Draws a number in [low, high)."""
        return low + (high - low) * self.generator.random()

    def bell(self, low: float, high: float) -> float:
        """Draws a number in [low, high) that prefers the middle: the mean of three uniform ones."""
        return (self.uniform(low, high) + self.uniform(low, high) + self.uniform(low, high)) / 3

    def noise(self, deviation: float) -> float:
        """Draws a number about 0 with the given standard deviation, never beyond three of them (Irwin-Hall of 3)."""
        return self.bell(-3 * deviation, 3 * deviation)

    def chance(self, probability: float) -> bool:
        """Draws true with the given probability."""
        return self.generator.random() < probability

    def index(self, count: int) -> int:
        """Draws a position in 0..count-1."""
        return min(int(self.generator.random() * count), count - 1)

    def pick(self, options: Sequence[T]) -> T:
        """Picks one of the options, all equally likely."""
        return options[self.index(len(options))]

    def pick_weighted(self, weights: Mapping[T, float]) -> T:
        """Picks one of the keys, as likely as its weight says."""
        left = self.generator.random() * sum(weights.values())
        for option, weight in weights.items():
            left -= weight
            if left < 0:
                return option
        return next(reversed(list(weights)))

    def bytes_array(self, *shape: int) -> np.ndarray:
        """Draws independent uniform uint8 numbers of the given shape."""
        return self.generator.integers(0, 256, size=shape, dtype=np.uint8)
