"""Where a model file, version or run comes from, and which versions came from some data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketaffect.config import PARAMS_FILE, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.provenance.origin import DECIDING_PARAMS, hash_settings
from pocketaffect.registry.lineage.model_file import digest_file, read_file_metadata
from pocketaffect.registry.lineage.trials import STUDY_TAG, TRIAL_TAG
from pocketaffect.registry.store.runs import CLASSIFIER_TAG, DIGEST_TAG, TWIN_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import (
    FIRST_COMMIT_TAG,
    RegisteredVersion,
    artifact_path,
    find_version,
    get_version,
    package_path,
    search_versions,
)

_SHOWN_TAGS: Final = {
    "git.commit": "commit",
    "git.dirty": "uncommitted changes",
    FIRST_COMMIT_TAG: "first made at",
    "data.source": "data from",
    "data.md5": "data",
    "dvc_lock.sha256": "dvc.lock",
    "params.sha256": "params.yaml",
    "requirements.sha256": "requirements.lock",
    STUDY_TAG: "settings of study",
    TRIAL_TAG: "and its trial",
    "version.python": "Python",
    "version.torch": "torch",
    "version.coremltools": "coremltools",
    "machine.platform": "machine",
    "machine.processor": "processor",
    "machine.cpu": "instructions it has",
}
_ORIGIN: Final = {
    "origin_data_md5": "data",
    "origin_params_sha256": "settings that decide",
    "origin_sources_sha256": "sources that decide",
}
_DATA_HASH: Final = re.compile(r"[0-9a-f]{6,32}(\.dir)?")
_RUN: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Trace:
    """What is known of one version's or one file's origin.

    Attributes:
        title: What was asked for.
        file: Name and value of what the file says of itself; empty where no file was read.
        version: The registry's; None where it has none, or where there is no registry.
        settings: Each section that decides the result, and its values.
        disagreements: Where file and store differ.
    """

    title: str
    file: tuple[tuple[str, str], ...]
    version: RegisteredVersion | None
    settings: tuple[tuple[str, str], ...] = ()
    disagreements: tuple[str, ...] = ()

    def to_text(self) -> str:
        """For a person."""
        rows = [("file says", "")] if self.file else []
        rows += [(f"  {name}", value) for name, value in self.file]
        if self.version is None:
            rows.append(("registry", "does not know it: only what the file says of itself is known"))
        else:
            names = f" ({', '.join(self.version.aliases)})" if self.version.aliases else ""
            rows.append(("registry", f"{self.version.model_name} version {self.version.version}{names}"))
            rows += [("  run", self.version.run_id), ("  package sha256", self.version.digest)]
            tags = self.version.tags
            rows += [(f"  {shown}", tags[tag]) for tag, shown in _SHOWN_TAGS.items() if tags.get(tag)]
            if tags.get("git.dirty_paths"):
                rows.append(("  changed files", tags["git.dirty_paths"]))
            if self.settings:
                rows += [(f"  {section}", text) for section, text in self.settings]
        width = max(len(name) for name, _ in rows)
        lines = [self.title, *(f"{name:<{width}}  {value}".rstrip() for name, value in rows)]
        return "\n".join([*lines, *(f"DISAGREE  {one}" for one in self.disagreements)])


def trace(store: Store | None, model_name: str, asked: str) -> list[Trace]:
    """Origin of a file, version, alias or run, or of every version that came from some data.

    Args:
        store: From `find_store`; None where there is none.
        model_name: The registered model.
        asked: Path of a .mlpackage or .onnx, a version's number, an alias, a run's id, or a data hash (DVC's, six
            digits of it at least).

    Raises:
        PocketAffectError: Nothing of that name, or a model file that cannot be read.
    """
    if Path(asked).exists():
        return [_trace_file(store, model_name, Path(asked))]
    if Path(asked).suffix in (".mlpackage", ".onnx"):
        raise PocketAffectError(f"{asked}: no such file")
    if store is None:
        raise PocketAffectError(
            f"lineage: {asked!r} is no file here, and there is no store (mlruns/mlflow.db) to look in",
            allowed="a .mlpackage or .onnx file, which says its own origin",
            todo="name a file, run from the repository's root, or set MLFLOW_TRACKING_URI",
        )
    found = list(_search(store, model_name, asked))
    if not found:
        found = [get_version(store, model_name, asked)]  # refuses with what there is
    return [_trace_version(store, version) for version in found]


def _search(store: Store, model_name: str, asked: str) -> Iterator[RegisteredVersion]:
    """By run or data hash; a number stays a version's, however long."""
    if asked.isdecimal() and len(asked) < 6:
        return
    by_run, by_data = bool(_RUN.fullmatch(asked)), bool(_DATA_HASH.fullmatch(asked))
    if not by_run and not by_data:
        return
    for one in sorted(search_versions(store.client(), f"name = '{model_name}'"), key=lambda one: int(one.version)):
        data = one.tags.get("data.md5", "")
        if (by_run and one.run_id == asked) or (by_data and data.startswith(asked)):
            yield get_version(store, model_name, one.version)


def _trace_file(store: Store | None, model_name: str, path: Path) -> Trace:
    metadata, digest = read_file_metadata(path), digest_file(path)
    says = _says(metadata)
    title = f"{path}: sha256 {digest}"
    version = None
    if store is not None:
        version = find_version(store, model_name, digest) or _find_form(store, model_name, digest)
    if store is None or version is None:
        suspects = () if store is None else tuple(_suspect(store, model_name, metadata))
        return Trace(title, says, None, disagreements=suspects)
    return Trace(title, says, version, _settings(store, version), tuple(_disagreements(store, metadata, version)))


def _find_form(store: Store, model_name: str, digest: str) -> RegisteredVersion | None:
    """The version that this file is the ONNX twin or the classifier form of."""
    for tag in (TWIN_TAG, CLASSIFIER_TAG):
        found = search_versions(store.client(), f"name = '{model_name}' and tags.`{tag}` = '{digest}'")
        if found:
            return get_version(store, model_name, min(int(one.version) for one in found))
    return None


def _trace_version(store: Store, version: RegisteredVersion) -> Trace:
    """The store's answer, held against what its own package says."""
    title = f"{version.model_name} version {version.version}"
    try:
        metadata = read_file_metadata(package_path(store, version))
    except PocketAffectError as error:
        return Trace(title, (), version, _settings(store, version), (error.in_one_line(),))
    disagreements = tuple(_disagreements(store, metadata, version))
    return Trace(title, _says(metadata), version, _settings(store, version), disagreements)


def _says(metadata: dict[str, str]) -> tuple[tuple[str, str], ...]:
    shown = [(name, metadata[key]) for key, name in _ORIGIN.items() if key in metadata]
    shown += [(key, metadata[key]) for key in ("precision", "version", "author", "licence") if metadata.get(key)]
    return tuple(shown) or (("origin", "nothing: not made by this pipeline, or its metadata was removed"),)


def _settings(store: Store, version: RegisteredVersion) -> tuple[tuple[str, str], ...]:
    if not version.run_id:
        return ()
    params = sorted(store.client().get_run(version.run_id).data.params.items())
    lines = []
    for section in DECIDING_PARAMS:
        values = [f"{name.partition('.')[2]}={value}" for name, value in params if name.startswith(f"{section}.")]
        if values:
            lines.append((section, ", ".join(values)))
    return tuple(lines)


def _disagreements(store: Store, metadata: dict[str, str], version: RegisteredVersion) -> Iterator[str]:
    says, stored = metadata.get("origin_data_md5"), version.tags.get("data.md5")
    if says != stored:
        yield f"data: the file says {says}, the store {stored}"
    kept = artifact_path(store, version, PARAMS_FILE.name)
    if kept is not None and "origin_params_sha256" in metadata:
        try:
            made_with = hash_settings(load_params(kept))
        except PocketAffectError:  # of a pocketaffect that knew other settings
            return
        if metadata["origin_params_sha256"] != made_with:
            yield f"settings: the file says {metadata['origin_params_sha256']}, the store's params.yaml {made_with}"


def _suspect(store: Store, model_name: str, metadata: dict[str, str]) -> Iterator[str]:
    """A file that says the origin of a version but has other bytes was changed after it was made."""
    data = metadata.get("origin_data_md5")
    for one in search_versions(store.client(), f"name = '{model_name}'"):
        version = get_version(store, model_name, one.version)
        if version.tags.get("data.md5") != data:
            continue
        try:
            theirs = read_file_metadata(package_path(store, version))
        except PocketAffectError:
            continue
        if all(theirs.get(key) == metadata.get(key) for key in _ORIGIN) and DIGEST_TAG in version.tags:
            yield (
                f"bytes: the file says the origin of version {version.version}, whose package has sha256 "
                f"{version.digest}"
            )
