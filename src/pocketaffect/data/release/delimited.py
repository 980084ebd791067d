"""Comma-separated lists as Arrow columns, a block at a time: every line is counted and none is lost.

Lines end as on Unix, Windows or old Macs, whatever quotes they hold: one that is never closed would swallow the lines
after it. A line of nothing but separators is no row. Columns are found by the names in the first line, whatever their
case, blanks, underscores and order, or refused by name.
"""

import codecs
import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.errors import PocketAffectError

BLOCK_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 64 << 20
MAX_SHOWN: Final = 500
"""Characters kept of a line that could not be split."""

SEPARATORS: Final = ', "\t'
BLANKS: Final = ' "\t\v\f'
"""Characters that may stand around a value: blanks and quotes."""

FINITE_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""Texts that Arrow's parser takes for a number, apart from `inf` and `nan`."""


@dataclass(frozen=True)
class Lines:
    """Some lines that hold something, in the file's order: their numbers (from 1) and their text."""

    numbers: npt.NDArray[np.int64]
    text: pa.StringArray


def read_lines(stream: BinaryIO, name: str) -> Iterator[Lines]:
    r"""Reads the lines of a UTF-8 file; a byte that is not UTF-8 becomes `\xe9`, as in file names.

    A few blocks of the stream are held at a time; `name` is the file's in errors.

    Raises:
        PocketAffectError: The file is UTF-16, or has a line of more than MAX_LINE_BYTES.
    """
    rest, above = _read_start(stream, name), 0
    while True:
        block = stream.read(BLOCK_BYTES)
        content = rest + block
        # Between blocks a last \r may be half of \r\n.
        end = max(content.rfind(b"\n"), content.rfind(b"\r", 0, -1)) + 1 if block else len(content)
        content, rest = content[:end], content[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise PocketAffectError(
                f"{name}: not readable as CSV", found=f"a line of more than {MAX_LINE_BYTES:,} bytes"
            )
        if content:
            lines, count = _split_lines(content, above)
            above += count
            if len(lines.numbers):
                yield lines
        if not block:
            return


def _read_start(stream: BinaryIO, name: str) -> bytes:
    """Reads a first block, without the byte-order mark."""
    start = stream.read(BLOCK_BYTES)
    while 0 < len(start) < len(codecs.BOM_UTF8) and (more := stream.read(BLOCK_BYTES)):
        start += more
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PocketAffectError(
            f"{name}: not readable as CSV", found="UTF-16", allowed="UTF-8", todo="save it as UTF-8"
        )
    return start.removeprefix(codecs.BOM_UTF8)


def _split_lines(content: bytes, above: int) -> tuple[Lines, int]:
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = pc.split_pattern(_as_text(content.removesuffix(b"\n")), "\n").flatten()
    kept = pc.greater(pc.binary_length(pc.ascii_ltrim(text, SEPARATORS)), 0)
    numbers = np.flatnonzero(kept.to_numpy(zero_copy_only=False)) + (above + 1)
    return Lines(numbers, text.filter(kept) if len(numbers) < len(text) else text), len(text)


def _as_text(content: bytes) -> pa.StringArray:
    """Gives one string, without copying where the bytes are UTF-8."""
    offsets = pa.py_buffer(np.array([0, len(content)], dtype=np.int32))
    binary = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(content)])
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([content.decode("utf-8", "backslashreplace")], pa.string())


def split_cells(line: str) -> list[str]:
    """Splits a line into its cells, without the quotes and blanks around them."""
    return [field.strip().strip('"').strip() for field in line.split(",")]


@dataclass(frozen=True)
class Rows:
    """Lines that have all columns (`columns`: cleaned text by name), and those that do not."""

    numbers: npt.NDArray[np.int64]
    columns: dict[str, pa.StringArray]
    unsplit: Lines


def split_columns(lines: Lines, names: Sequence[str], wanted: Sequence[str]) -> Rows:
    """Splits lines into the columns `names` and gives those that are `wanted`."""
    parts = pc.split_pattern(lines.text, ",")
    whole = pc.equal(pc.list_value_length(parts), len(names))
    mask = whole.to_numpy(zero_copy_only=False)
    fields = (parts if mask.all() else parts.filter(whole)).flatten()
    other = lines.text.filter(pc.invert(whole))
    columns = {}
    for name in wanted:
        chosen = pa.array(np.arange(names.index(name), len(fields), len(names)), pa.int32())
        columns[name] = _clean(fields.take(chosen))
    unsplit = Lines(lines.numbers[~mask], pc.utf8_slice_codeunits(other, 0, MAX_SHOWN))
    return Rows(lines.numbers[mask], columns, unsplit)


def _clean(text: pa.StringArray) -> pa.StringArray:
    return pc.ascii_trim(text, BLANKS)


def parse_numbers(text: pa.StringArray) -> npt.NDArray[np.float64]:
    """Parses texts to float64 of the same length; NaN where the text is no finite number."""
    try:
        values = text.cast(pa.float64())
    except pa.ArrowInvalid:
        text = pc.ascii_trim(text, BLANKS)
        is_number = pc.match_substring_regex(text, FINITE_NUMBER)
        values = pc.if_else(is_number, text, pa.scalar(None, pa.string())).cast(pa.float64())
    numbers = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    finite = np.isfinite(numbers)
    return numbers if finite.all() else np.where(finite, numbers, np.nan)


def tidy_paths(listed: pa.StringArray) -> pa.StringArray:
    """Gives each path one spelling: two must not pass as two images."""
    tidy = listed
    if pc.any(pc.match_substring_regex(listed, r"//|/\./|^\./")).as_py():
        tidy = pc.replace_substring_regex(listed, r"/(\.?/)+", "/")
        tidy = pc.replace_substring_regex(tidy, r"^\./", "")
    return pc.if_else(pc.equal(tidy, ""), "?", tidy)


def plain_name(name: str) -> str:
    """Reduces a column's name to what counts: its letters and digits, in lower case."""
    return re.sub(r"[\W_]+", "", name.casefold())


def match_header(cells: Sequence[str], known: Collection[str]) -> list[str] | None:
    """Reads a first line's cells as column names, known ones as `known` spells them.

    None stands for a row: it holds a number, and no known name.
    """
    spelt = {plain_name(name): name for name in known}
    names = [spelt.get(plain_name(cell), cell) for cell in cells]
    if any(name in known for name in names):
        return names
    return None if any(_is_number(part) for cell in cells for part in cell.split(";")) else names


def check_header(
    names: Sequence[str], required: Sequence[str], where: str, *, known: Collection[str] = (), others: bool = True
) -> None:
    """Refuses a header, of names from `match_header`, without its `required` columns; `where` names it in errors.

    Columns that are `known` may be there; `others` tells whether more may be, too.

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
