"""A place apart for a version: its commit, settings and data, with an own environment, DVC cache and configuration."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.audit.outcome import NotAuditableError
from pocketaffect.audit.record import Cache
from pocketaffect.checkout import LOCK, ask_git, compare_lock, has_commit
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_json

log = logging.getLogger(__name__)

_USERS_OWN: Final = ("MLFLOW_", "DVC_", "GIT_", "PYTHON", "PYTEST_", "VIRTUAL_ENV")
"""Variables that would point the scratch's tools at the user's store, cache, index or environment."""

_RUNNING: Final = re.compile(r"^Running stage '([^']+)'")
_LAST_LINES: Final = 12


@dataclass(frozen=True)
class Rerun:
    """How a run went: seconds of each stage that was started, the one that failed ("" for none), its last lines."""

    seconds: Mapping[str, float]
    failed: str
    said: str


@dataclass(frozen=True)
class Scratch:
    """A repository of its own, apart from the user's.

    All of it lies in `place`, and nothing is written outside; `root` has the pipeline.
    """

    root: Path
    place: Path
    python: Path

    @property
    def cache(self) -> Cache:
        """DVC's cache in the scratch folder, empty at first, so that its run cache cannot answer for a stage."""
        return Cache(self.place / "cache")

    def environment(self) -> dict[str, str]:
        """Variables for commands in it: its own sources, DVC state and configuration, no store."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_USERS_OWN)}
        return kept | {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONUNBUFFERED": "1",
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
        """Returns the same with an environment made from the commit's own lock, by its `make setup`.

        Raises:
            NotAuditableError: The packages cannot be had, or the commit cannot be set up.
        """
        done = self.run("make", "setup", f"PYTHON={sys.executable}")
        if done.returncode:
            last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
            todo = "see that the packages can be downloaded"
            raise NotAuditableError(f"its environment cannot be built: {last}", todo)
        return replace(self, python=self.root / ".venv" / "bin" / "python")

    def run_again(self, targets: Sequence[str]) -> Rerun:
        """Runs these stages and all that they stand on; each of them runs, since nothing could answer for it.

        The commit's dvc.lock is removed first, and the scratch's DVC cache holds the user's data at most.
        """
        (self.root / paths.LOCK_FILE).unlink(missing_ok=True)
        command = [str(self.python), "-u", "-m", "dvc", "repro", "--no-run-cache", *targets]
        started: dict[str, float] = {}
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                log.debug(line.rstrip())
                if found := _RUNNING.match(line):
                    started[found[1]] = time.monotonic()
                    log.info("%s …", found[1])
        names, moments = list(started), [*started.values(), time.monotonic()]
        seconds = {name: moments[place + 1] - moments[place] for place, name in enumerate(names)}
        failed = "" if process.returncode == 0 else (names[-1] if names else targets[0])
        return Rerun(seconds, failed, "\n".join(line for line in lines if line))

    def take_line_ends(self, recorded: Mapping[str, str]) -> None:
        """Gives the sources CRLF where a version was made in a checkout that had them (core.autocrlf).

        `recorded` has DVC's hash of each path that the stages read.
        """
        files = {path: self.root / path for path in recorded if (self.root / path).is_file()}
        turned = [path for path, file in files.items() if _md5(_crlf(file.read_bytes())) == recorded[path]]
        if all(_md5(files[path].read_bytes()) == recorded[path] for path in turned):
            return
        for line in (ask_git(self.root, "ls-files", "--eol", "-z") or "").split("\0"):
            kind, _, path = line.partition("\t")
            if kind.startswith("i/lf"):
                (self.root / path).write_bytes(_crlf((self.root / path).read_bytes()))


def check_out(root: Path, commit: str, place: Path) -> Scratch:
    """Fetches one commit of the repository at `root` into `place`, which must be empty or new.

    Nothing is written to the user's repository: no worktree, no reference, no lock; a commit that no branch holds
    any more is found too, as long as git keeps it.

    Raises:
        NotAuditableError: The repository has no such commit, or there is no git.
    """
    folder = place / "repository"
    top = ask_git(root, "rev-parse", "--show-toplevel")
    if not top:
        raise NotAuditableError(
            f"{root.absolute()}: no git repository", "audit in the repository that made the version"
        )
    if not has_commit(root, commit):
        raise NotAuditableError(
            f"commit {commit} is not in this repository", "git fetch from where it was made, then repeat"
        )
    folder.mkdir(parents=True)
    for arguments in (
        ("init", "--quiet"),
        ("config", "core.autocrlf", "false"),
        ("fetch", "--quiet", "--depth=1", "--no-tags", Path(top).as_uri(), commit),
        ("-c", "advice.detachedHead=false", "checkout", "--quiet", commit),
    ):
        if ask_git(folder, *arguments) is None:
            raise NotAuditableError(
                f"commit {commit} cannot be checked out (git {arguments[0]} failed)", "git fsck in the repository"
            )
    prefix = ask_git(root, "rev-parse", "--show-prefix") or ""
    scratch = Scratch(root=folder / prefix, place=place, python=Path(sys.executable))
    _configure_dvc(scratch, root)
    return scratch


def name_sample(scratch: Scratch) -> None:
    """Makes data.dvc import the sample, which a stage draws."""
    content = {"deps": [{"path": str(paths.SAMPLE)}], "outs": [{"path": str(paths.DATA)}]}
    write_json(scratch.root / paths.DATA_FILE, content)  # JSON is YAML


def restore_data(scratch: Scratch, md5: str, source: Cache) -> None:
    """Brings the data folder of that hash to the scratch: from the user's cache, else from their DVC remotes.

    data.dvc names no origin then: where the data came from must not be looked at.

    Raises:
        NotAuditableError: Neither holds all of it.
    """
    write_json(scratch.root / paths.DATA_FILE, {"outs": [{"md5": md5, "hash": "md5", "path": str(paths.DATA)}]})
    missing = scratch.cache.copy_from(source, md5)
    for remote in _remotes(scratch) if missing else ():
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


def verify_environment(lock_file: Path) -> int:
    """Compares the running environment with a lock, and counts the packages whose marker holds here.

    Raises:
        NotAuditableError: A package is missing or of another version, or there is no lock that pins packages.
    """
    if not lock_file.is_file():
        raise NotAuditableError(f"the commit has no {LOCK}", "audit a later version")
    try:
        compared = [(one.name, next(iter(one.specifier)).version, here) for one, here in compare_lock(lock_file)]
    except PocketAffectError as error:
        raise NotAuditableError(error.in_one_line(), "audit a later version") from None
    wrong = [f"{name} {wanted} is locked, {here} is here" for name, wanted, here in compared if here != wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise NotAuditableError(
            f"the environment is not the one of {LOCK}: {'; '.join(wrong[:3])}{more}",
            "repeat with --build-environment, or make setup at that commit",
        )
    return len(compared)


def _crlf(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _configure_dvc(scratch: Scratch, root: Path) -> None:
    """Gives it a cache of its own, and the user's remotes under addresses that hold from here."""
    from dvc.config import Config  # type: ignore[import-untyped]

    users = Config(str(root / ".dvc"), validate=False)
    config = Config(str(scratch.root / ".dvc"), validate=False)
    with config.edit("local", validate=False) as local:
        local["cache"] = {"dir": str(scratch.cache.folder)}
        local["remote"] = {name: dict(remote) for name, remote in users.get("remote", {}).items()}
    scratch.cache.folder.mkdir(parents=True, exist_ok=True)


def _remotes(scratch: Scratch) -> list[str]:
    """Lists the names of the DVC remotes, the default one first."""
    from dvc.config import Config

    config = Config(str(scratch.root / ".dvc"), validate=False)
    default = config.get("core", {}).get("remote")
    return sorted(config.get("remote", {}), key=lambda name: (name != default, name))
