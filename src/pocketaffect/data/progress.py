"""How far a long stage is: a bar on a terminal, elsewhere a line in the log every half minute."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from tqdm import tqdm

SECONDS_BETWEEN_LINES: Final = 30.0

Progress: TypeAlias = Callable[[int], object]
"""Called with how many more are done since the last call."""


@contextmanager
def show_progress(what: str, total: int) -> Iterator[Progress]:
    """Gives a function to call with each number of finished things (in the plural); shows rate and remaining time."""
    if sys.stderr.isatty():
        bar = tqdm(total=total, unit=f" {what}", dynamic_ncols=True, smoothing=0.1)
    else:
        bar = _Lines(
            total=total,
            unit=f" {what}",
            file=io.StringIO(),
            leave=False,
            miniters=1,
            mininterval=SECONDS_BETWEEN_LINES,
            delay=SECONDS_BETWEEN_LINES,
            smoothing=1,  # the rate since the last line: what an earlier run had done already went by in no time
            bar_format="{n:,} of {total:,}{unit} ({percentage:.0f} %), {rate_fmt}, {remaining} left",
        )
    with bar:
        yield bar.update


class _Lines(tqdm):
    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002  tqdm's own
        """Writes to the log what a bar would show."""
        if msg is None and self.n < self.total:  # the stage itself tells when all is done
            logging.getLogger(__name__).info(str(self))
