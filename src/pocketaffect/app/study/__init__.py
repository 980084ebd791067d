"""The user study: consent, the paper's ten prompts, the store of its numbers, and the report on them."""

from typing import Final

MAX_RETENTION_DAYS: Final = 365
DEFAULT_RETENTION_DAYS: Final = 30
