"""What a sweep uses of Optuna's private names, tried on real storages: an update of Optuna fails here first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from pocketaffect.sweep import storage as storages

SOURCES = Path(storages.__file__).parents[1]
PRIVATE = re.compile(r"\._(storage|trial_id|study_id|backend)\b|\boptuna[\w.]*\._\w+")
CHANGED = f"Optuna {optuna.__version__} changed what pocketaffect/sweep/internals.py needs of it; mend that file alone"


@pytest.fixture(params=["journal", "database"])
def study(request, tmp_path) -> optuna.Study:
    if request.param == "journal":
        storage = storages.open_storage("journal", tmp_path)
    else:
        storage = RDBStorage(f"sqlite:///{tmp_path}/study.db", heartbeat_interval=1, grace_period=2)
    return optuna.create_study(storage=storage)


def test_the_names_are_there():
    done = subprocess.run([sys.executable, "-c", "import pocketaffect.sweep.internals"], capture_output=True, text=True)
    assert done.returncode == 0, f"{CHANGED}\n{done.stderr}"


def test_no_other_file_uses_a_private_name():
    users = {file.name for file in (SOURCES / "sweep").glob("*.py") if PRIVATE.search(file.read_text())}
    assert users == {"internals.py"}


def test_a_trial_is_read_failed_once_and_kept_alive(study):
    from pocketaffect.sweep import internals

    is_database = internals.get_database(internals.get_storage(study)) is not None
    trial = study.ask()
    assert internals.has_heartbeats(study) == is_database, CHANGED
    internals.beat(trial)
    with internals.keep_beating(trial):
        trial.set_user_attr("a", 1)
        assert internals.read_trial(trial).user_attrs == {"a": 1}, CHANGED
    frozen = internals.read_trial(trial)
    assert [internals.fail(study, frozen), internals.fail(study, frozen)] == [True, False], CHANGED
    assert study.trials[0].state == TrialState.FAIL
    optuna.create_study(storage=internals.get_storage(study), study_name="later")
    names = [one.study_name for one in internals.order_studies(internals.get_storage(study))]
    assert names == [study.study_name, "later"], CHANGED
