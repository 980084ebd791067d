"""Who is at work on which trial, and what becomes of the trials of those who are not any more.

On the journal a worker holds a lock file for as long as it lives; the kernel gives the lock free when the process ends,
in whatever way. A running trial whose worker holds no lock is stale: at once, with no clock and no grace. A database
has heartbeats, which Optuna keeps.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState, create_trial

from pocketaffect.sweep.internals import beat, fail, has_heartbeats

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

WORKER: Final = "worker"
"""Attribute of a trial: the worker that has it."""

DEATHS: Final = "deaths"
"""Attribute of a trial: how many workers died of it, or during it."""

MAX_DEATHS: Final = 3
"""Deaths of workers after which a trial is not given to another: it is what kills them."""

HISTORY: Final = "retry_history"
"""Optuna's own attribute for the numbers of the trials that a trial repeats."""


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
    from optuna.storages import fail_stale_trials

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

    Args:
        study: The trial's study.
        trial: The trial when it failed.
        died: Whether its worker died, which may happen `MAX_DEATHS` times; or was stopped, which may happen always.
    """
    deaths = int(trial.user_attrs.get(DEATHS, 0)) + died
    if deaths >= MAX_DEATHS:
        return
    history = [*trial.system_attrs.get(HISTORY, []), trial.number]
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={DEATHS: deaths},
            system_attrs={"failed_trial": history[0], HISTORY: history},
        )
    )


def requeue_silent(study: Study, trial: FrozenTrial) -> None:
    """Queues a trial again whose heartbeat stopped, as a database does."""
    requeue(study, trial, died=True)


def first_number(trial: FrozenTrial) -> int:
    """Finds the number that the trial had before any repetition."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def count_trials(study: Study) -> tuple[int, int]:
    """Counts the trials that count, and those of them that wait for a worker. What was queued again counts once."""
    trials = study.get_trials(deepcopy=False)
    repeated = {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return len(trials) - len(repeated), waiting


def find_place(study: Study) -> int:
    """Counts the trials that came before the one that `ask` gives next: the first that waits, else a new one.

    A trial that lost its worker before it had settings has the place that it had, and so the same suggestion.
    """
    trials = study.get_trials(deepcopy=False)
    waiting = next((trial for trial in trials if trial.state == TrialState.WAITING), None)
    number = len(trials) if waiting is None else first_number(waiting)
    return sum(HISTORY not in trial.system_attrs for trial in trials[:number])
