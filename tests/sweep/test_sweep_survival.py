"""Workers that are killed, commands that are killed or interrupted: nothing is lost but what was running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_parts import QUICK_TRIALS, begin, make_root

from pocketaffect.sweep.worker import run_worker

pytestmark = pytest.mark.slow

TRIALS = 10
SCRIPT = (
    "import signal, sys; from pathlib import Path; from sweep_parts import begin, note_and_wait\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
    "from pocketaffect.sweep.run import run_trials\n"
    f"run_trials(begin(Path(sys.argv[1]), note_and_wait, trials={TRIALS}, workers=2))"
)


def start(root: Path) -> subprocess.Popen[str]:
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root)],
        env=os.environ | {"PYTHONPATH": places},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_workers(root: Path, count: int) -> list[int]:
    """Processes that have begun a trial which does not end, once they are so many."""
    deadline = time.monotonic() + 300
    while True:
        notes = [note for note in root.glob(".work/sweep/*/trials/*/*.note") if int(note.parent.name) >= QUICK_TRIALS]
        if len(workers := {int(note.stem) for note in notes}) >= count:
            return sorted(workers)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_workers_and_a_killed_command_lose_at_most_the_running_trials(tmp_path):
    root = make_root(tmp_path)
    command = start(root)
    os.kill(wait_for_workers(root, 1)[0], signal.SIGKILL)
    wait_for_workers(root, 3)  # the killed one, the other, and who took its place
    assert command.poll() is None
    os.killpg(command.pid, signal.SIGKILL)
    log = command.communicate()[1]
    assert "killed by signal 9; another takes its place" in log

    sweep = begin(root, trials=TRIALS)
    before = {row.number: row for row in sweep.rows() if row.outcome == "done"}
    assert len(before) == QUICK_TRIALS
    assert sum(row.outcome == "running" for row in sweep.rows()) == 2
    run_worker(sweep.plan)
    rows = sweep.rows()
    assert [row.outcome for row in rows] == ["done"] * TRIALS
    assert all(row == before[row.number] for row in rows if row.number in before)
    assert len({row.first for row in rows}) == TRIALS  # each once, under its first number


def test_ctrl_c_ends_all_workers_and_gives_their_trials_back(tmp_path):
    root = make_root(tmp_path)
    command = start(root)
    workers = wait_for_workers(root, 2)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=300)
    assert command.returncode != 0
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    sweep = begin(root, trials=TRIALS)
    assert [row.outcome for row in sweep.rows()] == ["done"] * QUICK_TRIALS + ["waiting"] * 2
    run_worker(sweep.plan)
    assert [row.outcome for row in sweep.rows()] == ["done"] * TRIALS
