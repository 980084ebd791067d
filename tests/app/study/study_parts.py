"""Rows for the study tests."""

import numpy as np

from pocketaffect.app.affect import Affect
from pocketaffect.app.study.protocol import CONSENT_VERSION, PROMPTS, PromptRow
from pocketaffect.app.study.store import StudyStore
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS


def make_row(number: int, seed: int = 0, **changes) -> PromptRow:
    """A plausible answer to a prompt."""
    random = np.random.default_rng([seed, number])
    expected = PROMPTS[number - 1].expression
    probabilities = random.dirichlet(np.full(len(EXPRESSIONS), 0.4) + 2.0 * (np.arange(len(EXPRESSIONS)) == expected))
    valence, arousal = np.clip(np.array(CLASS_MEAN_VA[expected]) + random.normal(0, 0.3, 2), -1, 1)
    annotated = np.clip(np.array([valence, arousal]) + random.normal(0, 0.3, 2), -1, 1)
    values = {
        "prompt": number,
        "affect": Affect(tuple(probabilities), valence, arousal),
        "rating": int(random.integers(1, 6)),
        "annotated_valence": float(annotated[0]),
        "annotated_arousal": float(annotated[1]),
    }
    return PromptRow(**(values | changes))


def add_run(store: StudyStore, seed: int, prompts: int = len(PROMPTS)) -> str:
    """A run with its first prompts answered, as its token."""
    token = store.begin(CONSENT_VERSION).token
    for number in range(1, prompts + 1):
        store.add(token, make_row(number, seed))
    return token
