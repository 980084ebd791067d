"""A SQLite file that loses nothing it acknowledged, and keeps nothing it was told to delete."""

import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError

BUSY_SECONDS: Final = 30.0
"""Time that a writer waits for the writers of other processes."""

SCRUB_SECONDS: Final = 2.0
"""Time that deleting waits for the readers of other processes, to empty the log behind them."""


class Database:
    """One connection for all threads of a process; several processes may have the file open.

    Write-ahead log, synced at each commit; deleted rows are overwritten with zeros. A file is made where missing, with
    `schema`'s tables, readable by its owner only, in a folder that git ignores. A checksum of `purpose` is kept in it:
    any other database is refused, and left as it is.

    Raises:
        PocketAffectError: The file cannot be opened, or is something else.
    """

    def __init__(self, file: Path, schema: str, *, purpose: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._scrub_due = False
        try:
            _make_private(file)
            self._connection = sqlite3.connect(
                file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(schema, purpose)
        except (sqlite3.Error, OSError) as error:
            raise PocketAffectError(
                f"{file}: cannot be used as the {purpose} store",
                found=error,
                todo="name a place that can be written to, or move the file away",
            ) from None

    def _prepare(self, schema: str, purpose: str) -> None:
        number = zlib.crc32(f"pocketaffect {purpose}".encode()) >> 1  # SQLite keeps 31 bits
        ((found,),), tables = self.read("PRAGMA application_id"), self.read("SELECT name FROM sqlite_master LIMIT 1")
        if found != number and (found or tables):
            raise sqlite3.DatabaseError("it is another database")
        for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
            self.read(f"PRAGMA {setting}")
        with self.write() as connection:
            for statement in (f"PRAGMA application_id = {number}", *schema.split(";")):
                connection.execute(statement)
        self.scrub()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction: whole and on disk when the block ends, undone when it fails.

        Raises:
            PocketAffectError: The disk is full, or other processes held the file for BUSY_SECONDS.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                    if self._scrub_due:
                        self._empty_log(0)
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise PocketAffectError(f"{self._file}: nothing was stored", found=error, todo="try again") from error

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Reads the rows of a query."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def scrub(self) -> bool:
        """Empties the write-ahead log, so that deleted rows are nowhere in the files, and tells whether it is done.

        It is not while another process reads old rows. Then the next write, closing or opening does it.
        """
        with self._lock:
            self._empty_log(SCRUB_SECONDS)
            return not self._scrub_due

    def _empty_log(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
        try:
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._scrub_due = bool(busy)
        except sqlite3.OperationalError:
            self._scrub_due = True
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")

    def close(self) -> None:
        """Closes the file; the last process to do so also removes the write-ahead log."""
        with self._lock:
            if self._scrub_due:
                self._empty_log(SCRUB_SECONDS)
            self._connection.close()


def _make_private(file: Path) -> None:
    """Makes the file and its folder so that nobody else reads what people answered, and git does not see it."""
    if not file.parent.exists():
        file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        (file.parent / ".gitignore").write_text("# what people answered stays on this machine\n*\n", encoding="utf-8")
    file.touch(mode=0o600, exist_ok=True)
