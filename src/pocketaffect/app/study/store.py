"""Keeps the study's numbers in SQLite: acknowledged rows survive a kill, withdrawn and expired ones leave no trace.

A run belongs to whoever holds its token. The store keeps only the token's hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd

from pocketaffect.app.database import Database
from pocketaffect.app.study import DEFAULT_RETENTION_DAYS
from pocketaffect.app.study.protocol import PROMPTS, ROW_COLUMNS, PromptRow, check_consent
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

EXPORT_COLUMNS: Final = ("run", *ROW_COLUMNS)

_INTEGERS: Final = ("prompt", "expected", "predicted", "rating")
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY,
    token_hash BLOB NOT NULL,
    consent TEXT NOT NULL,
    expires TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rows (
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    {", ".join(f"{name} {'INTEGER' if name in _INTEGERS else 'REAL'} NOT NULL" for name in ROW_COLUMNS)},
    PRIMARY KEY (run, prompt)
) STRICT;
CREATE INDEX IF NOT EXISTS runs_by_expiry ON runs (expires)
"""
_NO_RUN: Final = hashlib.sha256(b"no run").digest()


class UnknownRunError(PocketAffectError):
    """No run has this token: it is wrong, withdrawn or expired."""

    def __init__(self) -> None:
        super().__init__(
            "study: no run with this token", found="wrong, withdrawn or expired", todo="begin a new run, with consent"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A participant's run, and the day on which its rows are deleted."""

    token: str
    """The only key to the run's rows; it is shown once and not stored."""
    run_id: str
    """The run's name in exports. Random: it says nothing about the person."""
    expires: date


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: the prompts with a row, the first without one, and the day on which the rows are deleted."""

    done: tuple[int, ...]
    next: int | None
    expires: date


class StudyStore(Database):
    """The study's database; expired runs are deleted on opening. Safe to share between threads, the file by processes.

    `today` gives the present day in UTC.
    """

    def __init__(self, file: Path, *, today: Callable[[], date] = lambda: datetime.now(UTC).date()) -> None:
        self._today = today
        super().__init__(file, _SCHEMA, purpose="study")
        self.purge()

    def begin(self, consent: str, retention_days: int = DEFAULT_RETENTION_DAYS) -> Run:
        """Begins a run for somebody who agreed to the texts of version `consent`, with these days in them.

        Raises:
            PocketAffectError: Other texts than the present ones were shown, or the days are impossible.
        """
        check_consent(consent, retention_days)
        self.purge()
        run_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        expires = self._today() + timedelta(days=retention_days)
        with self.write() as connection:
            connection.execute(
                "INSERT INTO runs (run, token_hash, consent, expires) VALUES (?, ?, ?, ?)",
                (run_id, _hash(secret), consent, expires.isoformat()),
            )
        return Run(f"{run_id}.{secret}", run_id, expires)

    def add(self, token: str, row: PromptRow) -> None:
        """Keeps a prompt's row; on return it is on disk. Repeating it changes nothing; a new answer replaces the old.

        Raises:
            UnknownRunError: No run has this token.
            PocketAffectError: The row could not be stored.
        """
        columns, marks = ", ".join(("run", *ROW_COLUMNS)), ", ".join("?" * (1 + len(ROW_COLUMNS)))
        with self.write() as connection:
            run_id, _ = self._find(connection, token)
            connection.execute(
                f"INSERT OR REPLACE INTO rows ({columns}) VALUES ({marks})",  # noqa: S608 - constants
                (run_id, *row.values()),
            )

    def progress(self, token: str) -> Progress:
        """Says how far the token's run is.

        Raises:
            UnknownRunError: No run has this token.
        """
        with self.write() as connection:  # both queries see one state
            run_id, expires = self._find(connection, token)
            found = connection.execute("SELECT prompt FROM rows WHERE run = ? ORDER BY prompt", (run_id,)).fetchall()
        done = tuple(number for (number,) in found)
        return Progress(done, next((each.number for each in PROMPTS if each.number not in done), None), expires)

    def withdraw(self, token: str) -> int:
        """Deletes a run with all its rows, from the write-ahead log too, and returns how many there were.

        Raises:
            UnknownRunError: No run has this token.
        """
        with self.write() as connection:
            run_id, _ = self._find(connection, token)
            count = connection.execute("DELETE FROM rows WHERE run = ?", (run_id,)).rowcount
            connection.execute("DELETE FROM runs WHERE run = ?", (run_id,))
        self.scrub()
        return count

    def purge(self) -> int:
        """Deletes the runs whose last day is over, and returns how many."""
        today = (self._today().isoformat(),)
        if not self.read("SELECT 1 FROM runs WHERE expires <= ? LIMIT 1", today):
            return 0
        with self.write() as connection:
            count = connection.execute("DELETE FROM runs WHERE expires <= ?", today).rowcount
        self.scrub()
        return count

    def rows(self) -> list[tuple[str | int | float, ...]]:
        """Reads all rows that are not expired, in the order of EXPORT_COLUMNS, by run and prompt."""
        self.purge()
        return self.read(f"SELECT {', '.join(EXPORT_COLUMNS)} FROM rows ORDER BY run, prompt")  # noqa: S608 - constants

    def export(self, target_csv: Path) -> int:
        """Writes all rows as CSV, whole or not at all, and returns how many.

        Raises:
            PocketAffectError: The file cannot be written.
        """
        rows = pd.DataFrame(self.rows(), columns=list(EXPORT_COLUMNS))
        with write_atomically(target_csv) as draft:
            rows.to_csv(draft, index=False, lineterminator="\n")
        return len(rows)

    def _find(self, connection: sqlite3.Connection, token: str) -> tuple[str, date]:
        """Finds a token's run and its last day, in the same time for a wrong secret as for an unknown run."""
        run_id, _, secret = token.encode("ascii", "replace").decode().partition(".")
        found = connection.execute(
            "SELECT run, token_hash, expires FROM runs WHERE run = ? AND expires > ?",
            (run_id, self._today().isoformat()),
        ).fetchone()
        right = hmac.compare_digest(_hash(secret), found[1] if found else _NO_RUN)
        if not (found and right):
            raise UnknownRunError
        return found[0], date.fromisoformat(found[2])


def _hash(secret: str) -> bytes:
    """Hashes with sha256: the secrets are 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()
