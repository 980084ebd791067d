"""MLflow's SQLite file, looked at without MLflow: is it usable, and did the repository move since?

MLflow itself answers a missing, corrupt or half-made database with two minutes of retries or with an alembic
traceback, so each way it can be unusable is found here first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from pocketaffect.errors import PocketAffectError

STORE: Final = Path("mlruns")
DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "artifacts"

UNADDRESSABLE: Final = "%?"
"""What no path of a store may hold: MLflow reads the one as the start of an escape, the other as that of a query."""

WAIT_SECONDS: Final = 60
QUICK_CHECK_BYTES: Final = 64 * 2**20
"""A database up to this size is checked page by page (0.1 s); a larger one only by its first pages."""

LOCATIONS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow writes absolute artifact locations (trace_tags under the key mlflow.artifactLocation)."""

_OWN_LOCATION: Final = re.compile(r"^(?P<base>(?:file:|/).*/mlruns)/artifacts(?:/\d+)?/?$")
_MIGRATED_LOCATION: Final = re.compile(r"^(?P<base>(?:file:|/).*/mlruns)/\d+/?$")


@dataclass(frozen=True)
class StoreProblem:
    """Why the store cannot be used, in the words of a `PocketAffectError`."""

    problem: str
    found: str
    allowed: str
    todo: str

    def error(self) -> PocketAffectError:
        """The same as an exception."""
        return PocketAffectError(self.problem, found=self.found, allowed=self.allowed, todo=self.todo)


def find_problem(root: Path, *, to_write: bool) -> StoreProblem | None:
    """What is wrong with root/mlruns; None for a usable store and for one that does not exist yet.

    Args:
        root: The repository.
        to_write: Also require that it can be written; without it the file is opened read-only.
    """
    folder, database = root / STORE, root / STORE / DATABASE
    if problem := find_address_problem(root):
        return problem
    if not _has_content(database):
        return _old_file_store(folder) or (_unwritable(folder) if to_write else None)
    if to_write and (problem := _unwritable(folder)):
        return problem
    try:
        return _wrong_content(database, to_write=to_write)
    except sqlite3.Error as error:
        return _sqlite_problem(database, error)


def find_address_problem(root: Path) -> StoreProblem | None:
    """What is wrong with the place of root/mlruns itself, whether the store exists or not."""
    folder = str(root.resolve() / STORE)
    found = sorted(set(UNADDRESSABLE) & set(folder))
    if not found and not re.search("[\ud800-\udfff]", folder):  # bytes that are no UTF-8: the database keeps text
        return None
    return StoreProblem(
        f"{ascii(folder)[1:-1]}: MLflow cannot address a store in such a path",
        " ".join(found) or "bytes that are no UTF-8",
        f"a path in UTF-8 without {' and '.join(UNADDRESSABLE)}",
        "move the repository, or set MLFLOW_TRACKING_URI to a server",
    )


def known_revisions() -> tuple[frozenset[str], str]:
    """All schema revisions that the installed MLflow knows, and the newest."""
    from alembic.script import ScriptDirectory

    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        raise PocketAffectError("MLflow is not installed", todo="make setup")
    scripts = ScriptDirectory(str(Path(spec.submodule_search_locations[0]) / "store" / "db_migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()), str(scripts.get_current_head())


def moved_bases(root: Path) -> dict[str, str]:
    """Old location of mlruns -> its location now, for every old one that the database still names.

    Experiments made by this package lie in <somewhere>/mlruns/artifacts: any other <somewhere> than `root` means
    that the repository was moved or copied. Folders of a migrated file store (<somewhere>/mlruns/<id>) count
    only where the old one is gone and the new one is there, since they may be another project's.
    """
    folder = root.resolve() / STORE
    moved: dict[str, str] = {}
    with contextlib.closing(_connect(folder / DATABASE, "ro")) as connection:
        locations = [row[0] for row in connection.execute("SELECT artifact_location FROM experiments") if row[0]]
    for location in locations:
        own, migrated = _OWN_LOCATION.match(location), _MIGRATED_LOCATION.match(location)
        match = own or migrated
        if match is None:
            continue
        base = match["base"]
        here = folder.as_uri() if base.startswith("file:") else folder.as_posix()
        new = here + location.removeprefix(base)
        if base != here and (own or (not _exists(location) and _exists(new))):
            moved[base] = here
    return moved


def rewrite_locations(root: Path, moved: dict[str, str]) -> None:
    """Makes every location below an old mlruns point below the new one, in one transaction."""
    with contextlib.closing(_connect(root / STORE / DATABASE, "rw")) as connection, _transaction(connection):
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, column in LOCATIONS:
            if table not in tables:
                continue
            only = " AND key = 'mlflow.artifactLocation'" if table == "trace_tags" else ""
            for old, new in moved.items():
                # Table and column come from LOCATIONS; substr, since LIKE has wildcards that paths hold too.
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE substr({column}, 1, ?) = ?{only}",
                    (new, len(old) + 1, len(old) + 1, old + "/"),
                )


def _has_content(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def _exists(location: str) -> bool:
    return Path(url2pathname(urlsplit(location).path) if location.startswith("file:") else location).exists()


def _connect(database: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(database.resolve()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _wrong_content(database: Path, *, to_write: bool) -> StoreProblem | None:
    with contextlib.closing(_connect(database, "rw" if to_write else "ro")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if database.stat().st_size <= QUICK_CHECK_BYTES:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            if verdict != "ok":
                return _corrupt(database, verdict)
        revision = None
        if "alembic_version" in tables:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            revision = row[0] if row else None
        if problem := _wrong_schema(database, tables, revision):
            return problem
        if to_write:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    return None


def _wrong_schema(database: Path, tables: set[str], revision: str | None) -> StoreProblem | None:
    known, newest = known_revisions()
    allowed = f"an MLflow database of schema {newest}"
    half_made = any(table.startswith("_alembic_tmp_") for table in tables)
    if revision is None or half_made or not {"experiments", "runs", "model_versions"} <= tables:
        found = "tables of an unfinished creation" if half_made or "experiments" in tables else "other tables"
        todo = f"move {database} away (mv {database} {database}.broken) and repeat; nothing can mend it"
        return StoreProblem(f"{database}: not a complete MLflow database", found, allowed, todo)
    if revision == newest:
        return None
    if revision in known:
        todo = f"back up {database}, then: mlflow db upgrade sqlite:///{database}"
        return StoreProblem(f"{database}: older than the installed MLflow", f"schema {revision}", allowed, todo)
    todo = "make setup (installs the locked MLflow), or use the MLflow version that wrote it"
    return StoreProblem(f"{database}: newer than the installed MLflow", f"schema {revision}", allowed, todo)


def _old_file_store(folder: Path) -> StoreProblem | None:
    files = sorted(folder.glob("*/meta.yaml")) + sorted(folder.glob("models/*/meta.yaml"))
    if not files:
        return None
    return StoreProblem(
        f"{folder}: MLflow's old file format, which MLflow no longer opens",
        f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        f"a database, {folder / DATABASE}",
        f"mlflow migrate-filestore --source {folder} --target sqlite:///{folder / DATABASE}",
    )


def _unwritable(folder: Path) -> StoreProblem | None:
    """Permissions and read-only file systems; SQLite needs to write beside its file, too."""
    places = [folder / DATABASE, folder / ARTIFACTS, folder]
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    for place in [place for place in places if place.exists()] or [existing]:
        if not os.access(place, os.W_OK):
            return StoreProblem(
                f"{folder}: the store cannot be written",
                f"{place} is read-only for this user",
                "write permission for the folder, its artifacts and its database",
                f"chmod -R u+w {place}, or set MLFLOW_TRACKING_URI to a server",
            )
    return None


def _corrupt(database: Path, found: str) -> StoreProblem:
    todo = f"restore {database} from a backup, or move it away (mv {database} {database}.broken) to start anew"
    return StoreProblem(f"{database}: damaged", found, "a sound SQLite file", todo)


def _sqlite_problem(database: Path, error: sqlite3.Error) -> StoreProblem:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        todo = "end the program that holds it (mlflow ui, a sweep), or wait and repeat"
        return StoreProblem(f"{database}: locked for over {WAIT_SECONDS} s", str(error), "a free database", todo)
    if name.startswith("SQLITE_READONLY"):
        todo = f"chmod -R u+w {database.parent}, or set MLFLOW_TRACKING_URI to a server"
        return StoreProblem(f"{database}: the store cannot be written", str(error), "a writable database", todo)
    return _corrupt(database, str(error))
