"""Listeners' ratings: one row each in SQLite, kept until the listener asks to be forgotten."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import StrictInt, StrictStr

from pocketaffect.app.affect import BODY, Affect
from pocketaffect.app.database import Database
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

MAX_RATINGS: Final = 500
"""Number of a listener's newest ratings that are kept and learned from: tastes change."""
MAX_NAME: Final = 100
STARS: Final = (1, 2, 3, 4, 5)

_PROBABILITIES: Final = tuple(f"p_{name}" for name in EXPRESSIONS)
_COLUMNS: Final = (*_PROBABILITIES, "valence", "arousal", "track", "stars")
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS ratings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    listener TEXT NOT NULL,
    {", ".join(f"{name} REAL NOT NULL" for name in (*_PROBABILITIES, "valence", "arousal"))},
    track TEXT NOT NULL,
    stars INTEGER NOT NULL CHECK (stars BETWEEN 1 AND 5)
) STRICT;
CREATE INDEX IF NOT EXISTS ratings_of_listener ON ratings (listener, number);
"""


@dataclass(frozen=True, slots=True)
class Rating:
    """How a listener liked a track that was suggested for an affect.

    Raises:
        PocketAffectError: `stars` is no whole number of 1 to 5.
    """

    __pydantic_config__ = BODY

    affect: Affect
    track: StrictStr
    stars: StrictInt

    def __post_init__(self) -> None:
        if isinstance(self.stars, bool) or self.stars not in STARS:
            raise PocketAffectError("rating: impossible stars", found=repr(self.stars), allowed="1, 2, 3, 4 or 5")


class Listeners(Database):
    """Ratings by listener. Safe to share between threads, and the file between processes."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, _SCHEMA, purpose="listeners")

    def rate(self, listener: str, affect: Affect, track: str, stars: int) -> None:
        """Keeps a rating of 1 to 5 stars; on return it is on disk. The oldest ratings beyond MAX_RATINGS are dropped.

        A listener is any name of 1 to MAX_NAME printable characters; the app makes up a random one.
        """
        numbers = (*affect.probabilities, affect.valence, affect.arousal)
        stars = Rating(affect, track, stars).stars
        values = (_check("listener", listener), *numbers, _check("track", track), stars)
        marks = ", ".join("?" * len(values))
        with self.write() as connection:
            connection.execute(f"INSERT INTO ratings (listener, {', '.join(_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608 - constants
            connection.execute(
                "DELETE FROM ratings WHERE listener = ?1 AND number <= (SELECT number FROM ratings WHERE listener = ?1"
                " ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (listener, MAX_RATINGS),
            )

    def ratings(self, listener: str) -> list[Rating]:
        """Reads a listener's ratings, oldest first."""
        rows = self.read(
            f"SELECT {', '.join(_COLUMNS)} FROM ratings WHERE listener = ? ORDER BY number",  # noqa: S608 - constants
            (_check("listener", listener),),
        )
        count = len(EXPRESSIONS)
        return [Rating(Affect(row[:count], row[count], row[count + 1]), row[-2], row[-1]) for row in rows]

    def version(self, listener: str) -> int:
        """Returns a number that changes whenever the listener's ratings do; 0 for a listener without any."""
        rows = self.read("SELECT max(number) FROM ratings WHERE listener = ?", (_check("listener", listener),))
        return int(rows[0][0] or 0)

    def forget(self, listener: str) -> int:
        """Deletes a listener's ratings, from the write-ahead log too, and returns how many there were."""
        with self.write() as connection:
            deleted = connection.execute("DELETE FROM ratings WHERE listener = ?", (_check("listener", listener),))
        self.scrub()
        return deleted.rowcount


def _check(what: str, name: str) -> str:
    """Returns a name that SQLite takes and people can read back to us, and refuses any other."""
    if not (1 <= len(name) <= MAX_NAME and name.isprintable()):
        allowed = f"1 to {MAX_NAME} printable characters"
        raise PocketAffectError(f"rating: impossible name of a {what}", found=f"{name[:MAX_NAME]!r}", allowed=allowed)
    return name
