"""Where trials are kept: Optuna's journal in a file of this machine, or a database for many machines.

The journal's two weak points are fixed here. Optuna's own locks are files that a killed process leaves behind (the
others wait 30 s, then take them by force); the kernel's lock ends with its process. And a write that was cut short
leaves half a line, on which every later reader would fail; the next writer removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store.database import TABLES_OF_MLFLOW
from pocketaffect.registry.store.postgresql import creation_lock, hide_password, list_tables, shared_database_error
from pocketaffect.sweep.internals import get_database

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNAL: Final = "journal"
JOURNAL_FILE: Final = "journal.log"

HEARTBEAT_SECONDS: Final = 20
GRACE_SECONDS: Final = 90
"""A database's worker that was silent for this long is taken for dead."""

CONNECT_SECONDS: Final = 10

VARIABLE: Final = re.compile(r"\$(?:\{\w+\}|\w+)")
"""Name of an environment's variable in an address."""


class Journal(JournalFileBackend):
    """Optuna's journal under a lock that ends with its process, whose torn last line the next writer removes."""

    def __init__(self, file: Path) -> None:
        self._file, self._held = file, FileLock(f"{file}.lock")
        super().__init__(str(file), self._held)  # type: ignore[arg-type]  # has the two methods of Optuna's locks

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends whole lines to whole lines."""
        with self._held:
            _cut_torn_line(self._file)
            super().append_logs(logs)  # takes the lock once more, which one thread may


def open_storage(
    address: str, folder: Path, on_stale: Callable[[Study, FrozenTrial], None] | None = None
) -> BaseStorage:
    """Opens the storage of `sweep.storage`.

    `on_stale` is called with a trial whose worker fell silent, where the storage itself notices.

    Raises:
        PocketAffectError: It cannot be reached or written, is of another version, or is of a kind that loses trials.
    """
    if address == JOURNAL:
        return _open_journal(folder)
    return _open_database(address, on_stale)


@contextlib.contextmanager
def hold_study(storage: BaseStorage, study_name: str, folder: Path) -> Iterator[None]:
    """Holds a study against all other workers, also on other machines, while trials are counted and handed out."""
    backend = get_database(storage)
    if backend is not None and backend.engine.dialect.name == "postgresql":
        from sqlalchemy import text

        key = int.from_bytes(hashlib.sha256(study_name.encode()).digest()[:8], "big", signed=True)
        with backend.engine.begin() as connection:  # the lock ends with the transaction, or the connection
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "study.lock"):
        yield


def _open_journal(folder: Path) -> BaseStorage:
    from optuna.storages import JournalStorage

    file = folder / JOURNAL_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(file)
        return JournalStorage(journal)
    except OSError as error:
        raise PocketAffectError(
            f"{file}: the sweep's journal cannot be opened", found=error, todo="make its folder writable"
        ) from None
    except (ValueError, KeyError) as error:  # JSON's error is a ValueError
        raise PocketAffectError(
            f"{file}: damaged",
            found=error,
            todo="move it aside (its trials are lost), or repair the line; then repeat the command",
        ) from None


def _cut_torn_line(file: Path) -> None:
    with file.open("rb+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if not end:
            return
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def _open_database(address: str, on_stale: Callable[[Study, FrozenTrial], None] | None) -> BaseStorage:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    plain = read_address(address)
    setting, shown = "params.yaml: sweep.storage", hide_password(plain)
    try:
        with creation_lock(plain, setting=setting) as connection:
            if list_tables(connection) & TABLES_OF_MLFLOW:
                raise shared_database_error(setting, shown, "MLflow's runs")
            return RDBStorage(
                plain,
                engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=on_stale,
            )
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = " ".join(str(error).split("(Background")[0].split())
        raise PocketAffectError(
            f"params.yaml: sweep.storage {shown}: cannot be used",
            found=reason,
            todo="look at the database, and at what this user may do there; `journal` needs none",
        ) from None
    except RuntimeError as error:  # Optuna's word for tables of another version
        raise PocketAffectError(
            f"params.yaml: sweep.storage {shown}: its tables are another Optuna's",
            found=error,
            todo="optuna storage upgrade --storage ADDRESS, or name another database",
        ) from None


def read_address(address: str) -> str:
    """Puts the environment's values in place of `${NAME}` or `$NAME`; a password among them needs no escaping.

    Raises:
        PocketAffectError: No PostgreSQL address, or a variable that is not set.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    missing = [name for name in VARIABLE.findall(address) if name.strip("${}") not in os.environ]
    if missing:
        raise PocketAffectError(
            f"params.yaml: sweep.storage names {', '.join(missing)}, which the environment does not have",
            found=hide_password(address),
            todo="export it, then repeat the command",
        )

    def look_up(name: re.Match[str]) -> str:
        return os.environ[name[0].strip("${}")]

    user, at, place = address.rpartition("@")
    escaped = VARIABLE.sub(lambda name: quote(look_up(name), safe=":"), user)
    full = f"{escaped}{at}{VARIABLE.sub(look_up, place)}"
    try:
        known = make_url(full).get_backend_name() == "postgresql"
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise _refuse(full) from None
    if not known:
        raise _refuse(full)
    return full


def _refuse(address: str) -> PocketAffectError:
    return PocketAffectError(
        "params.yaml: sweep.storage",
        found=hide_password(address),
        allowed="journal, or postgresql+psycopg://user:${PASSWORD}@host/database",
        todo="SQLite and others lose trials when several processes write",
    )
