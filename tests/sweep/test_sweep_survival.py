"""Workers that are killed, commands that are killed or interrupted: nothing is lost but what was running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_parts import begin, make_root

from pocketaffect.sweep.worker import run_worker

pytestmark = pytest.mark.slow

TRIALS = 10
SCRIPT = (
    "import sys; from pathlib import Path; from sweep_parts import begin, note_and_wait\n"
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


def wait_for_notes(root: Path, count: int) -> list[int]:
    """Processes that have begun a trial each, once `count` trials were begun."""
    deadline = time.monotonic() + 300
    while len(notes := sorted(root.glob(".work/sweep/*/trials/*/*.note"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(note.stem) for note in notes]


def test_killed_workers_and_a_killed_command_lose_at_most_the_running_trials(tmp_path):
    root = make_root(tmp_path)
    command = start(root)
    os.kill(wait_for_notes(root, 1)[0], signal.SIGKILL)
    wait_for_notes(root, 4)  # of whom one at least is another's
    assert command.poll() is None
    os.killpg(command.pid, signal.SIGKILL)
    log = command.communicate()[1]
    assert "killed by signal 9; another takes its place" in log

    sweep = begin(root, trials=TRIALS)
    before = {row.number: row for row in sweep.rows() if row.outcome == "done"}
    assert sum(row.outcome == "running" for row in sweep.rows()) <= 2
    run_worker(sweep.plan)
    rows = sweep.rows()
    assert [row.outcome for row in rows] == ["done"] * TRIALS
    assert all(row == before[row.number] for row in rows if row.number in before)
    assert len({row.first for row in rows}) == TRIALS  # each once, under its first number


def test_ctrl_c_ends_all_workers_and_gives_their_trials_back(tmp_path):
    root = make_root(tmp_path)
    command = start(root)
    workers = wait_for_notes(root, 1)
    command.send_signal(signal.SIGINT)
    command.communicate()
    assert command.returncode != 0
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    sweep = begin(root, trials=TRIALS)
    assert {row.outcome for row in sweep.rows()} <= {"done", "waiting"}
    run_worker(sweep.plan)
    assert [row.outcome for row in sweep.rows()] == ["done"] * TRIALS
