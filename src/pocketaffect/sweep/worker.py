"""A worker: takes trials from the study one by one until there are no more, and those of workers that died.

On the journal a worker holds a lock file for as long as it lives; the kernel gives the lock free when the process ends,
in whatever way. A running trial whose worker holds no lock is stale: at once, with no clock and no grace. A database
has heartbeats, which Optuna keeps.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import optuna
from filelock import FileLock, Timeout
from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pocketaffect import paths
from pocketaffect.arithmetic import may_pin_arithmetic, pin_arithmetic
from pocketaffect.errors import PocketAffectError
from pocketaffect.sweep.internals import beat, fail, get_storage, has_heartbeats, keep_beating, read_trial
from pocketaffect.sweep.objective import DEATHS, ERROR, HISTORY, PART, WORKER, Plan, first_number, run_trial
from pocketaffect.sweep.results import best_first, find_front, find_repeated, read_rows
from pocketaffect.sweep.storage import hold_study, open_storage
from pocketaffect.sweep.study import count_finalists, make_pruner, make_sampler

logger = logging.getLogger(__name__)

ERROR_LETTERS: Final = 1000
WAIT_SECONDS: Final = 0.5
MAX_DEATHS: Final = 3
"""Deaths of workers after which a trial is not given to another: it is what kills them."""


def run_worker(plan: Plan) -> None:
    """Works on the plan's study; many processes may, on one machine or several.

    Raises:
        KeyboardInterrupt: Stopped; the running trial is queued again.
        PocketAffectError: The storage cannot be reached.
    """
    train = plan.params.train
    if may_pin_arithmetic(threads=train.threads, instructions=train.instructions):
        pin_arithmetic(threads=train.threads, instructions=train.instructions)
    # else: a process that only lends itself, in which arithmetic is what it is
    quieten()
    storage = open_storage(plan.params.sweep.storage, plan.root / paths.SWEEP, requeue_silent)
    study = optuna.load_study(study_name=plan.study_name, storage=storage)
    with hold_lease(plan.folder / "workers") as name:
        while (trial := take_trial(plan, study, name)) is not None:
            work_on(plan, study, trial)
    storage.remove_session()


def take_trial(plan: Plan, study: Study, worker: str) -> Trial | None:
    """Takes the next trial; None when as many as wanted were given out and all of them came to an end.

    While the last trials run elsewhere this waits: should their worker die, they come back.
    """
    while True:
        trial, open_trials = _take(plan, study, worker)
        if trial is not None or not open_trials:
            return trial
        time.sleep(WAIT_SECONDS)


def _take(plan: Plan, study: Study, worker: str) -> tuple[Trial | None, bool]:
    """Takes a trial, if there is one to take; and whether any runs."""
    sweep = plan.params.sweep
    with hold_study(get_storage(study), plan.study_name, plan.folder):
        reclaim_stale(study, plan.folder / "workers")
        counted, waiting = count_trials(study)
        running = bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        if not waiting and counted >= sweep.trials:
            return None, running
        if sweep.faces and not waiting and counted >= sweep.trials - count_finalists(sweep.trials):
            if running:  # it may be among the best
                return None, True
            enqueue_finalists(study, sweep.trials - counted)
        study.sampler = make_sampler(sweep.sampler, sweep.seed, find_place(study))
        study.pruner = make_pruner(sweep.pruner, sweep.epochs, plan.params.train.warmup_epochs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Heartbeat of storage")  # `work_on` keeps it
            trial = study.ask()
        sign(trial, worker)
    return trial, True


def enqueue_finalists(study: Study, most: int) -> None:
    """Queues the best networks of a part of the faces, with two objectives those of their front, to train on all.

    Where fewer were trained to their end, the rest are those that were stopped last, the best of them first.
    """
    rows = read_rows(study)
    chosen = {row.part for row in rows}
    best = {row.first: row for row in reversed(best_first([row for row in rows if row.faces is not None]))}
    parts = list(best.values())  # settings once
    front = find_front(parts) if len(study.directions) > 1 else []
    left = {row.number: row for row in [*reversed(front), *best_first(parts)] if row.number not in chosen}
    stopped = [row for row in rows if row.outcome == "stopped early" and row.number not in chosen]
    stopped.sort(key=lambda row: (-row.epochs, -(row.score or 0.0), row.number))
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for number in [*left, *(row.number for row in stopped)][:most]:
        study.enqueue_trial(trials[number].params, user_attrs={PART: number})


def work_on(plan: Plan, study: Study, trial: Trial) -> None:
    """Runs a trial and tells the study how it ended.

    Raises:
        KeyboardInterrupt: The trial was given back.
    """
    try:
        with keep_beating(trial):
            values = run_trial(plan, study, trial)
        with _unless_taken_over():
            study.tell(trial, values)
    except optuna.TrialPruned:
        with _unless_taken_over():
            study.tell(trial, state=TrialState.PRUNED)
    except KeyboardInterrupt:
        with hold_study(get_storage(study), plan.study_name, plan.folder):
            given_back = read_trial(trial)
            if fail(study, given_back):
                requeue(study, given_back, died=False)
        raise
    except Exception as error:  # lack of memory, NaN, a network that cannot be: the other trials go on
        if not isinstance(error, PocketAffectError):
            logger.exception("trial %d failed", trial.number)
        with _unless_taken_over():
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:ERROR_LETTERS])
            study.tell(trial, state=TrialState.FAIL)


def quieten() -> None:
    """Keeps Optuna's and Lightning's own reports from the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Clip non-finite values")  # those of trials over the budget
    logging.getLogger("pocketaffect").setLevel(logging.WARNING)


@contextlib.contextmanager
def _unless_taken_over() -> Iterator[None]:
    """Lets the word of another hold, who ended the trial while this worker of a database was silent for too long."""
    try:
        yield
    except UpdateFinishedTrialError:
        logger.warning("a trial was taken over while this worker was silent")
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise


@contextlib.contextmanager
def hold_lease(folder: Path) -> Iterator[str]:
    """Holds a name for this worker until the block or the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    file = folder / f"{name}.lock"
    try:
        with FileLock(file):
            yield name
    finally:
        file.unlink(missing_ok=True)


def is_alive(folder: Path, worker: str | None) -> bool:
    """Tells whether the worker still holds its lease."""
    file = folder / f"{worker}.lock"
    if worker is None or not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            pass
    except Timeout:
        return True
    file.unlink(missing_ok=True)  # its name is nobody else's
    return False


def reclaim_stale(study: Study, folder: Path) -> list[int]:
    """Marks the running trials of dead workers as failed and queues them again; to be called with the study held.

    A database's heartbeat begins a moment after the trial: there, trials that nobody signed are looked for here.

    Returns:
        The numbers of the trials that were lost.
    """
    beats = has_heartbeats(study)
    if beats:
        fail_stale_trials(study)
    lost = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)
        alive = worker is not None if beats else is_alive(folder, worker)
        if not alive and fail(study, trial):
            requeue(study, trial, died=True)
            lost.append(trial.number)
    return lost


def sign(trial: Trial, worker: str) -> None:
    """Says who has the trial, with the study held; from now on its silence can be noticed."""
    beat(trial)  # first: a signed trial without a heartbeat would never be missed
    trial.set_user_attr(WORKER, worker)


def requeue(study: Study, trial: FrozenTrial, *, died: bool) -> None:
    """Queues a trial again under a new number, with the settings that it had.

    Its worker died, which may happen `MAX_DEATHS` times; or was stopped, which may happen always.
    """
    deaths = int(trial.user_attrs.get(DEATHS, 0)) + died
    if deaths >= MAX_DEATHS:
        return
    kept = {name: trial.user_attrs[name] for name in (PART,) if name in trial.user_attrs}
    history = [*trial.system_attrs.get(HISTORY, []), trial.number]
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={DEATHS: deaths, **kept},
            system_attrs={"failed_trial": history[0], HISTORY: history},
        )
    )


def requeue_silent(study: Study, trial: FrozenTrial) -> None:
    """Queues a trial again whose heartbeat stopped, as a database does."""
    requeue(study, trial, died=True)


def count_trials(study: Study) -> tuple[int, int]:
    """Counts the trials that count, and those of them that wait for a worker. What was queued again counts once."""
    trials = study.get_trials(deepcopy=False)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return len(trials) - len(find_repeated(trials)), waiting


def find_place(study: Study) -> int:
    """Counts the trials that came before the one that `ask` gives next: the first that waits, else a new one.

    A trial that lost its worker before it had settings has the place that it had, and so the same suggestion.
    """
    trials = study.get_trials(deepcopy=False)
    waiting = next((trial for trial in trials if trial.state == TrialState.WAITING), None)
    number = len(trials) if waiting is None else first_number(waiting)
    return sum(HISTORY not in trial.system_attrs for trial in trials[:number])
