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
from pocketaffect.executor.local import IN_FLIGHT_PER_WORKER, map_in_order


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
    time.sleep(60)
    return number


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(met, seconds: float = 20) -> bool:
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
        from test_pool import note_and_sleep
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
    assert wait_until(lambda: len(list(folder.iterdir())) == 2, 60)
    return process


def test_ctrl_c_ends_workers_at_once_and_without_a_word(tmp_path):
    (tmp_path / "numbers").mkdir()
    process = start_sleepers(tmp_path / "numbers")
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == ""
    assert time.monotonic() - begun < 15
    assert not any(is_running(int(file.name)) for file in (tmp_path / "numbers").iterdir())


def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "numbers").mkdir()
    process = start_sleepers(tmp_path / "numbers")
    process.kill()
    process.wait(timeout=30)
    numbers = [int(file.name) for file in (tmp_path / "numbers").iterdir()]
    assert wait_until(lambda: not any(is_running(number) for number in numbers))
