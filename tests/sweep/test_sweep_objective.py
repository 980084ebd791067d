from __future__ import annotations

import math
from types import SimpleNamespace

import optuna
import pytest

from pocketaffect.sweep.objective import PART, PruneByScore
from pocketaffect.sweep.study import make_pruner


def train(trial: optuna.Trial, scores: list[float], *, begun: int = 0) -> PruneByScore:
    """Calls the hook as Lightning does, after every epoch; the first `begun` were trained before a resume."""
    callback = PruneByScore(trial)
    history = [{"epoch": float(epoch), "score": score} for epoch, score in enumerate(scores, start=1)]
    for epochs in range(begun + 1, len(scores) + 1):
        module = SimpleNamespace(history=history[:epochs])
        callback(SimpleNamespace(max_epochs=len(scores)), module)
    return callback


@pytest.fixture
def study():
    study = optuna.create_study(direction="maximize", pruner=make_pruner("asha", 9, warmup_epochs=0))
    for level in (0.5, 0.6, 0.7):
        trial = study.ask()
        train(trial, [level] * 9)
        study.tell(trial, level)
    return study


def test_a_trial_that_falls_behind_is_stopped_at_a_rung_and_every_epoch_was_reported(study):
    trial = study.ask()
    with pytest.raises(optuna.TrialPruned, match=r"score 0\.100 after epoch 2"):
        train(trial, [0.1] * 9)
    assert study.trials[trial.number].intermediate_values == {1: 0.1, 2: 0.1}


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
@pytest.mark.parametrize(
    ("epochs", "warmup"), [(2, 0.0), (9, 0.0), (16, 0.0), (9, 1.0), (12, 2.5), (12, 3.0), (6, 8.0)]
)
def test_no_pruner_judges_by_the_first_epoch_or_one_of_the_warm_up(pruner, epochs, warmup):
    study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner, epochs, warmup))
    for _ in range(40):
        trial = study.ask()
        for epoch in range(1, max(1, math.ceil(warmup)) + 1):
            trial.report(-trial.number / 100, epoch)
            assert not trial.should_prune()
        study.tell(trial, -trial.number / 100)


def test_a_trial_that_starts_slowly_and_leads_from_the_second_epoch_on_is_trained_to_the_end(study):
    assert train(study.ask(), [0.0, *[0.8] * 8]).epochs == 9


def test_what_a_part_of_the_faces_chose_is_never_stopped(study):
    study.enqueue_trial({}, user_attrs={PART: 0})
    trial = study.ask()
    assert train(trial, [0.1] * 9).epochs == 9
    assert len(study.trials[trial.number].intermediate_values) == 9


def test_a_trial_that_leads_is_trained_to_the_end(study):
    trial = study.ask()
    assert train(trial, [0.8] * 9).epochs == 9
    assert len(study.trials[trial.number].intermediate_values) == 9


def test_the_last_epoch_is_paid_for_and_never_stopped(study):
    assert train(study.ask(), [0.1]).epochs == 1


def test_a_training_that_goes_on_reports_the_epochs_before_it(study):
    trial = study.ask()
    train(trial, [0.8, 0.81, 0.82, 0.83], begun=3)
    assert study.trials[trial.number].intermediate_values == {1: 0.8, 2: 0.81, 3: 0.82, 4: 0.83}
