"""The benchmarks of the registry, shortened: they hold the store to what must be true and exit with 1 if it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "registry"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "verdict"),
    [
        ("concurrency.py", ["--processes", "8", "--turns", "3"], "every version there once, one champion"),
        ("kill.py", ["--kills", "10"], "sound after each, and the repeated command finished each"),
    ],
)
def test_processes_at_once_and_kills_leave_the_store_sound(script, options, verdict):
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict in done.stdout
