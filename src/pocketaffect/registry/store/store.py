"""Opens MLflow's store: the user's server or database, or SQLite in mlruns/, made once and found after a move."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from filelock import FileLock, Timeout

from pocketaffect import paths
from pocketaffect.checkout import find_home
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store import database
from pocketaffect.registry.store.postgresql import is_postgresql, prepare_mlflow
from pocketaffect.telemetry import disable_telemetry

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

LOCK: Final = ".lock"
LOCK_SECONDS: Final = 600
QUIET_SECONDS: Final = 10
"""Seconds that the lock is waited for before a line says so."""

CONNECT_SECONDS: Final = 5
ADDRESS: Final = "MLFLOW_TRACKING_URI"
SHARED_ARTIFACTS: Final = "MLFLOW_DEFAULT_ARTIFACT_ROOT"
"""Variable with the place of files beside a database without a server: `mlflow server` reads the same one."""

EXPERIMENT_KIND: Final = "mlflow.experimentKind"
TRAINING: Final = "custom_model_development"
"""What MLflow's pages take an experiment for, which they otherwise believe to be about language models."""


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps runs and versions."""

    tracking_uri: str
    artifact_root: Path | None
    """Folder of the artifacts; None where a server decides."""
    lock_file: Path
    needs_place: bool = False
    """Whether it is a bare database, which keeps no files."""
    moved: Mapping[str, str] = field(default_factory=dict)
    """Old location of mlruns -> its location now, where a read-only database still names the old one."""

    def client(self) -> MlflowClient:
        """Makes a client for runs and versions of this store alone, whatever MLflow's globals say."""
        from mlflow import MlflowClient

        if self.artifact_root is None:  # then MLFLOW_REGISTRY_URI is the user's to set
            return MlflowClient(tracking_uri=self.tracking_uri)
        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def find_here(self, location: str) -> str:
        """Finds where files lie now, whose location in the store may be from before the repository was moved."""
        for old, new in self.moved.items():
            if location.startswith(f"{old}/"):
                return new + location.removeprefix(old)
        return location

    def experiment_id(self, name: str, description: str = "") -> str:
        """Finds the experiment's id; creates it, with a description, where it does not exist.

        Raises:
            PocketAffectError: It was deleted, so that its name is taken and it takes no runs; or nothing says where
                a shared database's files go.
        """
        client = self.client()
        with self.locked():
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                tags = {EXPERIMENT_KIND: TRAINING, "mlflow.note.content": description}
                return str(client.create_experiment(name, self._new_location(), tags))
        if experiment.lifecycle_stage != "active":
            restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            if self.artifact_root is not None:  # a server's address may hold a password
                restore = f"MLFLOW_TRACKING_URI={self.tracking_uri} {restore}"
            raise PocketAffectError(
                f"MLflow experiment {name!r} was deleted",
                allowed="an active experiment (params.yaml, register.experiment)",
                todo=f"{restore}; or name another experiment",
            )
        if EXPERIMENT_KIND not in experiment.tags:  # of an earlier pocketaffect
            client.set_experiment_tag(experiment.experiment_id, EXPERIMENT_KIND, TRAINING)
        return str(experiment.experiment_id)

    def _new_location(self) -> str | None:
        if self.artifact_root is not None:
            return self.artifact_root.as_uri()
        return _shared_artifacts() if self.needs_place else None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the store against other processes on this machine; may be entered again inside itself.

        Raises:
            PocketAffectError: Another process kept it too long, or the lock file cannot be written.
        """
        lock = FileLock(self.lock_file, is_singleton=True)
        try:
            try:
                lock.acquire(timeout=QUIET_SECONDS)
            except Timeout:
                log.warning("%s: held by another process; waiting up to %d s", self.lock_file, LOCK_SECONDS)
                lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise PocketAffectError(
                f"{self.lock_file}: held by another process for over {LOCK_SECONDS} s",
                todo="wait for the other registration, or end it, and repeat",
            ) from None
        except OSError as error:
            raise PocketAffectError(
                f"{self.lock_file}: cannot be locked",
                found=error,
                todo="make the folder writable, on a file system with locks",
            ) from None
        try:
            yield
        finally:
            lock.release()


def find_store(root: Path = Path()) -> Store | None:
    """Finds the store of the repository at `root` to read from, also where it cannot be written; None if there is none.

    Raises:
        PocketAffectError: As `open_store`, but for a read-only one.
    """
    disable_telemetry()
    root = find_home(root)
    folder = root.resolve() / database.STORE
    if address := _other_address(folder):
        return _open_remote(address)
    problem = database.find_problem(root, to_write=True)
    if problem is None and database.has_content(folder / database.DATABASE):
        return _open_local(root)
    if problem := problem and database.find_problem(root, to_write=False):
        raise problem
    return (
        _local_store(folder, database.moved_bases(root)) if database.has_content(folder / database.DATABASE) else None
    )


def require_store(root: Path = Path(), *, to_write: bool = False) -> Store:
    """Finds a store that is there; one that is read-only will not do `to_write`.

    Raises:
        PocketAffectError: There is none, or as `open_store`.
    """
    store = find_store(root)
    if store is None:
        raise PocketAffectError(
            "no store here yet",
            found=f"no {database.STORE / database.DATABASE}",
            todo=f"{advise_register(root)}; or registry restore",
        )
    return open_store(root) if to_write else store


def advise_register(root: Path = Path()) -> str:
    """Says which commands register what is here: where DVC finds its outputs up to date, `dvc repro` does not."""
    made = (root / paths.VERIFICATION).is_file()
    return "`pocketaffect register`" if made else "`dvc repro`, then `pocketaffect register`"


def open_store(root: Path = Path()) -> Store:
    """Opens the store of the repository at `root`: MLFLOW_TRACKING_URI where set, else root/mlruns, made if missing.

    A DVC experiment in a temporary folder, which DVC deletes, uses the store of the repository that it belongs to.
    A repository that was moved or copied finds its artifacts again: MLflow writes absolute locations, which are
    rewritten here, in one transaction.

    Raises:
        PocketAffectError: The store is in MLflow's old file format, of another schema, damaged, half made,
            read-only or locked, or the server does not answer.
    """
    disable_telemetry()
    root = find_home(root)
    folder = root.resolve() / database.STORE
    if address := _other_address(folder):
        return _open_remote(address)
    if problem := database.find_problem(root, to_write=True):
        raise problem
    (folder / database.ARTIFACTS).mkdir(parents=True, exist_ok=True)
    return _open_local(root)


def _open_local(root: Path) -> Store:
    store = _local_store(root.resolve() / database.STORE)
    with store.locked():
        if not database.has_content(store.lock_file.with_name(database.DATABASE)):
            _create_database(store.lock_file.parent)
        elif moved := database.moved_bases(root):
            database.rewrite_locations(root, moved)
    return store


def _local_store(folder: Path, moved: Mapping[str, str] | None = None) -> Store:
    return Store(
        f"sqlite:///{folder / database.DATABASE}", folder / database.ARTIFACTS, folder / LOCK, moved=moved or {}
    )


def _create_database(folder: Path) -> None:
    """Makes the whole database under another name, so that a killed process leaves none rather than half of one."""
    unfinished = folder / f".{database.DATABASE}.new"
    for leftover in folder.glob(f"{unfinished.name}*"):  # and SQLite's journal of it
        leftover.unlink()
    database.create_tables(f"sqlite:///{unfinished}", (folder / database.ARTIFACTS).as_uri())
    unfinished.replace(folder / database.DATABASE)


def _other_address(folder: Path) -> str:
    """Gives the address of another store than the repository's own, as MLFLOW_TRACKING_URI names it; "" for none."""
    address = os.environ.get(ADDRESS, "").strip()
    return "" if _is_local_database(address, folder / database.DATABASE) else address


def _is_local_database(address: str, file: Path) -> bool:
    """Tells whether the address names the repository's own database, such as sqlite:///mlruns/mlflow.db."""
    if not address.startswith("sqlite:///"):
        return False
    return Path(unquote(address.removeprefix("sqlite:///").split("?")[0])).resolve() == file.resolve()


def _open_remote(address: str) -> Store:
    parts = urlsplit(address)
    if parts.scheme in ("", "file") and address not in ("databricks", "uc"):
        raise PocketAffectError(
            f"{ADDRESS}: MLflow's old file format, which MLflow no longer opens",
            found=address,
            allowed="http(s)://…, postgresql://…, mysql://…, sqlite:///…, or unset for mlruns/mlflow.db",
            todo="unset MLFLOW_TRACKING_URI, or set it to a server",
        )
    if parts.scheme in ("http", "https") and parts.scheme not in getproxies():
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise PocketAffectError(
                f"{ADDRESS}: not an address", found=error, allowed="http(s)://host:port, port from 1 to 65535"
            ) from None
        try:
            socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
        except OSError as error:  # MLflow itself would try for minutes
            raise PocketAffectError(
                f"{ADDRESS}: no MLflow server answers at {parts.hostname}:{port}",
                found=error,
                todo="start the server, correct the address, or unset MLFLOW_TRACKING_URI to use mlruns/",
            ) from None
    user = getattr(os, "getuid", int)()  # Windows has no ids, and a temporary folder per user
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    lock_file = Path(tempfile.gettempdir()) / f"pocketaffect-{user}-{name}.lock"
    if not is_postgresql(address):
        return Store(address, None, lock_file)
    prepare_mlflow(address, setting=ADDRESS, artifacts=os.environ.get(SHARED_ARTIFACTS, "").strip() or ".")
    return Store(address, None, lock_file, needs_place=True)


def _shared_artifacts() -> str:
    place = os.environ.get(SHARED_ARTIFACTS, "").strip()
    if "://" not in place and not Path(place).is_absolute():
        raise PocketAffectError(
            f"{SHARED_ARTIFACTS}: where files go; {ADDRESS} names a database, which keeps none",
            found=place or "not set",
            allowed="a folder that all machines see at the same path, or s3://… or gs://…",
            todo=f"set {SHARED_ARTIFACTS}, or let {ADDRESS} name an MLflow server (docs/scaling.md)",
        )
    return place if "://" in place else Path(place).as_uri()
