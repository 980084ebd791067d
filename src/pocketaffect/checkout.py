"""Which checkout a process works in: whose sources run, whose store is meant, which experiment; questions to git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LOCK: Final = "requirements.lock"
USE_OWN: Final = "make setup, then . .venv/bin/activate, both in this checkout"


def find_foreign_sources(root: Path) -> str | None:
    """Says which sources run in place of those of the checkout at `root`; None where these do, or where it has none."""
    own, running = (root / "src" / "pocketaffect").resolve(), Path(__file__).resolve().parent
    if own == running or not (own / "__init__.py").is_file():
        return None
    return f"the sources in {running} run, not this checkout's in {own}"


def compare_lock(lock: Path) -> Iterator[tuple[Requirement, str]]:
    """Reads every package that a lock pins for this machine, with its version here; "none" where it is missing.

    Raises:
        PocketAffectError: A line is no pinned package.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    for line in lock.read_text(encoding="utf-8").splitlines():
        pinned = line.rstrip("\\ ").strip()
        if not pinned or pinned.startswith(("#", "--")):
            continue
        try:
            requirement = Requirement(pinned.partition(" --hash")[0])
            if [pin.operator for pin in requirement.specifier] != ["=="]:
                raise InvalidRequirement(pinned)
        except InvalidRequirement:
            raise PocketAffectError(f"{LOCK}: not a pinned package", found=line[:80], todo="make lock") from None
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                yield requirement, version(requirement.name)
            except PackageNotFoundError:
                yield requirement, "none"


def find_experiment() -> str:
    """Names the DVC experiment that this process is part of; "" for none."""
    return os.environ.get("DVC_EXP_NAME", "")


def find_home(root: Path) -> Path:
    """Finds the repository whose store the checkout at `root` uses: its own, but for an experiment's temporary folder.

    DVC deletes that folder when the experiment has ended (`dvc exp run --queue` or `--temp`).
    """
    parent = os.environ.get("DVC_ROOT", "")  # DVC sets it for every stage, also outside of experiments
    temporary = Path(parent, ".dvc", "tmp", "exps").resolve()
    return Path(parent) if parent and root.resolve().is_relative_to(temporary) else root


_ELSEWHERE: Final = frozenset(
    f"GIT_{name}" for name in ("DIR", "WORK_TREE", "INDEX_FILE", "PREFIX", "OBJECT_DIRECTORY", "COMMON_DIR")
)
"""Variables that a git hook has, and that would make git answer for its repository."""


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Runs git in a folder, whatever repository the environment names; None where git is missing or refuses."""
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    # No optional locks: a status beside the user's own git must not make theirs fail.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, encoding="utf-8", errors="replace"
        )
    except OSError:
        return None
    return done.stdout.removesuffix("\n") if done.returncode == 0 else None


def has_commit(folder: Path, commit: str) -> bool:
    """Tells whether the repository knows a commit, on a branch or not."""
    return ask_git(folder, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def holds_commit(folder: Path, commit: str, *, head: bool = True) -> bool:
    """Tells whether a branch, a tag or, if asked, HEAD holds a commit: git then keeps it, and a clone has it."""
    on = ask_git(folder, "for-each-ref", "--count=1", f"--contains={commit}", "refs/heads", "refs/remotes", "refs/tags")
    if on or on is None or not head:
        return bool(on)
    return ask_git(folder, "merge-base", "--is-ancestor", commit, "HEAD") is not None
