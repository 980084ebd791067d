"""Whether the packages installed here are those that requirements.lock names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pocketaffect.audit.verdict import NotAuditableError


def verify_environment(lock_file: Path) -> int:
    """Compares the running environment with a lock.

    Returns:
        The number of packages compared: those whose marker holds here.

    Raises:
        NotAuditableError: A package is missing or of another version, or there is no lock.
    """
    if not lock_file.is_file():
        raise NotAuditableError("the commit has no requirements.lock", "audit a later version")
    wrong, compared = [], 0
    for name, wanted in read_lock(lock_file.read_text(encoding="utf-8")):
        compared += 1
        found = _installed(name)
        if found != wanted:
            wrong.append(f"{name} {wanted} is locked, {found or 'none'} is here")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise NotAuditableError(
            f"the environment is not the one of requirements.lock: {'; '.join(wrong[:3])}{more}",
            "repeat with --build-environment, or make setup at that commit",
        )
    return compared


def read_lock(text: str) -> Iterator[tuple[str, str]]:
    """Name and version of every package that a lock pins for this machine.

    Raises:
        NotAuditableError: A line is not a pinned package.
    """
    for line in text.splitlines():
        pinned = line.rstrip("\\ ").strip()
        if not pinned or pinned.startswith(("#", "--")):
            continue
        try:
            requirement = Requirement(pinned.partition(" --hash")[0])
            (pin,) = requirement.specifier
            if pin.operator != "==":
                raise ValueError(pin.operator)
        except (InvalidRequirement, ValueError):
            raise NotAuditableError(f"requirements.lock: not a pinned package: {line[:80]!r}", "make lock") from None
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement.name, pin.version


def build_environment(folder: Path, environment: dict[str, str]) -> Path:
    """Sets up `folder`/.venv as the commit in it does, by `make setup`.

    Returns:
        Its Python.

    Raises:
        NotAuditableError: The packages cannot be had, or the commit cannot be set up.
    """
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise NotAuditableError(f"its environment cannot be built: {last}", "see that the packages can be downloaded")
    return folder / ".venv" / "bin" / "python"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
