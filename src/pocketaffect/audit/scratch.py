"""A place apart: the version's commit, settings and data, with a DVC cache and configuration of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.audit.cache import Cache
from pocketaffect.audit.environment import build_environment
from pocketaffect.audit.verdict import NotAuditableError
from pocketaffect.files import write_json

_USERS_OWN: Final = ("MLFLOW_", "DVC_", "GIT_", "PYTHON", "PYTEST_", "VIRTUAL_ENV")
"""Variables that would point the scratch's tools at the user's store, cache, index or environment."""


@dataclass(frozen=True)
class Scratch:
    """A repository of its own, apart from the user's.

    Attributes:
        root: Where the pipeline stands.
        place: The folder that holds all of it; nothing is written outside.
        python: Of the environment to run in.
    """

    root: Path
    place: Path
    python: Path

    @property
    def cache(self) -> Cache:
        """Its own, empty at first, so that DVC's run cache cannot answer for a stage."""
        return Cache(self.place / "cache")

    def environment(self) -> dict[str, str]:
        """Variables for commands in it: its own sources, DVC state and configuration, no store."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_USERS_OWN)}
        return kept | {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(self.root / "src"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.place / "dvc-state"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.place / "no-config"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.place / "no-config"),
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it; the caller looks at how it ended."""
        return subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs DVC in it."""
        return self.run(str(self.python), "-m", "dvc", *arguments)

    def with_built_environment(self) -> Scratch:
        """The same with an environment made from the commit's own lock.

        Raises:
            NotAuditableError: It cannot be made.
        """
        return replace(self, python=build_environment(self.root, self.environment()))


def check_out(root: Path, commit: str, place: Path) -> Scratch:
    """Fetches one commit of the repository at `root` into `place`, which must be empty or new.

    Nothing is written to the user's repository: no worktree, no reference, no lock; a commit that no branch holds
    any more is found too, as long as git keeps it.

    Raises:
        NotAuditableError: The repository has no such commit, or there is no git.
    """
    folder = place / "repository"
    prefix = (_git(root, "rev-parse", "--show-prefix") or "").strip()
    top = (_git(root, "rev-parse", "--show-toplevel") or "").strip()
    if not top:
        raise NotAuditableError(
            f"{root.absolute()}: no git repository", "audit in the repository that made the version"
        )
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise NotAuditableError(
            f"commit {commit} is not in this repository", "git fetch from where it was made, then repeat"
        )
    folder.mkdir(parents=True)
    for arguments in (
        ("init", "--quiet"),
        ("fetch", "--quiet", "--depth=1", "--no-tags", Path(top).as_uri(), commit),
        ("-c", "advice.detachedHead=false", "checkout", "--quiet", commit),
    ):
        if _git(folder, *arguments) is None:
            raise NotAuditableError(
                f"commit {commit} cannot be checked out (git {arguments[0]} failed)", "git fsck in the repository"
            )
    scratch = Scratch(root=folder / prefix, place=place, python=Path(sys.executable))
    _configure_dvc(scratch, root)
    return scratch


def resolve_commit(root: Path, revision: str) -> str | None:
    """The commit that a branch, tag or abbreviated hash names in the user's repository; None for none."""
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return found and found.strip()


def name_sample(scratch: Scratch) -> None:
    """Makes data.dvc import the sample, which a stage draws."""
    content = {"deps": [{"path": str(paths.SAMPLE)}], "outs": [{"path": str(paths.DATA)}]}
    write_json(scratch.root / paths.DATA_FILE, content)  # JSON is YAML


def restore_data(scratch: Scratch, md5: str, source: Cache) -> None:
    """Brings the data folder of that hash to the scratch: from the user's cache, else from their DVC remotes.

    Args:
        scratch: Where to. Its data.dvc names no origin then: where the data came from must not be looked at.
        md5: DVC's hash of the folder.
        source: The user's cache.

    Raises:
        NotAuditableError: Neither holds all of it.
    """
    write_json(scratch.root / paths.DATA_FILE, {"outs": [{"md5": md5, "hash": "md5", "path": str(paths.DATA)}]})
    missing = scratch.cache.copy_from(source, md5)
    if missing:
        for remote in _remotes(scratch):
            scratch.dvc("fetch", "--quiet", "--remote", remote, str(paths.DATA_FILE))
            missing = [name for name in missing if scratch.cache.find(name) is None]
            if not missing:
                break
    if missing:
        raise NotAuditableError(
            f"data {md5}: {len(missing)} of its objects are neither in {source.folder} nor in a DVC remote "
            f"(first: {missing[0]})",
            "dvc fetch, or restore DVC's cache from a backup",
        )
    done = scratch.dvc("checkout", "--quiet", str(paths.DATA_FILE))
    if done.returncode:
        raise NotAuditableError(f"data {md5} cannot be checked out: {done.stderr.strip()[-300:]}", "dvc fetch")


def _configure_dvc(scratch: Scratch, root: Path) -> None:
    """An own cache, and the user's remotes under addresses that hold from here."""
    from dvc.config import Config  # type: ignore[import-untyped]

    users = Config(str(root / ".dvc"), validate=False)
    config = Config(str(scratch.root / ".dvc"), validate=False)
    with config.edit("local", validate=False) as local:
        local["cache"] = {"dir": str(scratch.cache.folder)}
        local["remote"] = {name: dict(remote) for name, remote in users.get("remote", {}).items()}
    scratch.cache.folder.mkdir(parents=True, exist_ok=True)


def _remotes(scratch: Scratch) -> list[str]:
    """Names of the DVC remotes, the default one first."""
    from dvc.config import Config

    config = Config(str(scratch.root / ".dvc"), validate=False)
    default = config.get("core", {}).get("remote")
    return sorted(config.get("remote", {}), key=lambda name: (name != default, name))


def _git(folder: Path, *arguments: str) -> str | None:
    """Git's answer; None where git is missing or refuses."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, encoding="utf-8", errors="replace"
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
