"""Makes a package a version: once for each distinct package, whole or not at all, from any number of processes."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.runs import (
    DIGEST_TAG,
    MODEL_FOLDER,
    PACKAGE_TAG,
    RunRecord,
    fail_interrupted_runs,
    finish_run,
    log_contents,
    log_run,
)
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import (
    CANDIDATE,
    FIRST_COMMIT_TAG,
    RegisteredVersion,
    ensure_model,
    find_version,
    get_version,
    package_path,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register_package(
    store: Store,
    *,
    model_name: str,
    experiment: str,
    package: Path,
    params: Mapping[str, object],
    history: Sequence[Mapping[str, object]],
    metrics: Mapping[str, float],
    artifacts: Sequence[Path],
    lineage: Lineage,
    description: str,
    companions: Sequence[Path] = (),
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Records the run and makes its package a version under the alias `candidate`.

    The same bytes again give the version they already have, also from several processes at once; from a clean commit
    they clear a version that was registered from uncommitted changes. Killed at any point, the same call completes
    it: a run counts as finished only once its version exists, and a run left without one is marked FAILED.

    Args:
        store: From `open_store`.
        model_name: The registered model.
        experiment: MLflow's experiment; made where missing.
        package: The .mlpackage.
        params: Settings under dotted names.
        history: One mapping per epoch: `epoch` (the step) and that epoch's numbers.
        metrics: Final metrics; one that is not finite is left out and named in the tag metrics.not_finite.
        artifacts: Files and folders kept with the run under their names.
        lineage: Origin of the package; becomes tags of run and version.
        description: Shown with run and version.
        companions: Other forms of the model, kept beside the package; a `.onnx` among them is what
            `mlflow.pyfunc` executes.
        tags: Further tags of the version.

    Raises:
        PocketAffectError: A file is missing, the registry's stored package is not what was registered, or the
            store fails (disk full, server gone).
    """
    missing = [str(path) for path in (*artifacts, *companions) if not path.exists()]
    if missing:
        raise PocketAffectError("files to register are missing", found=", ".join(missing), todo="dvc repro")
    record = RunRecord(
        package,
        package_digest(package),
        params,
        history,
        metrics,
        artifacts,
        lineage,
        description,
        companions,
        tags or {},
    )
    with _named_failures(model_name), store.locked():
        client = store.client()
        version = find_version(store, model_name, record.digest)
        if version is None:
            version = _make_version(store, client, model_name, experiment, record)
        else:
            package_path(store, version)  # what the registry holds must still be these bytes
            finish_run(client, version.run_id)
            _clear_dirtiness(client, version, lineage)
        client.set_registered_model_alias(model_name, CANDIDATE, str(version.version))
        current = get_version(store, model_name, version.version)
        return replace(current, created=version.created)


def _make_version(
    store: Store, client: MlflowClient, model_name: str, experiment: str, record: RunRecord
) -> RegisteredVersion:
    experiment_id = store.experiment_id(experiment)
    shared = store.artifact_root is None
    fail_interrupted_runs(client, experiment_id, record.digest if shared else None)
    tags = record.lineage.to_tags() | {DIGEST_TAG: record.digest, PACKAGE_TAG: record.package.name} | dict(record.tags)
    run_tags = tags | {"mlflow.note.content": record.description}
    run = client.create_run(experiment_id, tags=run_tags, run_name=f"{model_name}-{record.digest[:8]}")
    run_id = run.info.run_id
    try:
        log_run(client, run_id, record)
        tags |= log_contents(client, run_id, record)
        stored = RegisteredVersion(
            model_name, 0, record.digest, run_id, f"{run.info.artifact_uri}/{MODEL_FOLDER}", tags=tags
        )
        package_path(store, stored)  # a copy cut short must not become a version
        ensure_model(client, model_name)
        made = client.create_model_version(model_name, stored.source, run_id, tags=tags, description=record.description)
    except BaseException:
        with contextlib.suppress(Exception):  # the store may be what failed
            client.set_terminated(run_id, "FAILED")
        raise
    first = _first_of_same_bytes(store, client, model_name, int(made.version), record.digest)
    if first is not None:
        client.set_terminated(run_id, "FAILED")
        return first
    client.set_terminated(run_id, "FINISHED")
    return replace(stored, version=int(made.version), created=True)


def _clear_dirtiness(client: MlflowClient, version: RegisteredVersion, lineage: Lineage) -> None:
    """Puts the commit that holds what the same bytes were first made of in the place of the changes to an older one."""
    if version.tags.get("git.dirty") != "true" or lineage.dirty:
        return
    tags = lineage.to_tags() | {FIRST_COMMIT_TAG: f"{version.tags.get('git.commit')} with changes"}
    for key, value in sorted(tags.items(), key=lambda tag: tag[0] == "git.dirty"):  # last, so that a kill repeats it
        client.set_model_version_tag(version.model_name, str(version.version), key, value)
        client.set_tag(version.run_id, key, value)


def _first_of_same_bytes(
    store: Store, client: MlflowClient, model_name: str, number: int, digest: str
) -> RegisteredVersion | None:
    """Gives way to an earlier version of these bytes, which another machine made meanwhile.

    The store's lock keeps this machine's processes apart; on a shared server the lower number stays.
    """
    first = find_version(store, model_name, digest)
    if first is None or first.version == number:
        return None
    client.delete_model_version(model_name, str(number))
    return first


@contextlib.contextmanager
def _named_failures(model_name: str) -> Iterator[None]:
    """Failures of disk, database and server in the user's words."""
    from mlflow.exceptions import MlflowException

    title = f"model {model_name!r} could not be registered"
    try:
        yield
    except OSError as error:
        todo = "free disk space, then dvc repro" if error.errno == errno.ENOSPC else "mend it, then dvc repro"
        raise PocketAffectError(title, found=error, todo=todo) from error
    except MlflowException as error:
        found: Any = " ".join(str(error).split())[:400]
        raise PocketAffectError(title, found=found, todo="pocketaffect doctor, then dvc repro") from error
