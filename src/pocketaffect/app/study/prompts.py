"""The paper's ten prompts: what a participant is asked to show, in order, and the class each stands for.

The texts are English and for people; translations go by `id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pocketaffect.labels import EXPRESSIONS


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the study.

    Attributes:
        number: 1..10, the order in which they are shown.
        id: The paper's word, the key of translations and pictures.
        expression: Expected class, an index of `labels.EXPRESSIONS`.
        title: What to show, in a word or two.
        hint: How a face does that.
        in_class_metrics: Whether its rows enter the classification metrics: delighted and miserable stand for happy
            and sad there, which keeps the eight classes balanced.
    """

    number: int
    id: str
    expression: int
    title: str
    hint: str
    in_class_metrics: bool = True


def _prompt(number: int, name: str, expression: str, hint: str, *, in_class_metrics: bool = True) -> Prompt:
    return Prompt(number, name, EXPRESSIONS.index(expression), name.capitalize(), hint, in_class_metrics)


PROMPTS: Final = (
    _prompt(1, "neutral", "neutral", "Relax your whole face and look at the camera as if waiting for a bus."),
    _prompt(2, "delighted", "happiness", "The best news in weeks: a wide smile that reaches your eyes."),
    _prompt(
        3, "happy", "happiness", "A contented smile: corners of the mouth up, cheeks lifted.", in_class_metrics=False
    ),
    _prompt(4, "miserable", "sadness", "All is lost: mouth corners right down, inner brows up, eyes heavy."),
    _prompt(5, "sad", "sadness", "A little down: inner brows up, mouth corners slightly down.", in_class_metrics=False),
    _prompt(6, "surprised", "surprise", "Somebody jumps out: brows high, eyes wide, jaw dropped."),
    _prompt(7, "angry", "anger", "Brows down and together, eyes hard, lips pressed or teeth shown."),
    _prompt(8, "afraid", "fear", "Brows up and together, eyes wide, lips stretched sideways."),
    _prompt(9, "disgusted", "disgust", "A bad smell: wrinkle your nose and raise your upper lip."),
    _prompt(10, "contemptuous", "contempt", "Not impressed: one corner of the mouth tightened and raised."),
)

NEUTRAL_PROMPT: Final = 1
"""Its self-annotation is not asked for: the paper records it as (0, 0)."""


def prompt(number: int) -> Prompt:
    """The prompt of that number, 1..10."""
    return PROMPTS[number - 1]
