"""What a face says, as songs are chosen by it and the study keeps it."""

import math
from dataclasses import dataclass
from typing import Final

from pydantic import ConfigDict, StrictFloat

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

BODY: Final = ConfigDict(extra="forbid")
"""Pydantic's configuration of what the API takes: unknown keys are refused. Fields are strict, each by its type."""


@dataclass(frozen=True, slots=True)
class Affect:
    """A prediction for one face: a probability for each of `labels.EXPRESSIONS`, valence and arousal.

    Networks may leave [-1, 1] a little: both are clipped there.

    Raises:
        PocketAffectError: A number is not finite, or the probabilities are no distribution.
    """

    __pydantic_config__ = BODY

    probabilities: tuple[StrictFloat, ...]
    valence: StrictFloat
    arousal: StrictFloat

    def __post_init__(self) -> None:
        probabilities = tuple(float(probability) for probability in self.probabilities)
        in_range = all(-1e-3 <= probability <= 1 + 1e-3 for probability in probabilities)
        if len(probabilities) != len(EXPRESSIONS) or not in_range or abs(sum(probabilities) - 1) > 0.01:
            raise PocketAffectError(
                "affect: probabilities are no distribution",
                found=", ".join(f"{probability:.3g}" for probability in probabilities[:16]),
                allowed=f"{len(EXPRESSIONS)} numbers in [0, 1] that sum to 1",
            )
        object.__setattr__(self, "probabilities", probabilities)
        for name in ("valence", "arousal"):
            value = float(getattr(self, name))
            if not math.isfinite(value):
                raise PocketAffectError(f"affect: {name} is no number", found=value, allowed="-1..1")
            object.__setattr__(self, name, min(1.0, max(-1.0, value)))

    @property
    def expression(self) -> int:
        """Index of the likeliest expression; the lower one where two are equal."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def target(self) -> tuple[float, float]:
        """Valence and energy to look for, 0..1, as the paper maps them."""
        return (self.valence + 1) / 2, (self.arousal + 1) / 2
