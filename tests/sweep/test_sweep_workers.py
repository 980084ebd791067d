from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_parts import begin, fail_without_weights, make_params, make_root, note_arithmetic, score_by_rate

from pocketaffect.arithmetic import AVX2_VARIABLES, THREAD_VARIABLES
from pocketaffect.sweep.budget import predict_cost
from pocketaffect.sweep.objective import WORST_SCORE, prepare_params
from pocketaffect.sweep.results import best_first, count_epochs, find_front
from pocketaffect.sweep.space import suggest_settings
from pocketaffect.sweep.worker import (
    MAX_DEATHS,
    count_trials,
    hold_lease,
    is_alive,
    reclaim_stale,
    run_worker,
    take_trial,
    work_on,
)


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path)


def test_a_worker_takes_as_many_trials_as_are_wanted_and_a_repeated_call_takes_the_rest(root):
    sweep = begin(root, trials=3)
    run_worker(sweep.plan)
    assert [row.outcome for row in sweep.rows()] == ["done"] * 3
    run_worker(sweep.plan)
    assert len(sweep.rows()) == 3
    more = begin(root, trials=5)
    run_worker(more.plan)
    assert [row.number for row in more.rows()] == [0, 1, 2, 3, 4]
    assert more.rows()[:3] == sweep.rows()[:3]


def test_a_sweep_in_two_calls_makes_the_suggestions_of_one(tmp_path):
    whole = begin(make_root(tmp_path / "whole"), trials=6, sampler="tpe")
    run_worker(whole.plan)
    for trials in (2, 6):
        parts = begin(make_root(tmp_path / "parts"), trials=trials, sampler="tpe")
        run_worker(parts.plan)
    assert [row.settings for row in parts.rows()] == [row.settings for row in whole.rows()]


def test_what_is_over_the_budget_trains_nothing_and_says_its_bytes(root):
    trained = []

    def train(plan, params, trial, folder):
        trained.append(predict_cost(params).bytes)
        return score_by_rate(plan, params, trial, folder)

    budget = 110_000
    sweep = begin(root, train, trials=20, budget_bytes=budget)
    run_worker(sweep.plan)
    over = [row for row in sweep.rows() if row.outcome == "over budget"]
    assert over
    assert trained
    assert max(trained) <= budget
    assert len(trained) + len(over) == 20
    for row in over:
        assert row.bytes == predict_cost(prepare_params(sweep.plan.params, row.settings)).bytes > budget
        assert (row.score, row.epochs) == (None, 0)
        trial = sweep.study.trials[row.number]
        assert trial.value == WORST_SCORE
        assert trial.constraints == {"bytes": row.bytes / budget - 1}
    assert count_epochs(sweep.rows()) == 3 * len(trained)


def test_what_is_over_the_multiplications_alone_trains_nothing_and_says_so(root):
    macs = 400_000
    sweep = begin(root, trials=12, budget_macs=macs)
    run_worker(sweep.plan)
    over = [row for row in sweep.rows() if row.outcome == "over budget"]
    assert 0 < len(over) < 12
    for row in sweep.rows():
        assert row.macs == predict_cost(prepare_params(sweep.plan.params, row.settings)).macs
        assert (row in over) == (row.macs > macs)
        assert sweep.study.trials[row.number].constraints["macs"] == row.macs / macs - 1
        assert row.remark == (f"{row.macs:,} multiply-accumulates are over sweep.budget_macs" if row in over else "")


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_every_sampler_works_under_the_budget(root, sampler):
    sweep = begin(root, trials=13, sampler=sampler, budget_bytes=110_000)  # 10 of them are a model's beginning
    run_worker(sweep.plan)
    assert len(sweep.rows()) == 13
    assert best_first(sweep.rows())[0].score > 0.9


def test_a_failing_trial_is_recorded_with_its_error_and_the_others_go_on(root):
    sweep = begin(root, fail_without_weights, trials=12)
    run_worker(sweep.plan)
    rows = sweep.rows()
    failed = [row for row in rows if row.outcome == "failed"]
    assert {row.remark.split(":")[0] for row in failed} == {"PocketAffectError", "RuntimeError", "MemoryError"}
    assert any("not enough memory: tried 9 GB" in row.remark for row in failed)
    assert len(rows) == 12
    assert best_first(rows)
    assert all(row.settings["train.class_weights"] == "none" for row in failed)


def test_equal_settings_are_trained_once(root):
    calls = itertools.count()

    def train(plan, params, trial, folder):
        next(calls)
        return score_by_rate(plan, params, trial, folder)

    sweep = begin(root, train, trials=6, space={"model.width": [0.1, 0.15], "train.learning_rate": [0.01, 0.02]})
    run_worker(sweep.plan)
    rows = sweep.rows()
    distinct = {tuple(row.settings.values()) for row in rows}
    assert next(calls) == len(distinct) < 6
    for row in rows:
        same = next(one for one in rows if one.settings == row.settings)
        assert (row.score, row.first) == (same.score, same.number)
        assert row is same or row.remark == f"as trial {same.number}"


def test_two_objectives_give_a_front_that_nothing_beats(root):
    sweep = begin(root, trials=15, objectives="score-and-bytes", sampler="nsga2")
    run_worker(sweep.plan)
    done = best_first(sweep.rows())
    front = find_front(sweep.rows())
    for row in done:
        beaten = any(
            (one.score >= row.score and one.bytes <= row.bytes) and (one.score, one.bytes) != (row.score, row.bytes)
            for one in done
        )
        assert beaten == (row.number not in {one.number for one in front})
    assert {trial.number for trial in sweep.study.best_trials} == {row.number for row in front}


def test_a_lease_lasts_as_long_as_its_holder(tmp_path):
    with hold_lease(tmp_path) as worker:
        assert is_alive(tmp_path, worker)
    assert not is_alive(tmp_path, worker)
    assert not is_alive(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_the_trial_of_a_dead_worker_is_queued_again_and_counts_once(root):
    sweep = begin(root, trials=3)
    lost = take_trial(sweep.plan, sweep.study, "a worker that holds no lease")
    settings = suggest_settings(sweep.plan.space, lost)
    run_worker(sweep.plan)
    rows = sweep.rows()
    assert [row.outcome for row in rows] == ["done"] * 3
    again = next(row for row in rows if row.first == lost.number)
    assert again.number != lost.number
    assert again.settings == settings
    assert count_trials(sweep.study) == (3, 0)


def test_a_trial_that_lost_its_worker_before_it_had_settings_gets_those_that_it_would_have_had(tmp_path):
    whole, parts = (begin(make_root(tmp_path / name), trials=4) for name in ("whole", "parts"))
    run_worker(whole.plan)
    for _ in range(2):
        take_trial(parts.plan, parts.study, "dead")
    run_worker(parts.plan)
    by_first = sorted(parts.rows(), key=lambda row: row.first)
    assert [row.settings for row in by_first] == [row.settings for row in whole.rows()]


def test_a_living_worker_keeps_its_trial(root):
    sweep = begin(root)
    with hold_lease(sweep.plan.folder / "workers") as worker:
        take_trial(sweep.plan, sweep.study, worker)
        assert reclaim_stale(sweep.study, sweep.plan.folder / "workers") == []
    assert reclaim_stale(sweep.study, sweep.plan.folder / "workers") == [0]


def test_a_trial_that_kills_its_workers_is_given_up(root):
    sweep = begin(root, trials=1)
    for _ in range(MAX_DEATHS):
        take_trial(sweep.plan, sweep.study, "dead")
        reclaim_stale(sweep.study, sweep.plan.folder / "workers")
    run_worker(sweep.plan)
    (row,) = sweep.rows()
    assert row.outcome == "failed"
    assert row.remark == f"{MAX_DEATHS} worker(s) died of it: killed, or out of memory"


def test_a_stopped_worker_gives_its_trial_back_however_often(root):
    def stop(plan, params, trial, folder):
        raise KeyboardInterrupt

    for _ in range(MAX_DEATHS + 1):
        sweep = begin(root, stop, trials=1)
        with pytest.raises(KeyboardInterrupt):
            work_on(sweep.plan, sweep.study, take_trial(sweep.plan, sweep.study, "stopped"))
    (row,) = sweep.rows()
    assert row.outcome == "waiting"
    settings = row.settings or sweep.study.trials[row.number].params
    run_worker(begin(root, trials=1).plan)
    (row,) = sweep.rows()
    assert row.outcome == "done"
    assert row.first == 0
    assert row.settings["model.width"] == settings["model.width"]


def test_a_trial_that_another_ended_is_left_as_it_is(root):
    def end_from_elsewhere(plan, params, trial, folder):
        sweep.study.tell(trial.number, 0.25)
        return 0.75

    sweep = begin(root, end_from_elsewhere, trials=1)
    work_on(sweep.plan, sweep.study, take_trial(sweep.plan, sweep.study, "slow"))
    assert sweep.study.trials[0].value == 0.25


@pytest.mark.slow
def test_workers_count_as_params_say_also_when_the_script_that_started_them_has_imported_torch(tmp_path):
    root = make_root(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"  # a spawned process imports this file before it does anything else
        "from pathlib import Path\n"
        "from sweep_parts import begin, note_arithmetic\n"
        "from pocketaffect.sweep.run import run_trials\n"
        "if __name__ == '__main__':\n"
        "    torch.set_num_threads(2)\n"
        "    run_trials(begin(Path(sys.argv[1]), note_arithmetic, trials=1, workers=1))\n"
        "    assert torch.get_num_threads() == 2\n"
    )
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    free = {name: value for name, value in os.environ.items() if name not in {*THREAD_VARIABLES, *AVX2_VARIABLES}}
    done = subprocess.run(
        [sys.executable, script, root], env=free | {"PYTHONPATH": places}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (trial,) = begin(root, note_arithmetic, trials=1).study.trials
    threads, capability = trial.user_attrs["arithmetic"]
    assert threads == make_params().train.threads == 1
    assert capability in ("AVX2", "DEFAULT")  # DEFAULT where the processor has no AVX2
