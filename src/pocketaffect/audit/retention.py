"""What may leave the store: versions that were archived, runs that failed, files that no run owns."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pocketaffect.audit.store_check import REMOVED_TAG, list_versions, run_folder
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.promotion.log import read_log
from pocketaffect.registry.store.runs import DIGEST_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion, get_version, search_versions

ARCHIVED_TAG: Final = "archived"

_RUN_FOLDER: Final = re.compile(r"[0-9a-f]{32}")
_LEAVING: Final = ".removed-"


@dataclass(frozen=True)
class Removal:
    """One folder that `gc` may remove.

    Attributes:
        folder: Of the run's files.
        why: In words.
        size: Bytes in it.
        run_id: The run, "" for files that no run owns.
        version: The archived version's number, None for a failed run.
    """

    folder: Path
    why: str
    size: int
    run_id: str = ""
    version: int | None = None


def archive_version(store: Store, model_name: str, name: str, *, undo: bool = False) -> RegisteredVersion:
    """Marks a version as no longer needed, so that `gc` may remove its files; or takes the mark away.

    Raises:
        PocketAffectError: No such version; an alias or the promotion log points to it; or its files are gone already.
    """
    client = store.client()
    with store.locked():
        version = get_version(store, model_name, name)
        number = str(version.version)
        if undo:
            if REMOVED_TAG in version.tags:
                raise PocketAffectError(
                    f"version {number}: its files were removed on {version.tags[REMOVED_TAG]}",
                    todo="restore them from a backup of mlruns/",
                )
            if ARCHIVED_TAG in version.tags:
                client.delete_model_version_tag(model_name, number, ARCHIVED_TAG)
        elif reason := _protection(store, version):
            raise PocketAffectError(
                f"version {number} of {model_name!r} is needed",
                found=reason,
                allowed="versions that no alias and no entry of the promotion log points to",
            )
        elif ARCHIVED_TAG not in version.tags:
            client.set_model_version_tag(model_name, number, ARCHIVED_TAG, _now())
        return get_version(store, model_name, number)


def plan_removals(store: Store, model_name: str) -> list[Removal]:
    """What `collect_garbage` would remove.

    Kept in any case: files of a version under an alias or named by the promotion log, of a version that is not
    archived, of a run that still runs or ended well, and whatever does not look like a run's folder.

    Raises:
        PocketAffectError: The store is on a server, whose files are the server's to remove.
    """
    root = _local_artifacts(store)
    kept, archived = _sort_versions(store, model_name)
    removals = []
    for version in archived:
        folder = run_folder(store, version)
        if folder is not None and folder.is_dir() and version.run_id not in kept:
            why = f"version {version.version}, archived {version.tags[ARCHIVED_TAG]}"
            removals.append(Removal(folder.parent, why, _size(folder.parent), version.run_id, version.version))
    planned = {removal.folder.resolve() for removal in removals}
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(_LEAVING):
            removals.append(Removal(folder, "left by an interrupted gc", _size(folder)))
        elif _RUN_FOLDER.fullmatch(folder.name) and folder.name not in kept and folder.resolve() not in planned:
            why = _why_idle(store, folder.name)
            if why:
                run_id = "" if why.startswith("no run") else folder.name
                removals.append(Removal(folder, why, _size(folder), run_id))
    return removals


def collect_garbage(store: Store, model_name: str) -> list[Removal]:
    """Removes what `plan_removals` names. Killed at any point, the next call finishes it.

    A version stays in the registry with its metrics, tags and lineage, and with the tag `artifacts.removed`.
    """
    client = store.client()
    with store.locked():
        removals = plan_removals(store, model_name)
        for removal in removals:
            if removal.version is not None:  # marked first: a version without files must say why
                client.set_model_version_tag(model_name, str(removal.version), REMOVED_TAG, _now())
            elif removal.run_id and client.get_run(removal.run_id).info.lifecycle_stage == "active":
                client.delete_run(removal.run_id)
            leaving = removal.folder
            if not leaving.name.startswith(_LEAVING):
                leaving = leaving.rename(leaving.with_name(f"{_LEAVING}{leaving.name}"))
            shutil.rmtree(leaving)
    return removals


def _sort_versions(store: Store, model_name: str) -> tuple[set[str], list[RegisteredVersion]]:
    """Runs whose files stay, of every registered model; and the versions that may go."""
    named = read_log(store, model_name).versions()
    archived = [
        version
        for version in list_versions(store, model_name)
        if ARCHIVED_TAG in version.tags and not version.aliases and version.version not in named
    ]
    going = {(model_name, version.version) for version in archived}
    everything = search_versions(store.client(), "")
    kept = {one.run_id for one in everything if (one.name, int(one.version)) not in going and one.run_id}
    return kept, archived


def _protection(store: Store, version: RegisteredVersion) -> str:
    if version.aliases:
        return f"alias {', '.join(version.aliases)}"
    named = version.version in read_log(store, version.model_name).versions()
    return "an entry of the promotion log" if named else ""


def _why_idle(store: Store, run_id: str) -> str:
    """Why a run's folder without a version is of no use; "" if it may be."""
    from mlflow.exceptions import MlflowException

    try:
        run = store.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return "no run owns it"
    failed = run.info.status == "FAILED" and DIGEST_TAG in run.data.tags
    return "a registration that failed" if failed else ""


def _local_artifacts(store: Store) -> Path:
    if store.artifact_root is None:
        raise PocketAffectError(
            "the store is on a server", found="MLFLOW_TRACKING_URI", todo="remove files there (mlflow gc), or unset it"
        )
    return store.artifact_root


def _size(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    return (file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
