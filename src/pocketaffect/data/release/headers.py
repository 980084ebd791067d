"""Header lines: columns are found by name, whatever their case, blanks, underscores and order, or refused by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from pocketaffect.errors import PocketAffectError


def plain_name(name: str) -> str:
    """Reduces a column's name to what counts: its letters and digits, in lower case."""
    return re.sub(r"[\W_]+", "", name.casefold())


def match_header(cells: Sequence[str], known: Collection[str]) -> list[str] | None:
    """Reads a first line's cells as column names.

    Returns:
        The names, known ones as `known` spells them; None for a row: it holds a number, and no known name.
    """
    spelt = {plain_name(name): name for name in known}
    names = [spelt.get(plain_name(cell), cell) for cell in cells]
    if any(name in known for name in names):
        return names
    return None if any(_is_number(part) for cell in cells for part in cell.split(";")) else names


def check_header(
    names: Sequence[str], required: Sequence[str], where: str, *, known: Collection[str] = (), others: bool = True
) -> None:
    """Refuses a header without its columns.

    Args:
        names: Names from `match_header`.
        required: Columns that must be there.
        where: The line's name in errors.
        known: Columns that may be there.
        others: Whether columns of other names may be there, too.

    Raises:
        PocketAffectError: Names the columns, and for a missing one the nearest name that is there.
    """
    known = (*required, *known)
    unknown = [name for name in names if name not in known]
    missing = [name for name in required if name not in names]
    for problem, wrong in (
        ("missing", missing),
        ("unknown", [] if others else unknown),
        ("given twice", [name for name in known if names.count(name) > 1]),
    ):
        if wrong:
            raise PocketAffectError(
                f"{where}: column(s) {problem}: {', '.join(wrong)[:200]}",
                found=", ".join(names)[:300],
                allowed=f"a header with {', '.join(required)}",
                todo=_advise(missing, unknown),
            )


def _advise(missing: Sequence[str], unknown: Sequence[str]) -> str | None:
    if len(unknown) == 1 and (separator := next((mark for mark in "\t|;" if mark in unknown[0]), "")):
        return f"separate the columns by commas, not by {separator!r}"
    plain = {plain_name(name): name for name in unknown}
    near = [(name, difflib.get_close_matches(plain_name(name), plain, n=1)) for name in missing]
    pairs = [f"{plain[found[0]]!r} to {name}" for name, found in near if found]
    return f"if it is what they mean, rename {', '.join(pairs)[:300]}" if pairs else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
