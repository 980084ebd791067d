"""A sweep's runs in MLflow, when more than one command sees its trials end."""

from __future__ import annotations

import shutil

import pytest
from sweep_parts import begin, make_root

from pocketaffect.registry.lineage.trace import find_trial
from pocketaffect.registry.store.runs import flatten
from pocketaffect.registry.store.store import open_store
from pocketaffect.sweep.objective import prepare_params
from pocketaffect.sweep.results import best_first
from pocketaffect.sweep.tracking import TrialRuns
from pocketaffect.sweep.worker import run_worker


@pytest.fixture
def sweep(store_template, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = make_root(tmp_path)
    shutil.copytree(store_template, root / "mlruns")
    sweep = begin(root, trials=3)
    run_worker(sweep.plan)
    return sweep


def test_two_commands_and_one_that_was_killed_log_each_trial_once(sweep):
    store = open_store(sweep.plan.root)
    one, other = TrialRuns(store, sweep), TrialRuns(store, sweep)
    one.update(sweep.rows()[:1])
    half = {"sweep.trial": "1", "mlflow.parentRunId": one.parent}
    other.client.create_run(other.experiment, tags=half)  # and there it was killed
    other.update(sweep.rows())
    one.update(sweep.rows())
    runs = one.client.search_runs([one.experiment])
    assert sorted(run.data.tags["sweep.trial"] for run in runs) == ["0", "1", "2", "all"]
    one.finish()
    assert {run.info.status for run in one.client.search_runs([one.experiment])} == {"FINISHED"}
    TrialRuns(store, sweep)
    assert one.client.get_run(one.parent).info.status == "RUNNING"


def test_a_version_claims_a_trial_only_where_the_settings_that_all_trials_shared_are_its_own_too(sweep):
    store, best = open_store(sweep.plan.root), best_first(sweep.rows())[0]
    TrialRuns(store, sweep).update(sweep.rows())
    params = prepare_params(sweep.plan.params, dict(best.settings))
    settings = flatten(params.model_dump(by_alias=True, mode="json"))
    experiment = params.register_.experiment
    assert find_trial(store.client(), experiment, settings)["sweep.trial"] == str(best.number)
    assert find_trial(store.client(), experiment, settings | {"train.augment.mixup": 0.9}) == {}
