"""Which checkout of this repository a process works in, and whose sources it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

USE_OWN: Final = "make setup, then . .venv/bin/activate, both in this checkout"


def find_foreign_sources(root: Path) -> str | None:
    """Says which sources run in place of those of the checkout at `root`; None where these do, or where it has none."""
    own, running = (root / "src" / "pocketaffect").resolve(), Path(__file__).resolve().parent
    if own == running or not (own / "__init__.py").is_file():
        return None
    return f"the sources in {running} run, not this checkout's in {own}"
