"""One row of the study: everything the paper recorded for a prompt, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pocketaffect.app.affect import Affect
from pocketaffect.app.study.prompts import NEUTRAL_PROMPT, PROMPTS, prompt
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

PROBABILITY_COLUMNS: Final = tuple(f"p_{name}" for name in EXPRESSIONS)
ROW_COLUMNS: Final = (
    *("prompt", "expected", "predicted", "valence", "arousal", *PROBABILITY_COLUMNS),
    *("rating", "annotated_valence", "annotated_arousal"),
)
"""Columns of a row in the store and, behind the run, in an export. `expected` and `predicted` are class indices."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """What one prompt gave.

    Args:
        prompt: Number of the prompt, 1..10.
        affect: What the network said of the photograph.
        rating: Of the five songs together, 1 to 5 stars.
        annotated_valence: The participant's own, -1..1. Always 0 for the neutral prompt, whatever is given, as in
            the paper.
        annotated_arousal: Likewise.

    Raises:
        PocketAffectError: A number is impossible.
    """

    prompt: int
    affect: Affect
    rating: int
    annotated_valence: float
    annotated_arousal: float

    def __post_init__(self) -> None:
        numbers = range(1, len(PROMPTS) + 1)
        for name, value, allowed in (("prompt", self.prompt, numbers), ("rating", self.rating, range(1, 6))):
            if isinstance(value, bool) or value not in allowed:
                raise PocketAffectError(
                    f"study row: impossible {name}", found=repr(value), allowed=f"{allowed[0]}..{allowed[-1]}"
                )
        for name in ("annotated_valence", "annotated_arousal"):
            annotated = 0.0 if self.prompt == NEUTRAL_PROMPT else float(getattr(self, name))
            if not -1 <= annotated <= 1:
                raise PocketAffectError(f"study row: impossible {name}", found=annotated, allowed="-1..1")
            object.__setattr__(self, name, annotated)

    @property
    def expected(self) -> int:
        """Index of the expression that the prompt asked for."""
        return prompt(self.prompt).expression

    def values(self) -> tuple[int | float, ...]:
        """In the order of ROW_COLUMNS."""
        affect = self.affect
        return (
            *(self.prompt, self.expected, affect.expression, affect.valence, affect.arousal, *affect.probabilities),
            *(self.rating, self.annotated_valence, self.annotated_arousal),
        )
