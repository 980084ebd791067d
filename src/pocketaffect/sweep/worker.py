"""A worker: takes trials from the study one by one until there are no more."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pocketaffect import paths
from pocketaffect.arithmetic import may_pin_arithmetic, pin_arithmetic
from pocketaffect.errors import PocketAffectError
from pocketaffect.sweep.objective import ERROR, Plan

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

ERROR_LETTERS: Final = 1000
WAIT_SECONDS: Final = 0.5


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
    import optuna

    from pocketaffect.sweep.leases import hold_lease, requeue_silent
    from pocketaffect.sweep.storage import open_storage

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
    from optuna.trial import TrialState

    from pocketaffect.sweep.internals import get_storage
    from pocketaffect.sweep.leases import count_trials, find_place, reclaim_stale, sign
    from pocketaffect.sweep.storage import hold_study
    from pocketaffect.sweep.study import make_pruner, make_sampler

    sweep = plan.params.sweep
    with hold_study(get_storage(study), plan.study_name, plan.folder):
        reclaim_stale(study, plan.folder / "workers")
        counted, waiting = count_trials(study)
        if not waiting and counted >= sweep.trials:
            return None, bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        study.sampler = make_sampler(sweep.sampler, sweep.seed, find_place(study))
        study.pruner = make_pruner(sweep.pruner, sweep.epochs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Heartbeat of storage")  # `work_on` keeps it
            trial = study.ask()
        sign(trial, worker)
    return trial, True


def work_on(plan: Plan, study: Study, trial: Trial) -> None:
    """Runs a trial and tells the study how it ended.

    Raises:
        KeyboardInterrupt: The trial was given back.
    """
    import optuna
    from optuna.trial import TrialState

    from pocketaffect.sweep.internals import fail, get_storage, keep_beating, read_trial
    from pocketaffect.sweep.leases import requeue
    from pocketaffect.sweep.objective import run_trial
    from pocketaffect.sweep.storage import hold_study

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
            logging.getLogger(__name__).exception("trial %d failed", trial.number)
        with _unless_taken_over():
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:ERROR_LETTERS])
            study.tell(trial, state=TrialState.FAIL)


def quieten() -> None:
    """Keeps Optuna's and Lightning's own reports from the table."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Clip non-finite values")  # those of trials over the budget
    logging.getLogger("pocketaffect").setLevel(logging.WARNING)


@contextlib.contextmanager
def _unless_taken_over() -> Iterator[None]:
    """A database's worker that was silent for too long finds its trial ended by another: that one's word holds."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        yield
    except UpdateFinishedTrialError:
        logging.getLogger(__name__).warning("a trial was taken over while this worker was silent")
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
