"""A sweep in a real PostgreSQL server, which the tests start; skipped where there is none to start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback

import pytest
from sqlalchemy import create_engine, text
from sweep_parts import begin, kill_own_process, make_root

from pocketaffect.errors import PocketAffectError
from pocketaffect.sweep import storage
from pocketaffect.sweep.worker import run_worker
from postgresql_server import run_server


@pytest.fixture(scope="module")
def make_database():
    with run_server() as make:
        yield make


def in_forks(*calls) -> list[int]:
    """Exit codes of processes that made these calls at the same time."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(len(calls))

    def run(call) -> None:
        try:
            start.wait(300)
            call()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=run, args=(call,)) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_two_machines_that_begin_at_once_share_the_trials_and_lose_or_double_none(make_database, tmp_path, capfd):
    import torch  # noqa: F401 - both once, for both processes

    address = make_database("optuna")

    def work(number: int) -> None:
        sweep = begin(make_root(tmp_path / str(number)), storage=address, trials=24)  # no folder in common
        run_worker(sweep.plan)

    assert in_forks(lambda: work(0), lambda: work(1)) == [0, 0], capfd.readouterr().err
    sweep = begin(make_root(tmp_path / "third"), storage=address, trials=24)
    rows = sweep.rows()
    assert [(row.number, row.outcome) for row in rows] == [(number, "done") for number in range(24)]
    workers = {trial.user_attrs["worker"] for trial in sweep.study.trials}
    assert len(workers) == 2
    assert len(sweep.study.trials) == 24


@pytest.mark.slow
def test_the_trial_of_a_worker_that_fell_silent_is_queued_again(make_database, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "GRACE_SECONDS", 3)
    address = make_database("optuna")
    root = make_root(tmp_path)
    begin(root, storage=address, trials=2)

    def be_killed() -> None:
        run_worker(begin(root, kill_own_process, storage=address, trials=2).plan)

    assert in_forks(be_killed) == [-signal.SIGKILL]
    sweep = begin(root, storage=address, trials=2)
    assert [row.outcome for row in sweep.rows()] == ["running"]
    run_worker(sweep.plan)
    rows = sweep.rows()
    assert [row.outcome for row in rows] == ["done", "done"]
    assert 0 in {row.first for row in rows}
    assert 0 not in {row.number for row in rows}


@pytest.mark.slow
def test_a_database_of_mlflow_s_is_refused(make_database, tmp_path):
    address = make_database("mlflow")
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE experiments (experiment_id int)"))
    engine.dispose()
    with pytest.raises(PocketAffectError, match="already holds MLflow's runs"):
        begin(make_root(tmp_path), storage=address)
