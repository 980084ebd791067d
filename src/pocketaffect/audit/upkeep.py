"""Care of the store: whether its files are those that were registered, which of them may leave, and its backup."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, write_atomically
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.promotion.log import read_log
from pocketaffect.registry.store import versions
from pocketaffect.registry.store.database import ARTIFACTS, DATABASE, STORE, find_problem
from pocketaffect.registry.store.runs import CONTENTS_FILE, CONTENTS_TAG, DIGEST_TAG, MODEL_FOLDER, PACKAGE_TAG
from pocketaffect.registry.store.store import Store, open_store

_RUN_FOLDER: Final = re.compile(r"[0-9a-f]{32}")
_LEAVING: Final = ".removed-"


@dataclass(frozen=True)
class Damage:
    """One stored file that is not what was registered."""

    path: str
    detail: str


@dataclass(frozen=True)
class VersionState:
    """What the store still holds of one version.

    `files` counts those with a recorded hash; `removed` says when `gc` removed them, "" if it did not.
    """

    version: versions.RegisteredVersion
    files: int
    damages: tuple[Damage, ...]
    removed: str


def run_folder(store: Store, version: versions.RegisteredVersion) -> Path | None:
    """Finds the artifacts of a version's run on this machine; None for a store on a server."""
    folder = None if store.artifact_root is None else versions.local_folder(version.source)
    return folder and folder.parent


def verify_registry(store: Store, model_name: str) -> Iterator[VersionState]:
    """Hashes what the store keeps of every version of a model, oldest first."""
    for version in versions.list_versions(store, model_name):
        removed, folder = version.tags.get(versions.REMOVED_TAG, ""), run_folder(store, version)
        if removed:
            yield VersionState(version, 0, (), removed)
        elif folder is not None:
            yield VersionState(version, *verify_contents(version, folder), "")
        else:
            with tempfile.TemporaryDirectory(prefix="pocketaffect-") as place:
                store.client().download_artifacts(version.run_id, "", place)
                yield VersionState(version, *verify_contents(version, Path(place)), "")


def verify_contents(version: versions.RegisteredVersion, folder: Path) -> tuple[int, tuple[Damage, ...]]:
    """Hashes the files of a version's run, which lie in a folder of this machine.

    Returns:
        How many files have a recorded hash, and what is wrong. Files that came later (audits, promotions) are of no
        concern here.
    """
    package, damages = f"{MODEL_FOLDER}/{version.tags.get(PACKAGE_TAG, '')}", list[Damage]()
    if not (folder / package).is_dir():
        damages.append(Damage(package, "missing"))
    elif (digest := package_digest(folder / package)) != version.digest:
        damages.append(Damage(package, f"SHA-256 {digest}, {version.digest} was registered"))
    listed: Mapping[str, str] = {}
    wanted = version.tags.get(CONTENTS_TAG)  # none in versions of a pocketaffect that kept no list
    if wanted is not None and (why := _find_damage(folder / CONTENTS_FILE, wanted)):
        damages.append(Damage(CONTENTS_FILE, f"{why}: no other file can be held to its hash"))
    elif wanted is not None:
        listed = json.loads((folder / CONTENTS_FILE).read_text(encoding="utf-8"))
    checked = ((place, _find_damage(folder / place, sha256)) for place, sha256 in sorted(listed.items()))
    return 1 + len(listed), (*damages, *(Damage(place, why) for place, why in checked if why))


def _find_damage(file: Path, sha256: str) -> str:
    if not file.is_file():
        return "missing"
    return "" if hash_file(file) == sha256 else f"other bytes than were registered (SHA-256 {sha256})"


@dataclass(frozen=True)
class Removal:
    """One folder that `gc` may remove.

    Without a version it is a failed run's; without a run nobody's.
    """

    folder: Path
    why: str
    size: int
    run_id: str = ""
    version: int | None = None


def archive_version(store: Store, model_name: str, name: str, *, undo: bool = False) -> versions.RegisteredVersion:
    """Marks a version as no longer needed, so that `gc` may remove its files; or takes the mark away.

    Raises:
        PocketAffectError: No such version; an alias or the promotion log points to it; or its files are gone already.
    """
    client = store.client()
    with store.locked():
        version = versions.get_version(store, model_name, name)
        number = str(version.version)
        needed = f"alias {', '.join(version.aliases)}" if version.aliases else ""
        if not needed and version.version in read_log(store, model_name).versions():
            needed = "an entry of the promotion log"
        if undo and versions.REMOVED_TAG in version.tags:
            raise PocketAffectError(
                f"version {number}: its files were removed on {version.tags[versions.REMOVED_TAG]}",
                todo="restore them from a backup of mlruns/",
            )
        if undo and versions.ARCHIVED_TAG in version.tags:
            client.delete_model_version_tag(model_name, number, versions.ARCHIVED_TAG)
        elif not undo and needed:
            raise PocketAffectError(
                f"version {number} of {model_name!r} is needed",
                found=needed,
                allowed="versions that no alias and no entry of the promotion log points to",
            )
        elif not undo and versions.ARCHIVED_TAG not in version.tags:
            client.set_model_version_tag(model_name, number, versions.ARCHIVED_TAG, _now())
        return versions.get_version(store, model_name, number)


def plan_removals(store: Store, model_name: str) -> list[Removal]:
    """Plans what `collect_garbage` would remove.

    Kept in any case: files of a version under an alias or named by the promotion log, of a version that is not
    archived, of a run that still runs or ended well, and whatever does not look like a run's folder.

    Raises:
        PocketAffectError: The store is on a server, whose files are the server's to remove.
    """
    artifacts = _require_own_files(store, "remove files there (mlflow gc), or unset it")
    named = read_log(store, model_name).versions()
    archived = [
        version
        for version in versions.list_versions(store, model_name)
        if versions.ARCHIVED_TAG in version.tags and not version.aliases and version.version not in named
    ]
    going = {(model_name, version.version) for version in archived}
    others = versions.search_versions(store.client(), "")
    kept = {one.run_id for one in others if (one.name, int(one.version)) not in going and one.run_id}
    removals = []
    for version in archived:
        folder = run_folder(store, version)
        if folder is not None and folder.is_dir() and version.run_id not in kept:
            why = f"version {version.version}, archived {version.tags[versions.ARCHIVED_TAG]}"
            removals.append(Removal(folder.parent, why, _size(folder.parent), version.run_id, version.version))
    planned = {removal.folder.resolve() for removal in removals}
    for folder in sorted(artifacts.iterdir()):
        if folder.name.startswith(_LEAVING):
            removals.append(Removal(folder, "left by an interrupted gc", _size(folder)))
        elif _RUN_FOLDER.fullmatch(folder.name) and folder.name not in kept and folder.resolve() not in planned:
            owner, why = _find_owner(store, folder.name)
            if why:
                removals.append(Removal(folder, why, _size(folder), owner))
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
                client.set_model_version_tag(model_name, str(removal.version), versions.REMOVED_TAG, _now())
            elif removal.run_id and client.get_run(removal.run_id).info.lifecycle_stage == "active":
                client.delete_run(removal.run_id)
            leaving = removal.folder
            if not leaving.name.startswith(_LEAVING):
                leaving = leaving.rename(leaving.with_name(f"{_LEAVING}{leaving.name}"))
            shutil.rmtree(leaving)
    return removals


def _find_owner(store: Store, run_id: str) -> tuple[str, str]:
    """Finds the run of a folder without a version, "" for none; and why the folder is of no use, "" if it may be."""
    from mlflow.exceptions import MlflowException

    try:
        run = store.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return "", "no run owns it"
    failed = run.info.status == "FAILED" and DIGEST_TAG in run.data.tags
    return run_id, "a registration that failed" if failed else ""


def _require_own_files(store: Store, todo: str) -> Path:
    """Finds the store's artifacts on this machine; refuses a server's."""
    if store.artifact_root is None:
        raise PocketAffectError("the store is on a server", found="MLFLOW_TRACKING_URI", todo=todo)
    return store.artifact_root


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def back_up(store: Store, target: Path) -> Path:
    """Copies database and artifacts to `target`, whole or not at all; a store that cannot be written is enough.

    The database by SQLite's online backup, which gives the state of one moment whoever writes; the artifacts after
    it, since a run's files are there before its version is. Registrations and `gc` on this machine wait meanwhile.

    Raises:
        PocketAffectError: The store is on a server; `target` exists; the disk is full.
    """
    artifacts = _require_own_files(store, "back up the server's database and artifacts")
    if target.exists():
        raise PocketAffectError(f"{target}: exists already", allowed="a new folder for each backup")
    source = artifacts.parent
    # A lock is a file beside the database: without leave to write there, nobody here registers or removes, either.
    waiting = store.locked() if os.access(source, os.W_OK) else contextlib.nullcontext()
    with waiting, write_atomically(target) as draft:
        draft.mkdir()
        with (
            contextlib.closing(sqlite3.connect(f"{(source / DATABASE).as_uri()}?mode=ro", uri=True)) as live,
            contextlib.closing(sqlite3.connect(draft / DATABASE)) as copy,
        ):
            live.backup(copy)
        shutil.copytree(artifacts, draft / ARTIFACTS)
    return target


def restore(root: Path, backup: Path) -> Store:
    """Puts a backup in the place of a store that is gone; locations in it are made to point here.

    Raises:
        PocketAffectError: `backup` is none, or the repository at `root` still has a store.
    """
    if not (backup / DATABASE).is_file() or not (backup / ARTIFACTS).is_dir():
        raise PocketAffectError(
            f"{backup}: no backup of a store",
            allowed=f"a folder with {DATABASE} and {ARTIFACTS}, from `registry backup`",
        )
    folder = root / STORE
    if (folder / DATABASE).exists() or any((folder / ARTIFACTS).glob("*")):
        raise PocketAffectError(f"{folder}: there is a store already", todo=f"mv {folder} {folder}.old, then repeat")
    with write_atomically(folder / ARTIFACTS) as draft:
        shutil.copytree(backup / ARTIFACTS, draft)
        for place in (draft, *draft.rglob("*")):  # a backup of a read-only store is no read-only store
            place.chmod(place.stat().st_mode | 0o200)
    with write_atomically(folder / DATABASE) as draft:  # last: a store without its files must not look like one
        shutil.copyfile(backup / DATABASE, draft)
    if problem := find_problem(root, to_write=True):
        raise problem
    return open_store(root)
