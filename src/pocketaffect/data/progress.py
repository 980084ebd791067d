"""How far a long stage is: a bar on a terminal, elsewhere a line in the log every half minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO, TypeAlias

SECONDS_BETWEEN_LINES: Final = 30.0

Progress: TypeAlias = Callable[[int], None]
"""Called with how many more are done since the last call."""


@contextmanager
def show_progress(
    what: str, total: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Gives a function to call with each number of finished things, and shows rate and remaining time.

    Args:
        what: The things that are counted, in the plural: "images".
        total: Number of them.
        stream: Stream to show it on; standard error by default.
        clock: Seconds that only grow.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield ProgressLines(what, total, clock).advance
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {what}", file=stream, dynamic_ncols=True, smoothing=0.1) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


class ProgressLines:
    """Writes to the log what a bar would show, seldom enough for a file."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._done = self._done_at_line = 0
        self._line_at = clock()

    def advance(self, count: int) -> None:
        """Counts `count` more as done."""
        self._done += count
        now = self._clock()
        elapsed = now - self._line_at
        if elapsed < SECONDS_BETWEEN_LINES or self._done == self._total:  # the stage itself tells when all is done
            return
        # The rate since the last line: what an earlier run had done already went by in no time.
        rate = (self._done - self._done_at_line) / elapsed
        logging.getLogger(__name__).info(
            "%s of %s %s (%.0f %%), %s a second, %s left",
            f"{self._done:,}",
            f"{self._total:,}",
            self._what,
            100 * self._done / self._total,
            f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
            describe_duration((self._total - self._done) / rate) if rate else "unknown time",
        )
        self._line_at, self._done_at_line = now, self._done


def describe_duration(seconds: float) -> str:
    """Writes a duration as a person says it: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
