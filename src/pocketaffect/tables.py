"""Text tables: aligned columns that read the same in a terminal, in a pipe and in a test."""

import io
from collections.abc import Iterable, Sequence
from typing import Final, Literal

WIDE: Final = 1 << 16
"""Columns of a console that cuts and wraps nothing."""

_JUSTIFY: Final[dict[str, Literal["left", "right"]]] = {"l": "left", "r": "right"}


def render_table(rows: Iterable[Sequence[str]], align: str) -> str:
    """Aligns cells into lines; no colour, nothing cut off or wrapped, no blanks at line ends.

    `align` has "l" or "r" for each column; its last letter counts for all columns after it.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for place in range(max(map(len, rows), default=0)):
        table.add_column(justify=_JUSTIFY[align[min(place, len(align) - 1)]], no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=WIDE, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
