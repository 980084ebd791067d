"""Re-hashes everything that the registry keeps, version by version."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketaffect.audit.contents import Damage, verify_contents
from pocketaffect.registry.promotion.log import read_log
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion, get_version, search_versions

REMOVED_TAG: Final = "artifacts.removed"
"""Of a version whose files `gc` removed, with the date: they are no loss then."""


@dataclass(frozen=True)
class VersionState:
    """What the store still holds of one version.

    Attributes:
        version: Which.
        files: How many files have a recorded hash.
        damages: What is missing or was changed.
        removed: When `gc` removed its files; "" if it did not.
    """

    version: RegisteredVersion
    files: int
    damages: tuple[Damage, ...]
    removed: str


def verify_registry(store: Store, model_name: str) -> Iterator[VersionState]:
    """Every version of a model, oldest first."""
    for version in list_versions(store, model_name):
        removed = version.tags.get(REMOVED_TAG, "")
        if removed:
            yield VersionState(version, 0, (), removed)
            continue
        folder = run_folder(store, version)
        if folder is not None:
            yield VersionState(version, *verify_contents(version, folder), "")
        else:
            with tempfile.TemporaryDirectory(prefix="pocketaffect-") as place:
                store.client().download_artifacts(version.run_id, "", place)
                yield VersionState(version, *verify_contents(version, Path(place)), "")


def verify_log(store: Store, model_name: str) -> tuple[int, tuple[str, ...]]:
    """Entries of the promotion log, and signs that somebody changed it."""
    log = read_log(store, model_name)
    return len(log.entries), log.problems


def list_versions(store: Store, model_name: str) -> list[RegisteredVersion]:
    """All versions of a model with their aliases, oldest first."""
    numbers = sorted(int(one.version) for one in search_versions(store.client(), f"name = '{model_name}'"))
    return [get_version(store, model_name, number) for number in numbers]


def run_folder(store: Store, version: RegisteredVersion) -> Path | None:
    """The artifacts of a version's run on this machine; None for a store on a server."""
    if store.artifact_root is None:
        return None
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(version.source)).parent  # type: ignore[no-untyped-call]
