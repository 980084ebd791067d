"""The local executor: processes that end well, fail, are stopped and are killed."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import find_executor

PATIENCE_SECONDS = 120
"""What a process may take on a busy machine."""


def leave_note(folder: Path) -> None:
    (folder / "note").write_text(f"{os.getpid()} {'torch' in sys.modules}")


def fail(text: str) -> None:
    raise ValueError(text)


def sleep_until_stopped(folder: Path) -> None:
    (folder / "asleep").touch()
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        (folder / "woken").touch()
        raise


def double(number: int) -> int:
    return 2 * number


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_a_worker_is_a_fresh_process_that_ends_well(tmp_path):
    worker = find_executor("local").start(partial(leave_note, tmp_path))
    assert worker.wait(PATIENCE_SECONDS)
    assert worker.failure() is None
    process, has_torch = (tmp_path / "note").read_text().split()
    assert int(process) != os.getpid()
    assert has_torch == "False"


def note_gpu(folder: Path, number: int) -> None:
    (folder / f"{number}.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    (folder / f"gpu{number}").touch()
    sleep_until_stopped(folder)


def test_workers_share_the_gpus_evenly_and_one_takes_an_ended_ones_place(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    executor = find_executor("local")
    workers = []

    def start(accelerator: str) -> str:
        number = len(workers)
        workers.append(executor.start(partial(note_gpu, tmp_path, number), accelerator=accelerator))
        wait_for(tmp_path / f"gpu{number}")
        return (tmp_path / f"{number}.txt").read_text()

    try:
        assert [start("gpu"), start("auto"), start("gpu"), start("cpu")] == ["3", "GPU-5", "3", "3,GPU-5"]
        workers[1].kill()
        assert workers[1].wait(PATIENCE_SECONDS)
        assert start("auto") == "GPU-5"
    finally:
        for worker in workers:
            worker.kill()


def test_an_error_s_text_comes_home(capfd):
    worker = find_executor("local").start(partial(fail, "no such thing, " * 20_000))  # more than a pipe holds
    assert worker.wait(PATIENCE_SECONDS)
    assert worker.failure().startswith("no such thing, no such thing")
    assert worker.failure() == worker.failure()


def test_a_stopped_worker_sees_a_keyboard_interrupt_and_a_killed_one_is_told_by_its_signal(tmp_path):
    executor = find_executor("local")
    worker = executor.start(partial(sleep_until_stopped, tmp_path))
    assert not worker.wait(0)
    wait_for(tmp_path / "asleep")
    worker.stop()
    assert worker.wait(PATIENCE_SECONDS)
    assert (tmp_path / "woken").exists()
    worker.stop()  # harmless by now
    other = executor.start(partial(time.sleep, 600))
    other.kill()
    assert other.wait(PATIENCE_SECONDS)
    assert other.failure() == f"killed by signal {signal.SIGKILL}"


def test_results_come_in_the_order_of_their_jobs():
    assert list(find_executor("local").map_in_order(double, range(5), workers=1)) == [0, 2, 4, 6, 8]


def test_an_unknown_executor_is_refused_by_name():
    with pytest.raises(PocketAffectError, match="local, ray"):
        find_executor("dask")
