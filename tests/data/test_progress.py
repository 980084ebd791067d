from __future__ import annotations

import io
import logging
import sys

from pocketaffect.data import progress
from pocketaffect.data.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_lines_tell_count_rate_and_remaining_time(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e-9)
    with show_progress("images", 450_000) as advance:
        advance(60_000)
        advance(0)
        advance(390_000)
    (line,) = caplog.messages
    assert line.startswith("60,000 of 450,000 images (13 %), ")
    assert line.endswith(" images/s, 00:00 left")


def test_short_work_writes_no_line(caplog, capsys):
    caplog.set_level(logging.INFO)
    with show_progress("images", 10) as advance:
        advance(9)
        advance(1)
    assert caplog.messages == []
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_count_rate_and_remaining_time(caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with show_progress("images", 40) as advance:
        advance(10)
        advance(30)
    assert "40/40" in sys.stderr.getvalue()
    assert "images/s" in sys.stderr.getvalue()
    assert caplog.messages == []
