from __future__ import annotations

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_parts import ROOT, SPACE, make_params

from pocketaffect.config import load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import apply_settings
from pocketaffect.sweep.objective import prepare_params
from pocketaffect.sweep.space import Choice, Range, read_space, suggest_settings


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("model.architecture", ["vgg", "resnet"], "model.architecture: no such architecture; there are alexnet, vgg"),
        ("model.widht", [0.5], "no setting to search; did you mean model.width?"),
        ("export.author", ["me"], "no setting to search"),
        ("train.seed", [1, 2], "no trial may change it"),
        ("model.width", [], "an empty list"),
        ("model.width", [0.5, 0.5], "a value twice"),
        ("model.width", {"low": 0.5}, "a range needs low and high"),
        ("model.width", {"low": 0.5, "high": 0.2}, "low 0.5 is not below high 0.2"),
        ("model.width", {"low": 0.01, "high": 0.2}, "model.width: input should be greater than or equal to 0.05"),
        ("model.width", {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}, "log needs a low above 0, and no step"),
        ("model.width", {"low": 0.1, "high": 0.2, "step": -0.1}, "step -0.1 is not above 0"),
        ("model.width", {"low": 0.1, "high": 0.2, "log": 1}, "log is true or false"),
        ("model.head", {"low": 0, "high": 1}, "has no range; list its values"),
        ("train.batch_size", {"low": 8, "high": 16.5}, "takes whole numbers; found 8, 16.5"),
        ("preprocess.image_size", {"low": 32, "high": 64}, "multiple of 16"),
        ("preprocess.image_size", {"low": 32, "high": 512}, "multiple of 16"),
        ("train.batch_size", {"low": 8, "high": float("inf")}, "takes finite numbers; found 8, inf"),
        ("preprocess.image_size", [16], "greater than or equal to 32"),
        ("export.precision", ["int8", "int7"], "needs one of auto, fp32"),
        ("export.precision", ["auto"], "its bytes are not known before training"),
        ("export.precision", ["palette4-grouped"], "needs export.deployment_target iOS18; found iOS16"),
    ],
)
def test_a_space_that_cannot_be_is_refused_by_name(name, values, problem):
    with pytest.raises(PocketAffectError) as caught:
        read_space(make_params(space={name: values}))
    assert f"sweep.space.{name}: " in str(caught.value)
    assert problem in str(caught.value)


def test_all_problems_of_a_space_are_told_at_once():
    with pytest.raises(PocketAffectError, match=r"2 problem\(s\) in the search space"):
        read_space(make_params(space={"model.widht": [0.5], "train.seed": [1]}))


def test_the_shipped_space_is_one():
    space = read_space(load_params(ROOT / "params.yaml"))
    assert space["model.width"] == Range(0.1, 1.0, whole=False, log=True)
    assert space["preprocess.image_size"] == Choice((48, 64))


def test_values_that_contradict_other_settings_are_left_out(caplog):
    lists = {"train.class_weights": ["none", "balanced", "effective"]}
    undoing = {"train.logit_adjustment": 0.2, "train.class_weights": "effective"}
    params = apply_settings(make_params(space=lists), undoing)
    assert read_space(params)["train.class_weights"] == Choice(("none", "effective"))
    assert "sweep.space.train.class_weights: balanced is left out: train.logit_adjustment: 0.2 and " in caplog.text
    either = params.model_copy(
        update={"sweep": make_params(space=lists | {"train.logit_adjustment": [0.0, 0.5]}).sweep}
    )
    assert read_space(either)["train.class_weights"].corners() == ("none", "balanced", "effective")
    neither = params.model_copy(update={"sweep": make_params(space={"train.class_weights": ["balanced"]}).sweep})
    with pytest.raises(PocketAffectError, match=r"train\.class_weights: balanced: train\.logit_adjustment: 0\.2 and"):
        read_space(neither)


def test_every_whole_number_of_a_short_range_is_checked_and_known():
    params = make_params(space={"preprocess.image_size": {"low": 32, "high": 80, "step": 16}})
    assert read_space(params)["preprocess.image_size"].corners() == (32, 48, 64, 80)


@settings(max_examples=25)
@given(low=st.floats(0.05, 3.9), width=st.floats(0.001, 4), log=st.booleans(), seed=st.integers(0, 2**31))
def test_a_suggestion_stays_in_its_range_and_has_few_digits(low, width, log, seed):
    dimension = Range(low, low + width, whole=False, log=log)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    value = dimension.suggest(study.ask(), "x")
    assert low <= value <= low + width
    assert value in (low, low + width) or float(f"{value:.4g}") == value


def test_a_trial_s_settings_reach_the_typed_settings_and_nothing_else_changes():
    params = make_params()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(3))
    suggestion = suggest_settings(read_space(params), study.ask())
    assert list(suggestion) == list(SPACE)
    applied = prepare_params(params, suggestion)
    assert applied.model.width == suggestion["model.width"]
    assert applied.train.epochs == 3
    assert applied.export.budget_bytes == 2_000_000
    back = {"train.epochs": params.train.epochs, "export.budget_bytes": params.export.budget_bytes}
    for name in suggestion:
        section, key = name.split(".")
        back[name] = getattr(getattr(params, section), key)
    assert apply_settings(applied, back) == params
