"""Makes a package a version: once for each distinct package, whole or not at all, from any number of processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.checkout import holds_commit
from pocketaffect.config import RegisterParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import explain_failed_write
from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG, NO_COMMIT, NO_GIT, Lineage
from pocketaffect.registry.store import runs, versions
from pocketaffect.registry.store.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

DESCRIPTION: Final = (
    "Eight expressions, valence and arousal from a face. `candidate` is the newest version, `champion` the one that "
    "`pocketaffect promote` let through; `pocketaffect registry` lists them."
)

RUNS: Final = "Runs of `dvc repro`: one for each distinct package, which is a version of the registered model."


def register_package(
    store: Store, register: RegisterParams, record: runs.RunRecord, *, root: Path | None = None
) -> versions.RegisteredVersion:
    """Records the run and makes its package a version, under the alias `candidate` unless a DVC experiment made it.

    The same bytes again give the version they already have, also from several processes at once; from a clean commit
    they clear a version that was registered from uncommitted changes, by an experiment, or from a commit that was
    replaced since (amend, squash), as the repository at `root` says. Killed at any point, the same call completes it: a
    run counts as finished only once its version exists, and one left without it is marked FAILED and loses its files,
    which would fill the disk with every attempt.

    Raises:
        PocketAffectError: A file is missing, the registry's stored package is not what was registered, or the
            store fails (disk full, server gone).
    """
    missing = [str(path) for path in (*record.artifacts, record.package, *record.companions) if not path.exists()]
    if missing:
        raise PocketAffectError("files to register are missing", found=", ".join(missing), todo="dvc repro")
    name = register.model_name
    with _named_failures(name, store), store.locked():
        client = store.client()
        version = versions.find_version(store, name, record.digest)
        if version is None:
            version = _make_version(store, client, register, record)
        else:
            _take_back(client, version, record)
            versions.package_path(store, version)  # what the registry holds must still be these bytes
            runs.end_run(client, version.run_id, record, name, version.version)
            _renew_commit(client, version, record.lineage, root)
        if not record.lineage.experiment:
            client.set_registered_model_alias(name, versions.CANDIDATE, str(version.version))
        return replace(versions.get_version(store, name, version.version), created=version.created)


def _make_version(
    store: Store, client: MlflowClient, register: RegisterParams, record: runs.RunRecord
) -> versions.RegisteredVersion:
    name, experiment_id = register.model_name, store.experiment_id(register.experiment, RUNS)
    _end_interrupted(store, client, experiment_id, record.digest)
    run = runs.start_run(client, experiment_id, record, f"{name}-{record.digest[:8]}")
    run_id, source = run.info.run_id, f"{run.info.artifact_uri}/{runs.MODEL_FOLDER}"
    try:
        runs.log_run(client, run_id, record)
        tags = record.version_tags() | runs.log_files(client, run_id, record)
        stored = versions.RegisteredVersion(name, 0, record.digest, run_id, source, tags=tags)
        versions.package_path(store, stored)  # a copy cut short must not become a version
        runs.show_model(client, run, record)
        versions.ensure_model(client, name, description=DESCRIPTION)
        made = client.create_model_version(name, source, run_id, tags=tags, description=record.description)
    except BaseException:
        with contextlib.suppress(Exception):  # the store may be what failed
            _abandon(client, run_id)
        raise
    first = versions.find_version(store, name, record.digest)
    if first is not None and first.version != int(made.version):
        # Another machine was first: the store's lock keeps this one's processes apart, on a server the lower
        # number stays.
        client.delete_model_version(name, str(made.version))
        _abandon(client, run_id)
        return first
    runs.end_run(client, run_id, record, name, int(made.version))
    return replace(stored, version=int(made.version), created=True)


def _end_interrupted(store: Store, client: MlflowClient, experiment_id: str, digest: str) -> None:
    """Ends runs that killed registrations left; on a shared server, where others may be at work, keeps their files."""
    shared = store.artifact_root is None
    wanted = f"= '{digest}'" if shared else "LIKE '%'"
    unfinished = f"tags.`{runs.DIGEST_TAG}` {wanted} and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], filter_string=unfinished):
        if shared:
            client.set_terminated(run.info.run_id, "FAILED")
        else:
            _abandon(client, run.info.run_id)


def _abandon(client: MlflowClient, run_id: str) -> None:
    """Drops a run that came to no version; one whose process ended after that is finished."""
    if versions.search_versions(client, f"run_id = '{run_id}'"):
        client.set_terminated(run_id)
    else:
        runs.drop_run(client, run_id)


def _take_back(client: MlflowClient, version: versions.RegisteredVersion, record: runs.RunRecord) -> None:
    """Gives an archived version that is needed after all its files again, if `gc` removed them."""
    number = str(version.version)
    if versions.REMOVED_TAG in version.tags:
        for key, value in runs.log_files(client, version.run_id, record).items():
            client.set_model_version_tag(version.model_name, number, key, value)
    for tag in {versions.ARCHIVED_TAG, versions.REMOVED_TAG} & version.tags.keys():
        client.delete_model_version_tag(version.model_name, number, tag)


def _renew_commit(
    client: MlflowClient, version: versions.RegisteredVersion, lineage: Lineage, root: Path | None
) -> None:
    """Puts the commit that holds what the same bytes are made of in the place of one that does not, or is gone."""
    old, dirty = version.tags.get("git.commit", ""), version.tags.get("git.dirty") == "true"
    experiment = version.tags.get(EXPERIMENT_TAG)
    replaced = root is not None and old != lineage.commit and not holds_commit(root, old)
    if lineage.dirty or lineage.commit in (NO_GIT, NO_COMMIT) or not (dirty or replaced or experiment):
        return
    if experiment and (lineage.experiment or (root is not None and not holds_commit(root, lineage.commit, head=False))):
        return
    made = f"{old}{' with changes' if dirty else ''}{f', DVC experiment {experiment}' if experiment else ''}"
    first = version.tags.get(versions.FIRST_COMMIT_TAG) or made
    tags = lineage.to_tags() | {versions.FIRST_COMMIT_TAG: first}
    for key, value in sorted(tags.items(), key=lambda tag: tag[0] == "git.dirty"):  # last, so that a kill repeats it
        client.set_model_version_tag(version.model_name, str(version.version), key, value)
        client.set_tag(version.run_id, key, value)
    if experiment:
        client.delete_tag(version.run_id, EXPERIMENT_TAG)
        client.delete_model_version_tag(version.model_name, str(version.version), EXPERIMENT_TAG)


@contextlib.contextmanager
def _named_failures(model_name: str, store: Store) -> Iterator[None]:
    """Says failures of disk, database and server in the user's words."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (OSError, MlflowException) as error:
        raise explain_failed_write(error, store.artifact_root or Path()) or PocketAffectError(
            f"model {model_name!r} could not be registered",
            found=" ".join(str(error).split())[:400],
            todo="`pocketaffect doctor`, fix what it names, then repeat the command",
        ) from error
