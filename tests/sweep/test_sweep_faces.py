"""Trials on a part of the faces first, and the best of them on all."""

import json

import numpy as np
import optuna
import pytest
from scipy import stats
from sweep_parts import begin, make_root

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.sweep.lessons import correlate_parts, describe_lessons, list_comparable, measure_importance
from pocketaffect.sweep.objective import EPOCHS, FACES
from pocketaffect.sweep.results import TrialRow, best_first, find_front, pair_parts
from pocketaffect.sweep.worker import reclaim_stale, run_worker, take_trial, work_on

FACES_THERE = 1000


@pytest.fixture
def root(tmp_path):
    root = make_root(tmp_path)
    (root / paths.SHARDS / "shards.json").write_text(json.dumps({"size": 32, "images": {"train": FACES_THERE}}))
    return root


def score_by_faces(plan, params, trial, folder):
    """No training; more faces give more, and change a little who is ahead."""
    trial.set_user_attr(EPOCHS, params.train.epochs)
    faces = trial.user_attrs.get(FACES, FACES_THERE)
    return 1 - abs(params.train.learning_rate - 0.01) * 1000 / faces + faces / 1e4


def test_the_last_trials_train_on_all_faces_what_did_best_on_a_part(root):
    sweep = begin(root, score_by_faces, trials=15, faces=100)
    run_worker(sweep.plan)
    rows = sweep.rows()
    parts, wholes = rows[:12], rows[12:]
    assert {row.faces for row in parts} == {100}
    assert {row.faces for row in wholes} == {None}
    assert [row.part for row in wholes] == [row.number for row in best_first(parts)[:3]]
    assert all(rows[row.part].settings == row.settings and row.score > rows[row.part].score for row in wholes)
    assert {row.number for row in best_first(rows)} == {row.number for row in wholes}
    assert find_front(rows)[-1] in wholes


def test_where_few_were_trained_to_their_end_those_that_were_stopped_last_train_on_all(root):
    def stop_most(plan, params, trial, folder):
        score = score_by_faces(plan, params, trial, folder)
        if FACES in trial.user_attrs and trial.number:
            trial.set_user_attr(EPOCHS, 1 + trial.number % 2)
            trial.report(score, 1)
            raise optuna.TrialPruned
        return score

    sweep = begin(root, stop_most, trials=15, faces=100)
    run_worker(sweep.plan)
    rows = sweep.rows()
    later = sorted((row for row in rows[1:12] if row.epochs == 2), key=lambda row: -row.score)
    assert [row.part for row in rows[12:]] == [0, *(row.number for row in later[:2])]
    assert pair_parts(rows) == [(rows[0], rows[12])]  # their scores are of fewer epochs: nothing to compare ranks by


def test_more_trials_go_on_with_the_part_and_end_with_others_on_all(root):
    for trials in (8, 14):
        sweep = begin(root, score_by_faces, trials=trials, faces=100)
        run_worker(sweep.plan)
    rows = sweep.rows()
    assert [row.number for row in rows if row.part is not None] == [5, 6, 7, 11, 12, 13]
    assert len({row.part for row in rows if row.part is not None}) == 6


def test_with_two_objectives_the_front_goes_first(root):
    sweep = begin(root, score_by_faces, trials=12, faces=100, objectives="score-and-bytes", sampler="nsga2")
    run_worker(sweep.plan)
    rows = sweep.rows()
    front = [row.number for row in reversed(find_front(rows[:9]))]
    assert {row.part for row in rows[9:]} >= set(front[:3])


def test_one_that_lost_its_worker_goes_on_on_all_faces(root):
    sweep = begin(root, score_by_faces, trials=6, faces=100)
    plan = sweep.plan
    while "part" not in (trial := take_trial(plan, sweep.study, "dead")).user_attrs:
        work_on(plan, sweep.study, trial)
    assert reclaim_stale(sweep.study, plan.folder / "workers") == [trial.number]
    run_worker(plan)
    again = next(row for row in sweep.rows() if row.first == trial.number)
    assert (again.part, again.faces) == (trial.user_attrs["part"], None)


@pytest.mark.parametrize("faces", [FACES_THERE, FACES_THERE + 1])
def test_more_faces_than_there_are_is_refused(root, faces):
    with pytest.raises(PocketAffectError, match=r"sweep\.faces") as caught:
        begin(root, score_by_faces, faces=faces)
    assert f"{faces:,} of 1,000" in str(caught.value)
    assert "2 to 999" in str(caught.value)


def test_too_few_trials_for_both_are_refused(root):
    with pytest.raises(PocketAffectError, match=r"sweep\.trials") as caught:
        begin(root, score_by_faces, trials=3, faces=100)
    assert "from 4" in str(caught.value)


def test_a_study_of_other_faces_or_objectives_is_not_gone_on_with(root):
    run_worker(begin(root, score_by_faces, trials=5, faces=100).plan)
    with pytest.raises(PocketAffectError, match=r"sweep\.faces: 100 -> 200"):
        begin(root, score_by_faces, trials=5, faces=200)
    with pytest.raises(PocketAffectError, match=r"sweep\.objectives: score -> score-and-bytes"):
        begin(root, score_by_faces, trials=5, faces=100, objectives="score-and-bytes")


def make_pair(number, part, whole):
    shared = ("done",)
    first = TrialRow(number, number, *shared, part, 1, 1, {}, 1, 1.0, "", {}, faces=10)
    return first, TrialRow(number + 100, number + 100, *shared, whole, 1, 1, {}, 1, 1.0, "", {}, part=number)


def test_rank_correlations_are_scipy_s_and_their_intervals_hold_them():
    random = np.random.default_rng(3)
    part = random.normal(size=12)
    whole = part + 0.5 * random.normal(size=12)
    pairs = [make_pair(number, *scores) for number, scores in enumerate(zip(part, whole, strict=True))]
    rows = [row for pair in pairs for row in pair]
    assert pair_parts(rows) == pairs
    count, found = correlate_parts(rows)
    assert count == 12
    for name, expected in (("Spearman", stats.spearmanr(part, whole)), ("Kendall", stats.kendalltau(part, whole))):
        assert found[name].value == pytest.approx(expected[0])
        assert -1 <= found[name].low < found[name].value < found[name].high <= 1
    assert correlate_parts(rows[:4]) == (2, {})


def test_what_mattered_is_said_in_sentences_with_the_values_of_the_best(root):
    sweep = begin(root, score_by_faces, trials=60, faces=100)
    run_worker(sweep.plan)
    trials = list_comparable(sweep.study)
    assert len(trials) == 48  # those on all faces are not to be compared with them
    importance = measure_importance(trials)
    assert next(iter(importance)) == "train.learning_rate"
    assert sum(share.value for share in importance.values()) == pytest.approx(1)
    assert all(share.low <= share.high for share in importance.values())
    first, *_, last = describe_lessons(importance, trials)
    assert first.startswith("train.learning_rate mattered: ")
    rates = sorted(trials, key=lambda one: -one.value)[:4]
    values = [one.user_attrs["settings"]["train.learning_rate"] for one in rates]
    assert f"the best 4 have {min(values):.4g} to {max(values):.4g}" in first
    assert last.startswith("Not told apart")
    assert "train.class_weights" in last
    assert measure_importance(trials[:9]) == {}
    (nothing,) = describe_lessons({}, trials[:9])
    assert "fewer than 10" in nothing
