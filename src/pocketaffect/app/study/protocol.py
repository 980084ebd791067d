"""What the study asks: the consent before the first prompt, the paper's ten prompts, and the row that each one gives.

The texts are English and for people; translations find them by `id`.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from pydantic import StrictFloat, StrictInt

from pocketaffect.app.affect import BODY, Affect
from pocketaffect.app.study import MAX_RETENTION_DAYS
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

STATEMENTS: Final[dict[str, str]] = {
    "purpose": "This study compares what a small network reads from faces with what people say they showed and felt, "
    "and asks how well songs chosen from it fit.",
    "task": "You will be asked to show ten expressions, one after the other. After each you see five songs, rate them "
    "together with 1 to 5 stars, and mark how pleasant and how excited you felt.",
    "stored": "For each prompt only numbers are stored: the network's eight probabilities, valence and arousal, your "
    "rating and your mark. No image leaves your device, and none is stored on it.",
    "where": "The numbers are kept on the machine that serves this page, under a random number instead of your name.",
    "retention": "They are deleted after {days} days at the latest.",
    "withdraw": "You can stop at any time without giving a reason. “Withdraw” deletes all your rows at once.",
    "adult": "I am at least 18 years old, have read this, and take part of my own free will.",
}
"""Paragraphs of the consent page by id; `{days}` is the retention. The last one is what is ticked."""

CONSENT_VERSION: Final = hashlib.sha256("\n".join(STATEMENTS.values()).encode()).hexdigest()[:12]
"""Name of the texts that somebody agreed to: another wording is another version."""


def check_consent(version: str, retention_days: int) -> None:
    """Refuses consent to other texts than the present ones, or to impossible days.

    Raises:
        PocketAffectError: Names the version of the texts, or the days.
    """
    if version != CONSENT_VERSION:
        raise PocketAffectError(
            "consent: to other texts than the present ones",
            found=version[:40],
            allowed=CONSENT_VERSION,
            todo="show the present texts (load the page again)",
        )
    if not 1 <= retention_days <= MAX_RETENTION_DAYS:
        raise PocketAffectError(
            "consent: impossible retention", found=retention_days, allowed=f"1..{MAX_RETENTION_DAYS} days"
        )


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the study: an expression to show, and how a face shows it."""

    number: int
    """1..10, the order in which they are shown."""
    id: str
    """The paper's word, the key of translations and pictures."""
    expression: int
    """Expected class, an index of `labels.EXPRESSIONS`."""
    title: str
    hint: str
    in_class_metrics: bool
    """Whether its rows enter the classification metrics: delighted and miserable stand for happy and sad there, which
    keeps the eight classes balanced."""


PROMPTS: Final = tuple(
    Prompt(number, name, EXPRESSIONS.index(expression), name.capitalize(), hint, name not in ("happy", "sad"))
    for number, (name, expression, hint) in enumerate(
        (
            ("neutral", "neutral", "Relax your whole face and look at the camera as if waiting for a bus."),
            ("delighted", "happiness", "The best news in weeks: a wide smile that reaches your eyes."),
            ("happy", "happiness", "A contented smile: corners of the mouth up, cheeks lifted."),
            ("miserable", "sadness", "All is lost: mouth corners right down, inner brows up, eyes heavy."),
            ("sad", "sadness", "A little down: inner brows up, mouth corners slightly down."),
            ("surprised", "surprise", "Somebody jumps out: brows high, eyes wide, jaw dropped."),
            ("angry", "anger", "Brows down and together, eyes hard, lips pressed or teeth shown."),
            ("afraid", "fear", "Brows up and together, eyes wide, lips stretched sideways."),
            ("disgusted", "disgust", "A bad smell: wrinkle your nose and raise your upper lip."),
            ("contemptuous", "contempt", "Not impressed: one corner of the mouth tightened and raised."),
        ),
        start=1,
    )
)

NEUTRAL_PROMPT: Final = 1
"""Number of the prompt whose self-annotation is not asked for: the paper records it as (0, 0)."""

PROBABILITY_COLUMNS: Final = tuple(f"p_{name}" for name in EXPRESSIONS)
ROW_COLUMNS: Final = (
    *("prompt", "expected", "predicted", "valence", "arousal", *PROBABILITY_COLUMNS),
    *("rating", "annotated_valence", "annotated_arousal"),
)
"""Columns of a row in the store and, behind the run, in an export. `expected` and `predicted` are class indices."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One row of the study: everything the paper recorded for a prompt, and nothing else.

    The network's answer to the photograph, 1..5 stars for the five songs together, and the participant's own valence
    and arousal, -1..1: always 0 for the neutral prompt, whatever is given, as in the paper.

    Raises:
        PocketAffectError: A number is impossible.
    """

    __pydantic_config__ = BODY

    prompt: StrictInt
    affect: Affect
    rating: StrictInt
    annotated_valence: StrictFloat
    annotated_arousal: StrictFloat

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
        return PROMPTS[self.prompt - 1].expression

    def values(self) -> tuple[int | float, ...]:
        """Lists the row's values in the order of ROW_COLUMNS."""
        affect = self.affect
        return (
            *(self.prompt, self.expected, affect.expression, affect.valence, affect.arousal, *affect.probabilities),
            *(self.rating, self.annotated_valence, self.annotated_arousal),
        )
