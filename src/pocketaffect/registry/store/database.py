"""MLflow's SQLite file, looked at without MLflow: is it usable, and did the repository move since?

MLflow itself answers a missing, corrupt or half-made database with two minutes of retries or with an alembic
traceback, so each way it can be unusable is found here first.
"""

import contextlib
import importlib.util
import logging
import os
import re
import sqlite3
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import explain_failed_write

STORE: Final = Path("mlruns")
DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "artifacts"

UNADDRESSABLE: Final = "%?"
"""What no path of a store may hold: MLflow reads the one as the start of an escape, the other as that of a query."""

WAIT_SECONDS: Final = 60
QUICK_CHECK_BYTES: Final = 64 * 2**20
"""A database up to this size is checked page by page (0.1 s); a larger one only by its first pages."""

TABLES_OF_MLFLOW: Final = frozenset({"experiments", "runs", "model_versions"})

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


def find_problem(root: Path, *, to_write: bool) -> PocketAffectError | None:
    """Says what is wrong with root/mlruns; None for a usable store and for one that does not exist yet.

    Where it is not `to_write`, the file is opened read-only.
    """
    folder, database = root / STORE, root / STORE / DATABASE
    if problem := find_address_problem(root):
        return problem
    if not has_content(database):
        return _old_file_store(folder) or (_unwritable(folder) if to_write else None)
    if to_write and (problem := _unwritable(folder)):
        return problem
    try:
        return _wrong_content(database, to_write=to_write)
    except sqlite3.Error as error:
        return _sqlite_problem(database, error)


def find_address_problem(root: Path) -> PocketAffectError | None:
    """Says what is wrong with the place of root/mlruns itself, whether the store exists or not."""
    folder = str(root.resolve() / STORE)
    found = sorted(set(UNADDRESSABLE) & set(folder))
    if not found and not re.search("[\ud800-\udfff]", folder):  # bytes that are no UTF-8: the database keeps text
        return None
    return PocketAffectError(
        f"{ascii(folder)[1:-1]}: MLflow cannot address a store in such a path",
        found=" ".join(found) or "bytes that are no UTF-8",
        allowed=f"a path in UTF-8 without {' and '.join(UNADDRESSABLE)}",
        todo="move the repository, or set MLFLOW_TRACKING_URI to a server",
    )


@cache
def known_revisions() -> tuple[frozenset[str], str]:
    """Lists all schema revisions that the installed MLflow knows, and the newest."""
    from alembic.script import ScriptDirectory

    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        raise PocketAffectError("MLflow is not installed", todo="make setup")
    scripts = ScriptDirectory(str(Path(spec.submodule_search_locations[0]) / "store" / "db_migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()), str(scripts.get_current_head())


def check_schema(
    place: object, tables: Collection[str], revision: str | None, *, anew: str, address: str
) -> PocketAffectError | None:
    """Says why the installed MLflow cannot use a database, `place` in messages; None where it can.

    `revision` is its schema's, from the table `alembic_version`; `anew` says what to do about one that nothing can
    repair, `address` what `mlflow db upgrade` is to be called with.
    """
    known, newest = known_revisions()
    half_made = any(table.startswith("_alembic_tmp_") for table in tables)
    found = f"schema {revision}"
    if revision is None or half_made or not set(tables) >= TABLES_OF_MLFLOW:
        problem, todo = "not a complete MLflow database", anew
        found = "tables of an unfinished creation" if half_made or "experiments" in tables else "other tables"
    elif revision == newest:
        return None
    elif revision in known:
        problem, todo = "older than the installed MLflow", f"back it up, then: mlflow db upgrade {address}"
    else:
        problem = "newer than the installed MLflow"
        todo = "make setup (installs the locked MLflow), or use the MLflow version that wrote it"
    return PocketAffectError(
        f"{place}: {problem}", found=found, allowed=f"an MLflow database of schema {newest}", todo=todo
    )


def create_tables(address: str, artifacts: str) -> None:
    """Makes MLflow's tables in an empty database; `artifacts` is for files of experiment 0, which comes with them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    level = logging.root.manager.disable
    logging.disable(logging.INFO)  # MLflow's and alembic's reports of 60 migrations
    try:
        SqlAlchemyStore(address, artifacts).engine.dispose()  # type: ignore[no-untyped-call]
    finally:
        logging.disable(level)


def moved_bases(root: Path) -> dict[str, str]:
    """Maps each old location of mlruns that the database still names to its location now.

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
    # The connection's own block commits, or rolls back what failed.
    with contextlib.closing(_connect(root / STORE / DATABASE, "rw")) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
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


def has_content(database: Path) -> bool:
    """Tells whether there is a database; SQLite's empty file counts as none."""
    return database.is_file() and database.stat().st_size > 0


def _exists(location: str) -> bool:
    return Path(url2pathname(urlsplit(location).path) if location.startswith("file:") else location).exists()


def _connect(database: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(database.resolve()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)


def _wrong_content(database: Path, *, to_write: bool) -> PocketAffectError | None:
    with contextlib.closing(_connect(database, "rw" if to_write else "ro")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if database.stat().st_size <= QUICK_CHECK_BYTES:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            if verdict != "ok":
                return _corrupt(database, verdict)
        row = "alembic_version" in tables and connection.execute("SELECT version_num FROM alembic_version").fetchone()
        anew = f"move {database} away (mv {database} {database}.broken) and repeat; nothing can repair it"
        address = f"sqlite:///{database}"
        if problem := check_schema(database, tables, row[0] if row else None, anew=anew, address=address):
            return problem
        if to_write:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    return None


def _old_file_store(folder: Path) -> PocketAffectError | None:
    files = sorted(folder.glob("*/meta.yaml")) + sorted(folder.glob("models/*/meta.yaml"))
    if not files:
        return None
    return PocketAffectError(
        f"{folder}: MLflow's old file format, which MLflow no longer opens",
        found=f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
        allowed=f"a database, {folder / DATABASE}",
        todo=f"mlflow migrate-filestore --source {folder} --target sqlite:///{folder / DATABASE}",
    )


def _unwritable(folder: Path) -> PocketAffectError | None:
    """Looks at permissions and read-only file systems; SQLite needs to write beside its file, too."""
    places = [folder / DATABASE, folder / ARTIFACTS, folder]
    existing = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    for place in [place for place in places if place.exists()] or [existing]:
        if not os.access(place, os.W_OK):
            return _read_only(folder, f"{place} is read-only for this user")
    return None


def _read_only(folder: Path, found: str) -> PocketAffectError:
    return PocketAffectError(
        f"{folder}: the store cannot be written",
        found=found,
        allowed="write permission for the folder, its artifacts and its database",
        todo=f"chmod -R u+w {folder}, or set MLFLOW_TRACKING_URI to a server",
    )


def _corrupt(database: Path, found: str) -> PocketAffectError:
    todo = f"restore {database} from a backup, or move it away (mv {database} {database}.broken) to start anew"
    return PocketAffectError(f"{database}: damaged", found=found, allowed="a sound SQLite file", todo=todo)


def _sqlite_problem(database: Path, error: sqlite3.Error) -> PocketAffectError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        todo = "end the program that holds it (mlflow ui, a sweep), or wait and repeat"
        return PocketAffectError(f"{database}: locked for over {WAIT_SECONDS} s", found=error, todo=todo)
    if name.startswith("SQLITE_READONLY"):
        return _read_only(database.parent, str(error))
    return explain_failed_write(error, database) or _corrupt(database, str(error))
