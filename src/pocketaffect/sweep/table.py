"""What a sweep shows: a live table in a terminal, one line for each finished trial elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pocketaffect.config import SweepParams
from pocketaffect.recipes import Value
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, count_epochs
from pocketaffect.sweep.study import count_finalists

SHOWN_TRIALS: Final = 14
STYLES: Final = {"over budget": "dim", "stopped early": "dim", "failed": "red", "running": "cyan", "waiting": "cyan"}
SHORT: Final = {"architecture": "", "width": "x", "image_size": "px ", "learning_rate": "lr ", "weight_decay": "wd "}


class TrialLines:
    """Writes a line for each trial that ends. Those of an earlier call have one line together."""

    def __init__(self, params: SweepParams, write: Callable[[str], None]) -> None:
        self.params = params
        self.write = write
        self._pace = _Pace(params)
        self._seen: set[int] | None = None

    def update(self, rows: Sequence[TrialRow]) -> None:
        """Writes what is new."""
        ended = [row for row in rows if row.outcome in FINISHED]
        remaining = self._pace.estimate(rows)
        if self._seen is None:
            self._seen = {row.number for row in ended}
            if ended:
                self.write(f"going on: {describe_progress(rows, self.params)}")
        for row in ended:
            if row.number not in self._seen:
                self._seen.add(row.number)
                progress = describe_progress(rows, self.params, remaining)
                self.write(f"{describe_trial(row, self.params.budget_bytes)}; {progress}")


def draw_table(
    rows: Sequence[TrialRow], params: SweepParams, remaining: float | None = None, *, last: int | None = SHOWN_TRIALS
) -> Group:
    """Draws the last trials as a table, all of them for None, above a line on the whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        *(("trial", "right"), ("outcome", "left"), ("score", "right"), ("bytes", "right")),
        *(("budget left", "right"), ("epochs", "right"), ("settings", "left")),
    ):
        # In place, a row keeps to its line; the whole list may take what it needs.
        table.add_column(title, justify=justify, no_wrap=title != "settings" or last is not None)  # type: ignore[arg-type]
    best = next(iter(best_first(rows)), None)
    for row in rows[-last:] if last else rows:
        left = "" if row.bytes is None else f"{params.budget_bytes - row.bytes:,}"
        table.add_row(
            str(row.number),
            row.outcome,
            "" if row.score is None else f"{row.score:.4f}",
            "" if row.bytes is None else f"{row.bytes:,}",
            left,
            str(row.epochs or len(row.curve) or ""),
            row.remark or _describe_row(row),
            style="bold green" if row is best else STYLES.get(row.outcome, ""),
        )
    return Group(table, Text(describe_progress(rows, params, remaining)))


def describe_progress(rows: Sequence[TrialRow], params: SweepParams, remaining: float | None = None) -> str:
    """Writes one line: how many trials ended, the best, the epochs that were trained, the time that is left."""
    ended = sum(row.outcome in FINISHED for row in rows)
    parts = [f"{ended} of {params.trials} trials, {count_epochs(rows)} epochs"]
    best = next(iter(best_first(rows)), None)
    if best is not None:
        parts.append(f"best so far trial {best.number}: {best.score:.4f} in {best.bytes:,} bytes")
    if remaining is not None:
        parts.append(f"about {timedelta(seconds=round(remaining))} left")
    return "; ".join(parts)


def describe_settings(settings: Mapping[str, Value]) -> str:
    """Writes a trial's settings in few letters: "vgg x0.35 px 64 int8 lr 0.001"."""
    words = []
    for name, value in settings.items():
        key = name.rsplit(".", 1)[-1]
        if isinstance(value, str):
            words.append(value)
        elif isinstance(value, bool):
            words.append(key if value else f"no {key}")
        else:
            words.append(f"{SHORT.get(key, key + ' ')}{value:g}")
    return " ".join(words)


def describe_trial(row: TrialRow, budget: int) -> str:
    """Writes one line on one trial."""
    parts = [f"trial {row.number} {row.outcome}"]
    if row.score is not None:
        parts.append(f"score {row.score:.4f}")
    if row.bytes is not None:
        parts.append(f"{row.bytes:,} bytes, budget left {budget - row.bytes:,}")
    return ", ".join([*parts, row.remark or _describe_row(row)])


def _describe_row(row: TrialRow) -> str:
    """Writes the settings, and on how many faces they were trained where these were a part."""
    settings = describe_settings(row.settings)
    return settings if row.faces is None else f"{settings}, {row.faces:,} faces"


@contextlib.contextmanager
def watch(params: SweepParams) -> Iterator[Callable[[Sequence[TrialRow]], None]]:
    """Shows the table in a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield TrialLines(params, lambda line: print(f"sweep: {line}", file=sys.stderr, flush=True)).update
        return
    with Live(console=Console(stderr=True), auto_refresh=False, transient=False) as live:
        pace = _Pace(params)
        yield lambda rows: live.update(draw_table(rows, params, pace.estimate(rows)), refresh=True)


class _Pace:
    """Estimates how long the rest takes, at the pace since the first look.

    The last trials of a sweep that begins on a part of the faces take longer than the others: nothing is known of the
    whole before the first of them has ended, and theirs is the pace from then on.
    """

    def __init__(self, params: SweepParams) -> None:
        self.trials = params.trials
        self.part = 0 if params.faces is None else params.trials - count_finalists(params.trials)
        self._first: tuple[float, int] | None = None

    def estimate(self, rows: Sequence[TrialRow]) -> float | None:
        """Estimates the seconds that are left; None before a trial has ended."""
        now, ended = time.monotonic(), sum(row.outcome in FINISHED for row in rows)
        if ended < self.part:
            return None
        begun, before = self._first = self._first or (now, ended)
        return (now - begun) / (ended - before) * (self.trials - ended) if ended > before else None
