"""What a participant agrees to before the first prompt, and for how long the numbers are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pocketaffect.errors import PocketAffectError

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

MAX_RETENTION_DAYS: Final = 365
DEFAULT_RETENTION_DAYS: Final = 30

CONSENT_VERSION: Final = hashlib.sha256("\n".join(STATEMENTS.values()).encode()).hexdigest()[:12]
"""Names the texts that somebody agreed to: another wording is another version."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What somebody agreed to.

    Args:
        version: Of the texts that were shown, CONSENT_VERSION.
        retention_days: As the texts said, 1 to MAX_RETENTION_DAYS.

    Raises:
        PocketAffectError: It is not the present texts that were shown, or the days are impossible.
    """

    version: str
    retention_days: int = DEFAULT_RETENTION_DAYS

    def __post_init__(self) -> None:
        if self.version != CONSENT_VERSION:
            raise PocketAffectError(
                "consent: to other texts than the present ones",
                found=self.version[:40],
                allowed=CONSENT_VERSION,
                todo="show the present texts (load the page again)",
            )
        if isinstance(self.retention_days, bool) or not 1 <= self.retention_days <= MAX_RETENTION_DAYS:
            raise PocketAffectError(
                "consent: impossible retention", found=self.retention_days, allowed=f"1..{MAX_RETENTION_DAYS} days"
            )
