"""The Ray executor: on a cluster of two nodes that the tests start, and where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import find_executor
from pocketaffect.executor.ray_cluster import RayExecutor
from pocketaffect.training.launch import run_ranks

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "sweep"))

PATIENCE_SECONDS = 180
"""What a process may take on a busy machine."""

BUSY = 3
"""Load of a core from which on a cluster that does not start says nothing of the code."""


def square(number: int) -> int:
    if number == 13:
        raise PocketAffectError("no squares of thirteen", found=number)
    return number**2


def sleep_until_stopped(note: Path) -> None:
    note.write_text(f"{os.getpid()} {'cv2' in sys.modules}")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        note.write_text("woken")
        raise


def add_up_ranks(folder: Path) -> None:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(total)
    (folder / f"rank{dist.get_rank()}").write_text(f"{total.item()} {dist.get_world_size()}")
    dist.destroy_process_group()


def fail_in_rank(folder: Path) -> None:
    if os.environ["RANK"] == "1":
        raise ValueError("rank 1 has no luck")
    time.sleep(600)


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)
    return path.read_text()


@pytest.fixture(scope="module")
def cluster():
    from two_nodes import run_two_nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # nodes import this file
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(run_two_nodes())
            except Exception as error:
                if (load := os.getloadavg()[0]) < BUSY * (os.cpu_count() or 1):
                    raise
                pytest.skip(f"under a load of {load:.0f} Ray's nodes do not start within Ray's own 15 s: {error}")
            yield cluster


@pytest.mark.slow
def test_jobs_and_workers_behave_as_this_machine_s_own_do(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    executor = find_executor("ray")
    executor.require_shared_folder("a test")
    assert list(executor.map_in_order(square, range(9), workers=2)) == [number**2 for number in range(9)]
    with pytest.raises(PocketAffectError, match="no squares of thirteen"):
        list(executor.map_in_order(square, range(20), workers=2))

    # Two on two CPUs, each in a process that has imported nothing; a third would wait for ever.
    notes = [tmp_path / "first", tmp_path / "second"]
    workers = [executor.start(partial(sleep_until_stopped, note)) for note in notes]
    with pytest.raises(PocketAffectError, match="3 workers, 2 CPUs on 2 nodes"):
        executor.start(partial(sleep_until_stopped, tmp_path / "third"))
    processes = [int(wait_for(note).split()[0]) for note in notes]
    assert [wait_for(note).split()[1] for note in notes] == ["False", "False"]
    assert not workers[0].wait(0)
    workers[0].stop()
    assert workers[0].wait(PATIENCE_SECONDS)
    assert workers[0].failure() == f"killed by signal {signal.SIGTERM}"  # the sweep replaces it
    assert notes[0].read_text() == "woken"
    workers[1].kill()
    assert workers[1].wait(PATIENCE_SECONDS)
    assert workers[1].failure() == "killed, or its node was lost"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and Path(f"/proc/{processes[1]}").exists():
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(processes[1], signal.SIGCONT)


@pytest.mark.slow
def test_ranks_find_each_other_across_nodes_and_one_that_fails_ends_the_other(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    executor = find_executor("ray")
    run_ranks(executor, partial(add_up_ranks, tmp_path), ranks=2, accelerator="cpu", work=tmp_path / "work")
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(2)] == ["3 2", "3 2"]
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(PocketAffectError, match=r"process 1 of 2 ended\n.*rank 1 has no luck"):
        run_ranks(executor, partial(fail_in_rank, tmp_path), ranks=2, accelerator="cpu", work=tmp_path / "work")
    with pytest.raises(PocketAffectError, match="3 workers, 2 CPUs"):
        run_ranks(executor, partial(fail_in_rank, tmp_path), ranks=3, accelerator="cpu", work=tmp_path / "work")


@pytest.mark.slow
def test_nodes_with_other_code_or_another_folder_are_refused_before_any_work(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as context:
        context.setattr("pocketaffect.executor.ray_cluster.hash_code", lambda: "older")
        with pytest.raises(PocketAffectError, match="another version of pocketaffect's code"):
            RayExecutor()
    executor = RayExecutor()
    executor._apart = ["10.0.0.7"]
    with pytest.raises(PocketAffectError, match=r"sweep.storage: journal needs .* all nodes share"):
        executor.require_shared_folder("sweep.storage: journal")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no cluster answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", "no cluster answers at 127.0.0.1:99999"),
        ("ray://127.0.0.1:10001", "RAY_ADDRESS: not a cluster's address"),
        ("head", "RAY_ADDRESS: not a cluster's address"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch, address, says):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(PocketAffectError, match=says):
        find_executor("ray")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PocketAffectError, match=r"pocketaffect\[ray\]"):
        RayExecutor()
