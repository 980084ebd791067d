"""What a version says of its making: the run's files, the stages of its dvc.lock, DVC's cache of their outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.audit.outcome import NotAuditableError
from pocketaffect.audit.upkeep import run_folder, verify_contents
from pocketaffect.config import PARAMS_FILE
from pocketaffect.files import hash_file, read_yaml
from pocketaffect.registry.store.runs import CONTENTS_FILE, flatten
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion

FOLDER: Final = ".dir"
"""Ending of DVC's hash of a folder; the object of that name lists the files in it."""


@dataclass(frozen=True)
class Cache:
    """A DVC 3 cache as files, only ever read: `files/md5/<first two digits>/<the rest>`.

    DVC itself is not asked, since it repairs, protects and removes what it finds in a cache that it opens.
    """

    folder: Path

    @classmethod
    def of_repository(cls, root: Path) -> Cache:
        """Finds the cache that the repository's DVC settings name, which need not exist."""
        from dvc.config import Config  # type: ignore[import-untyped]

        named = Config(str(root / ".dvc"), validate=False).get("cache", {}).get("dir")
        return cls(Path(named) if named else root.resolve() / ".dvc" / "cache")

    def find(self, md5: str) -> Path | None:
        """Finds the object of that hash, None where there is none or where it has other bytes."""
        place = self._place(md5)
        return place if place.is_file() and hash_file(place, "md5") == md5.removesuffix(FOLDER) else None

    def list_files(self, md5: str, path: str) -> dict[str, str] | None:
        """Maps each file of the output `path` (a file or a folder) to its hash; None where its list is gone."""
        if not md5.endswith(FOLDER):
            return {path: md5} if md5 else {}
        listing = self.find(md5)
        if listing is None:
            return None
        entries = json.loads(listing.read_text(encoding="utf-8"))
        return {f"{path}/{entry['relpath']}": entry["md5"] for entry in entries}

    def copy_from(self, other: Cache, md5: str) -> list[str]:
        """Copies an object, and for a folder all that it lists; gives the hashes that `other` does not hold."""
        missing = [] if self._copy_object(other, md5) else [md5]
        if not missing and md5.endswith(FOLDER):
            files = self.list_files(md5, "") or {}
            missing = [name for name in sorted(set(files.values())) if not self._copy_object(other, name)]
        return missing

    def _copy_object(self, other: Cache, md5: str) -> bool:
        source, target = other.find(md5), self._place(md5)
        if source is None:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o444)
        return True

    def _place(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]


@dataclass(frozen=True)
class LockedStage:
    """One stage of a dvc.lock: its command, hashes by path, and settings by dotted name."""

    command: str
    dependencies: Mapping[str, str]
    settings: Mapping[str, object]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A version's run, read back from the store.

    `files` holds copies of the run's artefacts; the user's DVC cache may still hold what the stages made.
    """

    version: RegisteredVersion
    files: Path
    stages: Mapping[str, LockedStage]
    cache: Cache

    def list_files(self, md5: str, path: str) -> dict[str, str] | None:
        """Maps the output's files to their recorded hashes; None where neither cache nor store lists them."""
        listed, logged = self.cache.list_files(md5, path), self.files / Path(path).name
        if listed is not None or not logged.is_dir():
            return listed
        files = [file for file in sorted(logged.rglob("*")) if file.is_file()]
        return {f"{path}/{file.relative_to(logged).as_posix()}": hash_file(file, "md5") for file in files}

    def find_file(self, md5: str) -> Path | None:
        """Finds a copy of the recorded bytes, from cache or store; None where neither has them (any more)."""
        return self.cache.find(md5) or self._logged.get(md5)

    @cached_property
    def _logged(self) -> dict[str, Path]:
        return {hash_file(file, "md5"): file for file in self.files.rglob("*") if file.is_file()}


def find_data(stages: Mapping[str, LockedStage]) -> str:
    """Finds DVC's hash of the data folder that the stages read; "" if none did."""
    found = (stage.dependencies.get(str(paths.DATA), "") for stage in stages.values())
    return next(filter(None, found), "")


def read_record(store: Store, version: RegisteredVersion, cache: Cache, folder: Path) -> Record:
    """Copies the run's artefacts to `folder` and reads them.

    Raises:
        NotAuditableError: The run or its dvc.lock or params.yaml is gone, or has other bytes than were recorded.
    """
    from mlflow.exceptions import MlflowException

    stored = run_folder(store, version)
    try:
        if stored is not None:
            shutil.copytree(stored, folder)
        else:
            folder.mkdir(parents=True)
            store.client().download_artifacts(version.run_id, "", str(folder))
    except (MlflowException, OSError) as error:
        raise NotAuditableError(
            f"the files of run {version.run_id or '(none)'}: {error}", "restore mlruns/ from a backup"
        ) from None
    damages = {damage.path: damage.detail for damage in verify_contents(version, folder)[1]}
    for name in (CONTENTS_FILE, str(PARAMS_FILE), str(paths.LOCK_FILE)):
        if name in damages:
            raise NotAuditableError(
                f"the run's {name}: {damages[name]}",
                "restore mlruns/ from a backup; `pocketaffect registry verify` names what else was changed",
            )
        if name != CONTENTS_FILE and not (folder / name).is_file():
            raise NotAuditableError(f"the run has no {name}", "audit a version that was registered by dvc repro")
    return Record(version, folder, read_stages(folder / paths.LOCK_FILE), cache)


def read_stages(lock_file: Path) -> dict[str, LockedStage]:
    """Reads the stages of a dvc.lock by name; not `register`, which writes to the user's store and is not run again."""
    stages: Mapping[str, Mapping[str, Any]] = read_yaml(lock_file).get("stages") or {}
    return {
        name: LockedStage(
            command=str(stage.get("cmd", "")),
            dependencies=_hashes(stage, "deps"),
            settings=flatten((stage.get("params") or {}).get(str(PARAMS_FILE)) or {}),
            outputs=_hashes(stage, "outs"),
        )
        for name, stage in stages.items()
        if name != "register"
    }


def _hashes(stage: Mapping[str, Any], key: str) -> dict[str, str]:
    return {str(item["path"]): str(item.get("md5", "")) for item in stage.get(key) or []}
