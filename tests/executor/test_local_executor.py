"""This machine's processes: jobs in order, and workers that end well, fail, are stopped and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import find_executor
from pocketaffect.executor.local import IN_FLIGHT_PER_WORKER, map_in_order

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


def wait_and_square(number: int) -> int:
    time.sleep(0.05 * (number % 3 == 0))  # so that later jobs are finished first
    return number * number


def threads_of_opencv(_: int) -> int:
    import cv2

    return int(cv2.getNumThreads())


def fail_at(last: int, number: int) -> int:
    if number == last:
        raise PocketAffectError(f"job {number} is wrong", todo="mend it")
    return number


def kill_itself(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    return number


def note_and_sleep(folder: Path, number: int) -> int:
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)
    return number


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(met, seconds: float = PATIENCE_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(met())


def test_one_worker_is_this_process_and_reads_jobs_one_at_a_time():
    taken = []
    jobs = (taken.append(number) or number for number in count())
    results = map_in_order(partial(fail_at, -1), jobs, workers=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_results_come_in_the_jobs_order_and_few_jobs_are_taken_ahead():
    taken = []
    jobs = (taken.append(number) or number for number in range(20))
    with closing(map_in_order(wait_and_square, jobs, workers=2)) as results:
        for number, result in enumerate(results):
            assert result == number * number
            assert len(taken) <= number + 2 * IN_FLIGHT_PER_WORKER
    assert len(taken) == 20


def test_a_worker_uses_one_thread():
    assert list(map_in_order(threads_of_opencv, range(3), workers=2)) == [1, 1, 1]


def test_an_error_of_a_job_comes_through_after_the_results_before_it():
    results = map_in_order(partial(fail_at, 2), range(9), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(PocketAffectError, match="job 2 is wrong"):
        next(results)


def test_a_killed_worker_is_an_error_that_says_what_to_lower():
    with pytest.raises(PocketAffectError) as caught:
        list(map_in_order(kill_itself, range(8), workers=2))
    assert "one of 2 worker processes was killed" in str(caught.value)
    assert "preprocess.workers" in str(caught.value)
    assert "memory" in str(caught.value)
    assert caught.value.__suppress_context__


def start_sleepers(folder: Path) -> subprocess.Popen[str]:
    """A program whose two workers sleep, each having left its number in `folder`."""
    program = f"""
        import sys
        from functools import partial
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_local_executor import note_and_sleep
        from pocketaffect.executor.local import map_in_order
        if __name__ == "__main__":
            try:
                list(map_in_order(partial(note_and_sleep, Path({str(folder)!r})), range(9), workers=2))
            except KeyboardInterrupt:
                sys.exit(130)
        """
    file = folder.parent / "sleepers.py"
    file.write_text(textwrap.dedent(program))
    process = subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert wait_until(lambda: len(list(folder.iterdir())) == 2)
    return process


def test_ctrl_c_ends_workers_at_once_and_without_a_word(tmp_path):
    (tmp_path / "numbers").mkdir()
    process = start_sleepers(tmp_path / "numbers")
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)  # they would sleep five times as long
    assert process.returncode == 130
    assert output == ""
    assert not any(is_running(int(file.name)) for file in (tmp_path / "numbers").iterdir())


def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "numbers").mkdir()
    process = start_sleepers(tmp_path / "numbers")
    process.kill()
    process.wait(timeout=PATIENCE_SECONDS)
    numbers = [int(file.name) for file in (tmp_path / "numbers").iterdir()]
    assert wait_until(lambda: not any(is_running(number) for number in numbers))
