"""The benchmarks of kills and of processes at once, shortened: they exit with 1 where what must be true is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "verdict"),
    [
        ("registry/concurrency.py", ["--processes", "8", "--turns", "3"], "every version there once, one champion"),
        ("registry/kill.py", ["--kills", "10"], "sound after each, and the repeated command finished each"),
        ("kill.py", ["--kills", "2"], "sound after each, and the repeated command finished each"),
    ],
)
def test_processes_at_once_and_kills_leave_the_store_sound(script, options, verdict):
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict in done.stdout
