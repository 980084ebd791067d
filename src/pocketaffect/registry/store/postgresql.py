"""A PostgreSQL database that many machines share: is it there, is it usable, and are MLflow's tables complete?

MLflow answers an unreachable database with a minute of retries. And its tables come from sixty migrations, so that two
machines that begin at once leave an unusable mixture: here one makes them while the others wait, under a lock of the
database's own. Optuna's tables have the same need, and may not lie in the same database: both packages number their
schema in a table `alembic_version`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store.database import check_schema, create_tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

CONNECT_SECONDS: Final = 5
CREATION_LOCK: Final = 0x706F636B  # any number that nothing else in the database locks
TABLES_OF_OPTUNA: Final = frozenset({"studies", "trials", "study_directions"})


def is_postgresql(address: str) -> bool:
    """Tells whether the address names a PostgreSQL database, whatever the driver."""
    return address.split(":")[0].split("+")[0] in ("postgresql", "postgres")


def hide_password(address: str) -> str:
    """Masks all that may be a password, also one whose @, / or ? nobody escaped, where a parser ends too soon."""
    scheme, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    if "=" in scheme or "@" in scheme or "?" in user:
        return "…" if scheme == address else f"{scheme}://…"
    name, colon, _ = user.partition(":")
    return "".join((scheme, "://" if rest else "", name, colon and ":***", at, place.partition("?")[0]))


@contextlib.contextmanager
def creation_lock(address: str, *, setting: str) -> Iterator[Connection]:
    """Holds the database against other machines that would create tables in it at this moment.

    `setting` is the environment variable or key of params.yaml that named the address, for messages.

    Raises:
        PocketAffectError: No driver, or no such database answers within seconds.
    """
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
    from sqlalchemy.pool import NullPool

    allowed = "postgresql://user:password@host:port/database"
    try:
        url = make_url(address)
        if "@" in f"{url.host}{url.database}":
            raise PocketAffectError(
                f"{setting}: an @ stands in the password or behind the server's name",
                found=hide_password(address),
                allowed=allowed,
                todo="write %40 for @ and %2F for / in the password (sweep.storage escapes what a ${NAME} in it holds)",
            )
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise PocketAffectError(f"{setting}: not an address", found=hide_password(address), allowed=allowed) from None
    except ImportError as error:
        raise PocketAffectError(
            f"{setting} names PostgreSQL, whose driver is not installed",
            found=error,
            allowed=allowed,
            todo='pip install "pocketaffect[postgres]" (psycopg)',
        ) from None
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise PocketAffectError(
            f"{setting}: {hide_password(address)} cannot be used",
            found=" ".join(str(error.orig).split())[:400],
            todo="start the database, or correct the address, user or password",
        ) from None
    with connection:
        connection.execute(text(f"SELECT pg_advisory_lock({CREATION_LOCK})"))  # given back with the connection
        yield connection


def prepare_mlflow(address: str, *, setting: str, artifacts: str) -> None:
    """Makes MLflow's tables in an empty database, and refuses one that the installed MLflow cannot use.

    `artifacts` is the place for files of experiment 0, which comes with the tables.

    Raises:
        PocketAffectError: As `creation_lock`; or the tables are Optuna's, of another MLflow, or not whole.
    """
    from sqlalchemy import text

    with creation_lock(address, setting=setting) as connection:
        tables = list_tables(connection)
        shown = hide_password(address)
        if tables & TABLES_OF_OPTUNA:
            raise shared_database_error(setting, shown, "Optuna's studies")
        if not tables:
            create_tables(address, artifacts)
        elif problem := check_schema(
            f"{setting}: {shown}",
            tables,
            connection.scalar(text("SELECT version_num FROM alembic_version")) if "alembic_version" in tables else None,
            anew="drop the other tables, or name an empty database",
            address="ADDRESS",
        ):
            raise problem


def list_tables(connection: Connection) -> frozenset[str]:
    """Lists the names of the tables that a query without a schema finds."""
    from sqlalchemy import inspect

    return frozenset(inspect(connection).get_table_names())


def shared_database_error(setting: str, shown: str, owner: str) -> PocketAffectError:
    """Makes the error for MLflow's tables where Optuna's are, or the other way round."""
    return PocketAffectError(
        f"{setting}: {shown} already holds {owner}",
        found="MLflow and Optuna both number their tables in `alembic_version`",
        allowed="a database for each, on one server",
        todo="createdb NAME, and name that one (docs/scaling.md)",
    )
