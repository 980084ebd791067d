from __future__ import annotations

import io
import logging
import sys

import pytest

from pocketaffect.data.progress import describe_duration, show_progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(caplog) -> Clock:
    caplog.set_level(logging.INFO)
    return Clock()


def test_without_a_terminal_a_line_comes_every_thirty_seconds_with_rate_and_remaining_time(caplog, clock):
    with show_progress("images", 450_000, stream=io.StringIO(), clock=clock) as progress:
        for _ in range(70):
            clock.now += 1
            progress(2000)
    assert caplog.messages == [
        "60,000 of 450,000 images (13 %), 2,000 a second, 3 min left",
        "120,000 of 450,000 images (27 %), 2,000 a second, 3 min left",
    ]


def test_the_rate_is_the_last_line_s_so_that_shards_of_an_earlier_run_do_not_count(caplog, clock):
    with show_progress("images", 100_000, stream=io.StringIO(), clock=clock) as progress:
        clock.now += 31
        progress(60_000)
        clock.now += 40
        progress(1000)
    assert caplog.messages[1] == "61,000 of 100,000 images (61 %), 25 a second, 26 min left"


def test_a_stage_that_stands_still_divides_by_nothing(caplog, clock):
    with show_progress("images", 10, stream=io.StringIO(), clock=clock) as progress:
        clock.now += 31
        progress(0)
        clock.now += 60
        progress(1)
    assert caplog.messages == [
        "0 of 10 images (0 %), 0 a second, unknown time left",
        "1 of 10 images (10 %), 0.017 a second, 9 min left",
    ]


def test_short_work_writes_no_line(caplog, clock):
    with show_progress("images", 10, stream=io.StringIO(), clock=clock) as progress:
        clock.now += 29
        progress(9)
        clock.now += 29
        progress(1)
    assert caplog.messages == []


def test_a_terminal_gets_a_bar_with_count_rate_and_remaining_time(caplog, clock):
    terminal = Terminal()
    with show_progress("images", 40, stream=terminal) as progress:
        progress(10)
        progress(30)
    shown = terminal.getvalue()
    assert "40/40" in shown
    assert "images/s" in shown
    assert caplog.messages == []


def test_standard_error_is_looked_at_when_the_work_starts(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_progress("images", 1) as progress:
        progress(1)
    assert "1/1" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"), (11_100, "3 h 05 min")],
)
def test_durations_read_as_a_person_says_them(seconds, text):
    assert describe_duration(seconds) == text
