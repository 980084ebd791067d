"""Trials of a sweep on PostgreSQL, none lost and none doubled by many workers, and what one worker takes for as many.

    .venv/bin/python benchmarks/sweep/postgresql.py [--trials 1000] [--processes 16] [--alone 100]

A server of its own (initdb and pg_ctl have to be installed), and workers that take, suggest and tell as a sweep's do,
but import no torch and train nothing: what is left is the storage, its locks and the sampler. Trials are drawn at
random, so that each takes as long as the one before. One worker alone runs `--alone` of them. Needs no data.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

if TYPE_CHECKING:
    from pocketaffect.sweep.objective import Plan

TESTS = Path(__file__).resolve().parents[2] / "tests"


def main() -> None:
    """Prints the figures, each with what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--alone", type=int, default=100)
    arguments = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(TESTS / "sweep")]
    from postgresql_server import run_server

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with run_server() as make_database, tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        rates = [
            rate_workers(make_database(f"of{count}"), Path(folder) / str(count), trials, count)
            for count, trials in ((1, arguments.alone), (arguments.processes, arguments.trials))
        ]
    print(f"{arguments.processes} workers against one: {rates[1] / rates[0]:.2f} times the trials a second")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def rate_workers(address: str, root: Path, trials: int, processes: int) -> float:
    """Trials a second from the first worker's first to the last one's end; says what was lost and doubled."""
    from sweep_parts import begin, make_root

    from pocketaffect.sweep.objective import train_trial

    sweep = begin(make_root(root), trials=trials, storage=address, sampler="random")
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    plan = replace(sweep.plan, train=train_trial)  # the tests' own stand-in imports torch
    workers = [context.Process(target=work, args=(plan, ready)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.monotonic()
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - start
    assert all(worker.exitcode == 0 for worker in workers)
    notes = collections.Counter(note.name.split(".")[0] for note in root.glob("*.note"))
    numbers = {str(row.number) for row in sweep.rows() if row.outcome == "done"}
    doubled = sum(count > 1 for count in notes.values())
    lost = trials - len(numbers & notes.keys())
    print(
        f"{trials} instant trials by {processes} worker(s) without torch in {seconds:.1f} s, {trials / seconds:.1f} a "
        f"second: {lost} lost, {doubled} doubled (wanted 0, 0), {len(notes) - len(numbers)} beyond",
        flush=True,
    )
    return trials / seconds


def work(plan: Plan, ready: Any) -> None:
    """Takes trials as a sweep's worker does and notes each one that it has, by its own process."""
    from pocketaffect import paths
    from pocketaffect.sweep.internals import keep_beating
    from pocketaffect.sweep.objective import SETTINGS
    from pocketaffect.sweep.space import suggest_settings
    from pocketaffect.sweep.storage import open_storage
    from pocketaffect.sweep.worker import hold_lease, quieten, requeue_silent, take_trial

    quieten()
    storage = open_storage(plan.params.sweep.storage, plan.root / paths.SWEEP, requeue_silent)
    study = optuna.load_study(study_name=plan.study_name, storage=storage)
    ready.wait()
    with hold_lease(plan.folder / "workers") as name:
        while (trial := take_trial(plan, study, name)) is not None:
            with keep_beating(trial):
                trial.set_user_attr(SETTINGS, suggest_settings(plan.space, trial))
                (plan.root / f"{trial.number}.{os.getpid()}.note").touch()
            study.tell(trial, 0.5)
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
