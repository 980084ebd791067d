"""Every private name of Optuna that a sweep uses, in one place: `tests/sweep/test_internals.py` tries each of them.

Optuna's public API has no way to say that a trial of another process has failed, and no heartbeat outside of
`study.optimize`.
"""

from __future__ import annotations

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._heartbeat import BaseHeartbeat, BaseHeartbeatThread, get_heartbeat_thread, is_heartbeat_enabled
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, Trial, TrialState


def get_storage(study: Study) -> BaseStorage:
    """Finds where a study's trials are kept."""
    return study._storage


def get_database(storage: BaseStorage) -> RDBStorage | None:
    """Finds the database below Optuna's cache of it; None for a journal."""
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    return backend if isinstance(backend, RDBStorage) else None


def order_studies(storage: BaseStorage) -> list[FrozenStudy]:
    """Lists the studies, oldest first."""
    return sorted(storage.get_all_studies(), key=lambda study: study._study_id)


def read_trial(trial: Trial) -> FrozenTrial:
    """Reads a running trial as the storage has it now."""
    return trial.study._storage.get_trial(trial._trial_id)


def fail(study: Study, trial: FrozenTrial) -> bool:
    """Marks a trial as failed; False where another process ended it first."""
    try:
        return study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False


def has_heartbeats(study: Study) -> bool:
    """Tells whether the storage notices workers that fall silent."""
    return is_heartbeat_enabled(study._storage)


def beat(trial: Trial) -> None:
    """Records a heartbeat of the trial where the storage keeps them."""
    storage = trial.study._storage
    if isinstance(storage, BaseHeartbeat):
        storage.record_heartbeat(trial._trial_id)


def keep_beating(trial: Trial) -> BaseHeartbeatThread:
    """Records heartbeats of the trial, in a thread, as long as the block runs."""
    return get_heartbeat_thread(trial._trial_id, trial.study._storage)
