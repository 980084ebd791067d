"""Questions to git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

_ELSEWHERE: Final = frozenset(
    f"GIT_{name}" for name in ("DIR", "WORK_TREE", "INDEX_FILE", "PREFIX", "OBJECT_DIRECTORY", "COMMON_DIR")
)
"""Variables that a git hook has, and that would make git answer for its repository."""


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Runs git in a folder, whatever repository the environment names, and gives its answer without the last line end.

    Returns:
        None where git is missing or refuses.
    """
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
    """Whether the repository knows a commit, on a branch or not."""
    return ask_git(folder, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def holds_commit(folder: Path, commit: str, *, head: bool = True) -> bool:
    """Whether a branch, a tag or, if asked, HEAD holds a commit, so that git does not forget it and a clone has it."""
    on = ask_git(folder, "for-each-ref", "--count=1", f"--contains={commit}", "refs/heads", "refs/remotes", "refs/tags")
    if on or on is None or not head:
        return bool(on)
    return ask_git(folder, "merge-base", "--is-ancestor", commit, "HEAD") is not None
