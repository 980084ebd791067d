"""Versions of the model: one for each distinct package, recorded with the run that made it."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pocketaffect.coreml.package import package_digest
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage import Lineage
from pocketaffect.registry.runs import (
    DIGEST_TAG,
    MODEL_FOLDER,
    PACKAGE_TAG,
    RunRecord,
    fail_interrupted_runs,
    finish_run,
    log_run,
)
from pocketaffect.registry.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE: Final = "candidate"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry."""

    model_name: str
    version: int
    digest: str
    run_id: str
    source: str
    """Location of the folder that holds the package."""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    created: bool = False
    """Whether this call made it; False for a version that was there before."""


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
) -> RegisteredVersion:
    """Records the run and makes its package a version under the alias `candidate`.

    The same bytes again give the version they already have, also from several processes at once. Killed at any
    point, the same call completes it: a run counts as finished only once its version exists, and a run left
    without one is marked FAILED.

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

    Raises:
        PocketAffectError: A file is missing, the registry's stored package is not what was registered, or the
            store fails (disk full, server gone).
    """
    missing = [str(path) for path in artifacts if not path.exists()]
    if missing:
        raise PocketAffectError("files to register are missing", found=", ".join(missing), todo="dvc repro")
    record = RunRecord(package, package_digest(package), params, history, metrics, artifacts, lineage, description)
    with _named_failures(model_name), store.locked():
        client = store.client()
        version = find_version(store, model_name, record.digest)
        if version is None:
            version = _make_version(store, client, model_name, experiment, record)
        else:
            package_path(store, version)  # what the registry holds must still be these bytes
            finish_run(client, version.run_id)
        client.set_registered_model_alias(model_name, CANDIDATE, str(version.version))
        current = get_version(store, model_name, version.version)
        return replace(current, created=version.created)


def find_version(store: Store, model_name: str, digest: str) -> RegisteredVersion | None:
    """The version whose package has this digest (`package_digest`), or None."""
    client = store.client()
    versions = _search(client, f"name = '{model_name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    if not versions:
        return None
    return get_version(store, model_name, min(int(version.version) for version in versions))


def get_version(store: Store, model_name: str, alias_or_number: str | int) -> RegisteredVersion:
    """The version under an alias such as `candidate`, or with a number.

    Raises:
        PocketAffectError: There is none; the message lists what there is.
    """
    from mlflow.exceptions import MlflowException

    client = store.client()
    wanted = str(alias_or_number).strip().removeprefix("@")
    try:
        if wanted.isdecimal():
            found = client.get_model_version(model_name, wanted)
        else:  # MLflow answers for an alias without the version's other aliases
            number = client.get_model_version_by_alias(model_name, wanted).version
            found = client.get_model_version(model_name, str(number))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise PocketAffectError(
            f"model {model_name!r} has no version {wanted!r}",
            found=error.message,
            allowed=_known(client, model_name),
            todo="name one of these, or register one with dvc repro",
        ) from None
    return RegisteredVersion(
        model_name=model_name,
        version=int(found.version),
        digest=found.tags.get(DIGEST_TAG, ""),
        run_id=found.run_id or "",
        source=str(found.source),
        aliases=tuple(sorted(found.aliases)),
        tags=dict(sorted(found.tags.items())),
    )


def package_path(store: Store, version: RegisteredVersion, destination: Path | None = None) -> Path:
    """The version's .mlpackage on this machine, after checking that its bytes are those that were registered.

    Args:
        store: From `open_store`.
        version: From `find_version` or `get_version`.
        destination: Folder to copy the package to. Without it the store's own file is answered where it lies
            on this machine (do not change it), else a download in a new temporary folder.

    Raises:
        PocketAffectError: The package is missing, or its bytes differ from the version's digest.
    """
    name = version.tags.get(PACKAGE_TAG, "")
    title = f"version {version.version} of {version.model_name!r}"
    if not name or not version.digest:
        raise PocketAffectError(
            f"{title} was not registered by pocketaffect", found=f"no tag {PACKAGE_TAG} or {DIGEST_TAG}"
        )
    folder = _local_folder(version.source) or _download(store, version)
    package = folder / name
    again = (
        "restore mlruns/artifacts from a backup, or delete this version (MlflowClient.delete_model_version) "
        "and register again with dvc repro --force --single-item register"
    )
    if not package.is_dir():
        raise PocketAffectError(f"{title}: its package is gone", found=f"nothing at {package}", todo=again)
    digest = package_digest(package)
    if digest != version.digest:
        raise PocketAffectError(
            f"{title}: its package is not the one that was registered",
            found=f"SHA-256 {digest} at {package}",
            allowed=version.digest,
            todo=again,
        )
    if destination is None:
        return package
    destination.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(package, destination / name))


def _make_version(
    store: Store, client: MlflowClient, model_name: str, experiment: str, record: RunRecord
) -> RegisteredVersion:
    experiment_id = store.experiment_id(experiment)
    shared = store.artifact_root is None
    fail_interrupted_runs(client, experiment_id, record.digest if shared else None)
    tags = record.lineage.to_tags() | {DIGEST_TAG: record.digest, PACKAGE_TAG: record.package.name}
    run_tags = tags | {"mlflow.note.content": record.description}
    run = client.create_run(experiment_id, tags=run_tags, run_name=f"{model_name}-{record.digest[:8]}")
    run_id = run.info.run_id
    try:
        log_run(client, run_id, record)
        stored = RegisteredVersion(
            model_name, 0, record.digest, run_id, f"{run.info.artifact_uri}/{MODEL_FOLDER}", tags=tags
        )
        package_path(store, stored)  # a copy cut short must not become a version
        _ensure_model(client, model_name)
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


def _ensure_model(client: MlflowClient, model_name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _search(client: MlflowClient, wanted: str) -> list[ModelVersion]:
    versions: list[ModelVersion] = []
    token: str | None = None
    while token is None or token:
        page = client.search_model_versions(wanted, max_results=1000, page_token=token)
        versions.extend(page)
        token = page.token or ""
    return versions


def _known(client: MlflowClient, model_name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        aliases = sorted(client.get_registered_model(model_name).aliases)
    except MlflowException:
        return "nothing is registered under this name yet"
    numbers = sorted(int(version.version) for version in _search(client, f"name = '{model_name}'"))
    return f"aliases {', '.join(aliases) or '(none)'}; versions {', '.join(map(str, numbers)) or '(none)'}"


def _local_folder(source: str) -> Path | None:
    """The folder where the source is one on this machine."""
    if source.startswith("file:"):
        return Path(url2pathname(urlsplit(source).path))
    return Path(source) if source.startswith("/") else None


def _download(store: Store, version: RegisteredVersion) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pocketaffect-version-"))
    store.client().download_artifacts(version.run_id, MODEL_FOLDER, str(folder))
    return folder / MODEL_FOLDER


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
