"""The embedded sample: seeded drawings of faces in AffectNet's CSV layout."""

from typing import Final

MARK: Final = "SAMPLE.md"
"""The file in the folder's root that tells drawn faces from a user's data."""
