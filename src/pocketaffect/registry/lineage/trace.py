"""Where a model file, version or run comes from, which versions came from some data, and which from a sweep's trial."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.provenance.origin import DECIDING_PARAMS
from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG, digest_file, read_file_metadata
from pocketaffect.registry.store import versions
from pocketaffect.registry.store.runs import CLASSIFIER_TAG, TWIN_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.tables import render_table

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUFFIX: Final = "-sweeps"
"""Ending of the experiment's name, beside `register.experiment`: a trial is no candidate for the registry."""

STUDY_TAG: Final = "sweep.study"
TRIAL_TAG: Final = "sweep.trial"
OUTCOME_TAG: Final = "sweep.outcome"
PARENT_TAG: Final = "mlflow.parentRunId"
_DONE: Final = "done"
_SCORE: Final = "score"
_OF_THE_STUDY: Final = {"epochs": "train.epochs", "budget_bytes": "export.budget_bytes"}
"""Parameters of the study's own run that hold for each trial -> the settings that adopting one sets."""

_SHOWN_TAGS: Final = {
    "git.commit": "commit",
    "git.dirty": "uncommitted changes",
    "git.dirty_paths": "changed files",
    EXPERIMENT_TAG: "DVC experiment",
    versions.FIRST_COMMIT_TAG: "first made at",
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
        file: Name and value of what the file says of itself; empty where no file was read.
        version: The registry's; None where it has none, or where there is no registry.
        settings: Each section that decides the result, and its values.
        disagreements: Differences between file and store.
    """

    title: str
    file: tuple[tuple[str, str], ...]
    version: versions.RegisteredVersion | None
    settings: tuple[tuple[str, str], ...] = ()
    disagreements: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Writes it for a person."""
        rows = [("file says", ""), *((f"  {name}", value) for name, value in self.file)] if self.file else []
        if self.version is None:
            rows.append(("registry", "does not know it: only what the file says of itself is known"))
        else:
            names, tags = ", ".join(self.version.aliases), self.version.tags
            known = f"{self.version.model_name} version {self.version.version}"
            rows.append(("registry", f"{known} ({names})" if names else known))
            rows += [("  run", self.version.run_id), ("  package sha256", self.version.digest)]
            rows += [(f"  {shown}", tags[tag]) for tag, shown in _SHOWN_TAGS.items() if tags.get(tag)]
            rows += [(f"  {section}", text) for section, text in self.settings]
        lines = [self.title, render_table(rows, "l")]
        return "\n".join([*lines, *(f"DISAGREE  {one}" for one in self.disagreements)])


def trace(store: Store | None, model_name: str, asked: str) -> list[Trace]:
    """Traces the origin of a file, version, alias or run, or of every version that came from some data.

    `asked` is the path of a .mlpackage or .onnx, a version's number, an alias, a run's id, or a data hash (DVC's, six
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
    found: list[versions.RegisteredVersion] = []
    if not asked.isdecimal() or len(asked) >= 6:  # a number stays a version's, however long
        known = (
            versions.list_versions(store, model_name) if _RUN.fullmatch(asked) or _DATA_HASH.fullmatch(asked) else []
        )
        found = [one for one in known if one.run_id == asked or one.tags.get("data.md5", "").startswith(asked)]
    return [_trace_version(store, one) for one in found or [versions.get_version(store, model_name, asked)]]


def _trace_file(store: Store | None, model_name: str, path: Path) -> Trace:
    metadata, digest = read_file_metadata(path), digest_file(path)
    title = f"{path}: sha256 {digest}"
    if store is None:
        return Trace(title, _says(metadata), None)
    version = versions.find_version(store, model_name, digest) or _find_form(store, model_name, digest)
    if version is None:
        return Trace(title, _says(metadata), None, disagreements=tuple(_suspect(store, model_name, metadata)))
    return _describe(store, title, version, metadata)


def _trace_version(store: Store, version: versions.RegisteredVersion) -> Trace:
    """Compares the store's answer with what its own package says."""
    title = f"{version.model_name} version {version.version}"
    try:
        return _describe(store, title, version, read_file_metadata(versions.package_path(store, version)))
    except PocketAffectError as error:
        return Trace(title, (), version, _settings(store, version), (error.in_one_line(),))


def _describe(store: Store, title: str, version: versions.RegisteredVersion, metadata: Mapping[str, str]) -> Trace:
    says, stored = metadata.get("origin_data_md5"), version.tags.get("data.md5")
    wrong = () if says == stored else (f"data: the file says {says}, the store {stored}",)
    return Trace(title, _says(metadata), version, _settings(store, version), wrong)


def _find_form(store: Store, model_name: str, digest: str) -> versions.RegisteredVersion | None:
    """Finds the version that this file is the ONNX twin or the classifier form of."""
    for tag in (TWIN_TAG, CLASSIFIER_TAG):
        found = versions.search_versions(store.client(), f"name = '{model_name}' and tags.`{tag}` = '{digest}'")
        if found:
            return versions.get_version(store, model_name, min(int(one.version) for one in found))
    return None


def _says(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    shown = [(name, metadata[key]) for key, name in _ORIGIN.items() if key in metadata]
    shown += [(key, metadata[key]) for key in ("precision", "version", "author", "licence") if metadata.get(key)]
    return tuple(shown) or (("origin", "nothing: not made by this pipeline, or its metadata was removed"),)


def _settings(store: Store, version: versions.RegisteredVersion) -> tuple[tuple[str, str], ...]:
    params = sorted(store.client().get_run(version.run_id).data.params.items()) if version.run_id else []
    lines = []
    for section in DECIDING_PARAMS:
        values = [f"{name.partition('.')[2]}={value}" for name, value in params if name.startswith(f"{section}.")]
        lines += [(section, ", ".join(values))] if values else []
    return tuple(lines)


def _suspect(store: Store, model_name: str, metadata: Mapping[str, str]) -> Iterator[str]:
    """Warns of a file that says the origin of a version but has other bytes: it was changed after it was made."""
    for version in versions.list_versions(store, model_name):
        if version.tags.get("data.md5") != metadata.get("origin_data_md5"):
            continue
        try:
            theirs = read_file_metadata(versions.package_path(store, version))
        except PocketAffectError:
            continue
        if all(theirs.get(key) == metadata.get(key) for key in _ORIGIN):
            known = f"version {version.version}, whose package has sha256 {version.digest}"
            yield f"bytes: the file says the origin of {known}"


def find_trial(client: MlflowClient, experiment: str, settings: Mapping[str, object]) -> dict[str, str]:
    """Finds study and number of the sweep's trial that has these settings, as tags; nothing where no trial has.

    `pocketaffect sweep` logs a run for each trial in an experiment beside the pipeline's, with the settings that it
    searched as the run's parameters, and those that all trials shared at the study's own run; `pocketaffect sweep
    adopt` writes a trial's into params.yaml. A version whose settings are a trial's says so, adopted or typed.
    """
    found = client.get_experiment_by_name(f"{experiment}{SUFFIX}")
    if found is None:
        return {}
    fitting = [
        run
        for run in versions.search_all(client.search_runs, [found.experiment_id], f"tags.`{OUTCOME_TAG}` = '{_DONE}'")
        if run.data.params and _agree(run.data.params, settings)
    ]
    for run in sorted(fitting, key=lambda run: run.data.metrics.get(_SCORE, 0.0), reverse=True):
        study = client.get_run(run.data.tags[PARENT_TAG]).data.params
        asked = {setting: study[name] for name, setting in _OF_THE_STUDY.items() if name in study}
        shared = {name: value for name, value in study.items() if name in settings}
        if _agree({**shared, **asked}, settings):
            return {name: run.data.tags[name] for name in (STUDY_TAG, TRIAL_TAG)}
    return {}


def _agree(logged: Mapping[str, str], settings: Mapping[str, object]) -> bool:
    return all(name in settings and _same(value, settings[name]) for name, value in logged.items())


def _same(logged: str, value: object) -> bool:
    """Tells whether two settings are equal: a trial may have logged 2 where a setting is 2.0."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(logged) == float(value)
        except ValueError:
            return False
    return logged == str(value)
