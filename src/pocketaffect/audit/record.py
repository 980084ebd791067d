"""What a version says of its own making: the run's files, and the stages of its dvc.lock."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.audit.cache import Cache, hash_file
from pocketaffect.audit.contents import verify_contents
from pocketaffect.audit.store_check import run_folder
from pocketaffect.audit.verdict import NotAuditableError
from pocketaffect.config import PARAMS_FILE
from pocketaffect.files import read_yaml
from pocketaffect.registry.store.runs import CONTENTS_FILE, flatten
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion

REGISTER: Final = "register"
"""The one stage that is not run again: it writes to the user's store."""


@dataclass(frozen=True)
class LockedStage:
    """One stage of a dvc.lock."""

    command: str
    dependencies: Mapping[str, str]
    """Path -> hash."""
    settings: Mapping[str, object]
    """Dotted name -> value."""
    outputs: Mapping[str, str]
    """Path -> hash."""


@dataclass(frozen=True)
class Record:
    """A version's run, read back from the store.

    Attributes:
        version: Whose record it is.
        files: Copies of the run's artefacts.
        stages: Of the dvc.lock among them, by name.
        cache: The user's DVC cache, which may still hold what the stages made.
    """

    version: RegisteredVersion
    files: Path
    stages: Mapping[str, LockedStage]
    cache: Cache

    @property
    def params_file(self) -> Path:
        """The params.yaml that the version was made with."""
        return self.files / PARAMS_FILE

    @property
    def data_md5(self) -> str:
        """DVC's hash of the data folder that the stages read; "" if none did."""
        return next((stage.dependencies[str(paths.DATA)] for stage in self._readers_of_data), "")

    @property
    def _readers_of_data(self) -> list[LockedStage]:
        return [stage for stage in self.stages.values() if str(paths.DATA) in stage.dependencies]

    def list_files(self, md5: str, path: str) -> dict[str, str] | None:
        """Path -> hash of the output's files as recorded; None where neither cache nor store lists them."""
        listed = self.cache.list_files(md5, path)
        logged = self.files / Path(path).name
        if listed is None and logged.is_dir():
            listed = {
                f"{path}/{file.relative_to(logged).as_posix()}": hash_file(file)
                for file in sorted(logged.rglob("*"))
                if file.is_file()
            }
        return listed

    def find_file(self, md5: str) -> Path | None:
        """A copy of the recorded bytes, from cache or store; None where neither has them (any more)."""
        cached = self.cache.find(md5)
        if cached is not None and hash_file(cached) == md5:
            return cached
        return self._logged.get(md5)

    @cached_property
    def _logged(self) -> dict[str, Path]:
        return {hash_file(file): file for file in self.files.rglob("*") if file.is_file()}


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
    wanted = (str(PARAMS_FILE), str(paths.LOCK_FILE))
    damages = {damage.path: damage.detail for damage in verify_contents(version, folder)[1]}
    for name in (CONTENTS_FILE, *wanted):
        if name in damages:
            raise NotAuditableError(
                f"the run's {name}: {damages[name]}",
                "restore mlruns/ from a backup; `pocketaffect registry verify` names what else was changed",
            )
        if name in wanted and not (folder / name).is_file():
            raise NotAuditableError(f"the run has no {name}", "audit a version that was registered by dvc repro")
    return Record(version, folder, read_stages(folder / paths.LOCK_FILE), cache)


def read_stages(lock_file: Path) -> dict[str, LockedStage]:
    """The stages of a dvc.lock, by name, without `register`; none where the file is missing."""
    stages: Mapping[str, Mapping[str, Any]] = read_yaml(lock_file).get("stages") or {}
    return {
        name: LockedStage(
            command=str(stage.get("cmd", "")),
            dependencies=_hashes(stage, "deps"),
            settings=flatten((stage.get("params") or {}).get(str(PARAMS_FILE)) or {}),
            outputs=_hashes(stage, "outs"),
        )
        for name, stage in stages.items()
        if name != REGISTER
    }


def _hashes(stage: Mapping[str, Any], key: str) -> dict[str, str]:
    return {str(item["path"]): str(item.get("md5", "")) for item in stage.get(key) or []}
