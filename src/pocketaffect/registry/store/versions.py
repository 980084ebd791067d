"""Versions of the model: one for each distinct package, recorded with the run that made it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage.lineage import digest_file
from pocketaffect.registry.store.runs import CONTENTS_FILE, CONTENTS_TAG, DIGEST_TAG, MODEL_FOLDER, PACKAGE_TAG
from pocketaffect.registry.store.store import Store, advise_register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

T = TypeVar("T")

CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
FIRST_COMMIT_TAG: Final = "git.first_commit"
"""Tag: the commit of the first registration, where that one had uncommitted changes or was replaced since."""

PAGE: Final = 1000
ARCHIVED_TAG: Final = "archived"
REMOVED_TAG: Final = "artifacts.removed"
"""Tag: when `gc` removed a version's files, which are no loss then."""

_RESTORE: Final = (
    "restore mlruns/artifacts from a backup; or delete the version (MlflowClient.delete_model_version), then "
    "`pocketaffect register` from its commit"
)


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


def find_version(store: Store, model_name: str, digest: str) -> RegisteredVersion | None:
    """Finds the version whose package has this digest (`package_digest`), or None."""
    client = store.client()
    versions = search_versions(client, f"name = '{model_name}' and tags.`{DIGEST_TAG}` = '{digest}'")
    if not versions:
        return None
    return get_version(store, model_name, min(int(version.version) for version in versions))


def get_version(store: Store, model_name: str, alias_or_number: str | int) -> RegisteredVersion:
    """Gets the version under an alias such as `candidate`, or with a number.

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
            todo=f"name one of these, or register one: {advise_register()}",
        ) from None
    return RegisteredVersion(
        model_name=model_name,
        version=int(found.version),
        digest=found.tags.get(DIGEST_TAG, ""),
        run_id=found.run_id or "",
        source=store.find_here(str(found.source)),
        aliases=tuple(sorted(found.aliases)),
        tags=dict(sorted(found.tags.items())),
    )


def list_versions(store: Store, model_name: str) -> list[RegisteredVersion]:
    """Lists all versions of a model with their aliases, oldest first."""
    numbers = sorted(int(one.version) for one in search_versions(store.client(), f"name = '{model_name}'"))
    return [get_version(store, model_name, number) for number in numbers]


def aliased_version(store: Store, model_name: str, alias: str) -> RegisteredVersion | None:
    """Finds the version under an alias, or None where nothing bears it."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = store.client().get_registered_model(model_name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return get_version(store, model_name, aliases[alias]) if alias in aliases else None


def package_path(store: Store, version: RegisteredVersion) -> Path:
    """Finds the version's .mlpackage on this machine, after checking that its bytes are those that were registered.

    Returns:
        The store's own file where that lies on this machine (do not change it), else a download.

    Raises:
        PocketAffectError: The package is missing, or its bytes differ from the version's digest.
    """
    name = version.tags.get(PACKAGE_TAG, "")
    if not name or not version.digest:
        raise PocketAffectError(
            f"version {version.version} of {version.model_name!r} was not registered by pocketaffect",
            found=f"no tag {PACKAGE_TAG} or {DIGEST_TAG}",
        )
    return _hold(version, _find(store, version, f"{MODEL_FOLDER}/{name}"), f"{MODEL_FOLDER}/{name}", version.digest)


def artifact_path(store: Store, version: RegisteredVersion, name: str) -> Path | None:
    """Finds a registered file of the version's run on this machine, held to its registered bytes; None if it has none.

    The name is its place among the run's artifacts, such as `verification.json`.

    Raises:
        PocketAffectError: The file or the list of hashes is gone or has other bytes than were registered.
    """
    expected = _read_contents(store, version).get(name)
    return None if expected is None else _hold(version, _find(store, version, name), name, expected)


def check_forms(store: Store, version: RegisteredVersion) -> None:
    """Holds all that is served of a version to its registered bytes: package, classifier, twin, MLflow's own files.

    Raises:
        PocketAffectError: One of them is gone or has other bytes.
    """
    package_path(store, version)
    contents = _read_contents(store, version)
    folder = _find(store, version, MODEL_FOLDER).parent if contents else Path()
    for name, sha256 in contents.items():
        if name.startswith(f"{MODEL_FOLDER}/"):
            _hold(version, folder / name, name, sha256)


def local_folder(source: str) -> Path | None:
    """Finds the folder where the source is one on this machine."""
    if source.startswith("file:"):
        return Path(url2pathname(urlsplit(source).path))
    return Path(source) if source.startswith("/") else None


def _read_contents(store: Store, version: RegisteredVersion) -> Mapping[str, str]:
    """Reads place -> SHA-256 of all that was registered; nothing for a version of a pocketaffect that kept no list."""
    wanted = version.tags.get(CONTENTS_TAG)
    if wanted is None:
        return {}
    file = _hold(version, _find(store, version, CONTENTS_FILE), CONTENTS_FILE, wanted)
    listed: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return listed


def _find(store: Store, version: RegisteredVersion, place: str) -> Path:
    """Finds a file or folder of the version's run, downloaded where the store is not on this machine."""
    from mlflow.exceptions import MlflowException

    folder = local_folder(version.source)
    if folder is not None:
        return folder.parent / place
    try:
        scratch = tempfile.mkdtemp(prefix="pocketaffect-version-")
        return Path(store.client().download_artifacts(version.run_id, place, scratch))
    except (OSError, MlflowException) as error:
        raise _gone(version, place, error) from None


def _hold(version: RegisteredVersion, path: Path, place: str, digest: str) -> Path:
    """Returns the file or package, if it has its registered bytes."""
    if not path.exists():
        raise _gone(version, place, f"nothing at {path}")
    try:
        found = digest_file(path)
    except OSError as error:
        raise _gone(version, place, error) from None
    if found != digest:
        raise PocketAffectError(
            f"version {version.version} of {version.model_name!r}: {place} is not what was registered",
            found=f"SHA-256 {found} at {path}",
            allowed=digest,
            todo=_RESTORE,
        )
    return path


def _gone(version: RegisteredVersion, place: str, found: object) -> PocketAffectError:
    return PocketAffectError(
        f"version {version.version} of {version.model_name!r}: {place} is gone",
        found=" ".join(str(found).split())[:200],
        todo=_RESTORE,
    )


def ensure_model(client: MlflowClient, model_name: str, description: str | None = None) -> None:
    """Makes the registered model where it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def search_versions(client: MlflowClient, wanted: str) -> list[ModelVersion]:
    """Finds all versions that MLflow's filter `wanted` matches."""
    return search_all(client.search_model_versions, wanted)


def search_all(search: Callable[..., PagedList[T]], *wanted: object) -> list[T]:
    """Asks one of MLflow's searches for page after page, and gives what all of them hold."""
    from mlflow.utils import get_results_from_paginated_fn

    found: list[T] = get_results_from_paginated_fn(  # type: ignore[no-untyped-call]
        lambda size, token: search(*wanted, max_results=size, page_token=token), PAGE
    )
    return found


def _known(client: MlflowClient, model_name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        aliases = sorted(client.get_registered_model(model_name).aliases)
    except MlflowException:
        return "nothing is registered under this name yet"
    numbers = sorted(int(version.version) for version in search_versions(client, f"name = '{model_name}'"))
    return f"aliases {', '.join(aliases) or '(none)'}; versions {', '.join(map(str, numbers)) or '(none)'}"
