"""Versions of the model: one for each distinct package, recorded with the run that made it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.store.runs import (
    CONTENTS_FILE,
    CONTENTS_TAG,
    DIGEST_TAG,
    MODEL_FOLDER,
    PACKAGE_TAG,
)
from pocketaffect.registry.store.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
FIRST_COMMIT_TAG: Final = "git.first_commit"
"""Tag: the commit of the first registration, where that one had uncommitted changes or was replaced since."""


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
    """The version whose package has this digest (`package_digest`), or None."""
    client = store.client()
    versions = search_versions(client, f"name = '{model_name}' and tags.`{DIGEST_TAG}` = '{digest}'")
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


def list_versions(store: Store, model_name: str) -> list[RegisteredVersion]:
    """All versions of a model with their aliases, oldest first."""
    numbers = sorted(int(one.version) for one in search_versions(store.client(), f"name = '{model_name}'"))
    return [get_version(store, model_name, number) for number in numbers]


def aliased_version(store: Store, model_name: str, alias: str) -> RegisteredVersion | None:
    """The version under an alias, or None where nothing bears it."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = store.client().get_registered_model(model_name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return get_version(store, model_name, aliases[alias]) if alias in aliases else None


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
    folder = local_folder(version.source) or _download(store, version)
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


def artifact_path(store: Store, version: RegisteredVersion, name: str) -> Path | None:
    """A registered file of the version's run on this machine, held to its registered bytes; None if it has none.

    Args:
        store: From `open_store`.
        version: From `find_version` or `get_version`.
        name: Place among the run's artifacts, such as `verification.json`.

    Raises:
        PocketAffectError: The file or the list of hashes is gone or has other bytes than were registered.
    """
    expected = _read_contents(store, version).get(name)
    return None if expected is None else _fetch(store, version, name, expected)


def check_forms(store: Store, version: RegisteredVersion) -> None:
    """Holds all that is served of a version to its registered bytes: package, classifier, twin, MLflow's own files.

    Raises:
        PocketAffectError: One of them is gone or has other bytes.
    """
    package_path(store, version)
    forms = {
        name: sha256 for name, sha256 in _read_contents(store, version).items() if name.startswith(f"{MODEL_FOLDER}/")
    }
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as place:
        local = local_folder(version.source)
        if local is None and forms:
            store.client().download_artifacts(version.run_id, MODEL_FOLDER, place)
        for name, sha256 in forms.items():
            _hold(version, (Path(place) if local is None else local.parent) / name, name, sha256)


def _read_contents(store: Store, version: RegisteredVersion) -> Mapping[str, str]:
    """Place -> SHA-256 of all that was registered; nothing for a version of a pocketaffect that kept no list."""
    wanted = version.tags.get(CONTENTS_TAG)
    if wanted is None:
        return {}
    listed: dict[str, str] = json.loads(_fetch(store, version, CONTENTS_FILE, wanted).read_text(encoding="utf-8"))
    return listed


def _fetch(store: Store, version: RegisteredVersion, name: str, sha256: str) -> Path:
    from mlflow.exceptions import MlflowException

    folder = local_folder(version.source)
    if folder is not None:
        return _hold(version, folder.parent / name, name, sha256)
    scratch = tempfile.mkdtemp(prefix="pocketaffect-version-")
    try:
        file = Path(store.client().download_artifacts(version.run_id, name, scratch))
    except (OSError, MlflowException) as error:
        raise _gone(version, name, error) from None
    return _hold(version, file, name, sha256)


def _gone(version: RegisteredVersion, name: str, error: Exception) -> PocketAffectError:
    return PocketAffectError(
        f"version {version.version} of {version.model_name!r}: {name} is gone",
        found=" ".join(str(error).split())[:200],
        todo="restore mlruns/artifacts from a backup",
    )


def _hold(version: RegisteredVersion, file: Path, name: str, sha256: str) -> Path:
    """The file, if it has its registered bytes."""
    try:
        found = hash_file(file)
    except OSError as error:
        raise _gone(version, name, error) from None
    if found != sha256:
        raise PocketAffectError(
            f"version {version.version} of {version.model_name!r}: {name} is not the file that was registered",
            found=f"SHA-256 {found} at {file}",
            allowed=sha256,
            todo="restore mlruns/artifacts from a backup",
        )
    return file


def ensure_model(client: MlflowClient, model_name: str, description: str | None = None) -> None:
    """Makes the registered model where it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def search_versions(client: MlflowClient, wanted: str) -> list[ModelVersion]:
    """All versions that MLflow's filter `wanted` finds."""
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
    numbers = sorted(int(version.version) for version in search_versions(client, f"name = '{model_name}'"))
    return f"aliases {', '.join(aliases) or '(none)'}; versions {', '.join(map(str, numbers)) or '(none)'}"


def local_folder(source: str) -> Path | None:
    """The folder that a version's source names, where it is one on this machine."""
    if source.startswith("file:"):
        return Path(url2pathname(urlsplit(source).path))
    return Path(source) if source.startswith("/") else None


def _download(store: Store, version: RegisteredVersion) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pocketaffect-version-"))
    store.client().download_artifacts(version.run_id, MODEL_FOLDER, str(folder))
    return folder / MODEL_FOLDER
