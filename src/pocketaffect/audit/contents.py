"""Re-hashes what the store keeps of a version: its package, and every file that was registered with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.store.runs import CONTENTS_FILE, CONTENTS_TAG, MODEL_FOLDER, PACKAGE_TAG
from pocketaffect.registry.store.versions import RegisteredVersion

TAGGED_FILES: Final = {"params.yaml": "params.sha256", "dvc.lock": "dvc_lock.sha256"}
"""What versions without a list of contents are still held to, beside the package."""


@dataclass(frozen=True)
class Damage:
    """One stored file that is not what was registered."""

    path: str
    detail: str


def verify_contents(version: RegisteredVersion, folder: Path) -> tuple[int, tuple[Damage, ...]]:
    """Hashes the files of a version's run.

    Args:
        version: From the registry; its tags hold the hashes.
        folder: The run's artifacts on this machine.

    Returns:
        How many files have a recorded hash, and what is wrong. Files that came later (audits, promotions) are of no
        concern here.
    """
    damages = list(_check_package(version, folder))
    listed, wrong = _read_list(version, folder)
    damages += wrong
    for place, sha256 in sorted(listed.items()):
        file = folder / place
        if not file.is_file():
            damages.append(Damage(place, "missing"))
        elif hash_sha256(file) != sha256:
            damages.append(Damage(place, f"other bytes than were registered (SHA-256 {sha256})"))
    return 1 + len(listed), tuple(damages)


def hash_sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_package(version: RegisteredVersion, folder: Path) -> Iterator[Damage]:
    place = f"{MODEL_FOLDER}/{version.tags.get(PACKAGE_TAG, '')}"
    if not (folder / place).is_dir():
        yield Damage(place, "missing")
    elif (digest := package_digest(folder / place)) != version.digest:
        yield Damage(place, f"SHA-256 {digest}, {version.digest} was registered")


def _read_list(version: RegisteredVersion, folder: Path) -> tuple[Mapping[str, str], list[Damage]]:
    """Place -> SHA-256 of all that was registered; what the list itself suffers from."""
    wanted = version.tags.get(CONTENTS_TAG)
    if wanted is None:
        return {name: version.tags[tag] for name, tag in TAGGED_FILES.items() if tag in version.tags}, []
    file = folder / CONTENTS_FILE
    if not file.is_file():
        return {}, [Damage(CONTENTS_FILE, "missing, so that no other file can be held to its hash")]
    if hash_sha256(file) != wanted:
        return {}, [Damage(CONTENTS_FILE, f"other bytes than were registered (SHA-256 {wanted})")]
    listed: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return listed, []
