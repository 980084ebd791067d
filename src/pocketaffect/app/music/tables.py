"""Reads CSV files from anywhere as rows of text: finds encoding and separator, names each broken row by its line."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pocketaffect.data.release.delimited import match_header, plain_name
from pocketaffect.errors import PocketAffectError

MAX_BYTES: Final = 512 << 20
SEPARATORS: Final = ",;\t|"


class BrokenRow(ValueError):  # noqa: N818 - a row's fault, not the program's
    """Why a row cannot be used."""


class Problem(NamedTuple):
    """A row that was skipped: its line, counted from 1, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.line}: {self.reason}"


@dataclass(frozen=True)
class Table:
    """A CSV file: stripped column names, the character between values, and its lines, the header's first."""

    header: tuple[str, ...]
    separator: str
    lines: Sequence[str]

    def records(self, columns: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
        """Yields each row's line number and its values in some columns; adds rows that cannot be split to `problems`.

        Every line is a row of its own: a quote that is never closed spoils one row, not all that follow.
        """
        places = [self.header.index(column) for column in columns]
        for number, line in enumerate(self.lines[1:], start=2):
            try:
                values = next(csv.reader((line,), delimiter=self.separator), [])
            except csv.Error as error:
                problems.append(Problem(number, f"not readable as CSV: {error}"))
                continue
            if len(values) == len(self.header):
                yield number, [values[place] for place in places]
            elif any(value.strip() for value in values):
                problems.append(Problem(number, f"{len(values)} value(s) under {len(self.header)} columns"))


def read_table(path: Path, known: Sequence[str] = ()) -> Table:
    """Reads a CSV file with a header line: UTF-8 or UTF-16 with its mark, separated by comma, semicolon, tab or bar.

    Columns among `known` are named as there, whatever case and blanks the header writes them with.

    Raises:
        PocketAffectError: There is no such file, it is too large, in another encoding, or has no header line.
    """
    text = _read_text(path).replace("\r\n", "\n")
    lines = text.split("\n" if "\n" in text else "\r")
    separator = max(SEPARATORS, key=lines[0].count)
    try:
        cells = [value.strip() for value in next(csv.reader((lines[0],), delimiter=separator), [])]
    except csv.Error as error:
        raise PocketAffectError(f"{path}: header line is not readable as CSV", found=error) from None
    header = match_header(cells, known) if known else cells
    if header is None or not any(header):
        raise PocketAffectError(
            f"{path}: no header line", found=repr(lines[0][:80]), allowed="CSV whose first line names the columns"
        )
    plain = [plain_name(name) for name in header]
    if repeated := [name for name, same in zip(header, plain, strict=True) if same and plain.count(same) > 1]:
        raise PocketAffectError(f"{path}: a column occurs twice", found=", ".join(repeated))
    return Table(tuple(header), separator, lines)


def _read_text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise PocketAffectError(f"{path}: too large", found=f"{size:,} bytes", allowed=f"{MAX_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise PocketAffectError(f"{path}: not readable", found=error.strerror) from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PocketAffectError(
            f"{path}: not readable as text",
            found=f"bytes that are no {encoding.removesuffix('-sig').upper()} in line {line}",
            todo="save the list as CSV in UTF-8",
        ) from None
