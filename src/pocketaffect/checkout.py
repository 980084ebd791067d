"""Which checkout of this repository a process works in: whose sources run, whose store is meant, which experiment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

USE_OWN: Final = "make setup, then . .venv/bin/activate, both in this checkout"


def find_foreign_sources(root: Path) -> str | None:
    """Says which sources run in place of those of the checkout at `root`; None where these do, or where it has none."""
    own, running = (root / "src" / "pocketaffect").resolve(), Path(__file__).resolve().parent
    if own == running or not (own / "__init__.py").is_file():
        return None
    return f"the sources in {running} run, not this checkout's in {own}"


def find_experiment() -> str:
    """Name of the DVC experiment that this process is part of; "" for none."""
    return os.environ.get("DVC_EXP_NAME", "")


def find_home(root: Path) -> Path:
    """The repository whose store the checkout at `root` uses: its own, but for a DVC experiment's temporary folder.

    DVC deletes that folder when the experiment has ended (`dvc exp run --queue` or `--temp`).
    """
    parent = os.environ.get("DVC_ROOT", "")  # DVC sets it for every stage, also outside of experiments
    temporary = Path(parent, ".dvc", "tmp", "exps").resolve()
    return Path(parent) if parent and root.resolve().is_relative_to(temporary) else root
