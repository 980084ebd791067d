from __future__ import annotations

import itertools
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_parts import begin, make_params, make_root

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.layers import reparameterize
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs
from pocketaffect.recipes import apply_settings
from pocketaffect.sweep.budget import list_corners, list_first_points, predict_cost, require_fit
from pocketaffect.sweep.space import Range, read_space
from pocketaffect.sweep.worker import run_worker

SPACE = {
    "model.architecture": ["mobilenet", "alexnet", "vgg"],
    "model.width": {"low": 0.1, "high": 0.3},
    "model.head": ["prototype", "plain"],
    "export.precision": ["fp16", "palette4", "int8"],
    "train.learning_rate": {"low": 0.001, "high": 0.1},
}
RATES = {"low": 0.0001, "high": 0.1, "log": True}
BUDGET = 300_000


@pytest.mark.parametrize("architecture", ["vgg", "mobileone_s0"])
def test_a_trial_s_costs_are_those_of_its_network_as_it_ships(architecture):
    params = apply_settings(make_params(), {"model.architecture": architecture})
    model = params.model
    spec = NetworkSpec(model.architecture, model.width, 32, model.head, model.dropout)
    cost = predict_cost(params)
    assert cost.bytes == predict_package_bytes(spec, params.export.precision)
    assert cost.macs == count_macs(reparameterize(AffectNetwork(spec)), 32)
    assert (cost.macs < count_macs(AffectNetwork(spec), 32)) == (architecture == "mobileone_s0")  # its branches merge


def test_the_smallest_package_is_that_of_a_search_by_hand():
    params = make_params(space=SPACE)
    points = itertools.product(SPACE["model.architecture"], SPACE["model.head"], SPACE["export.precision"])
    sizes = {
        point: predict_package_bytes(NetworkSpec(point[0], 0.1, 32, point[1], params.model.dropout), point[2])
        for point in points
    }
    smallest = find_smallest(params)
    assert smallest.cost.bytes == min(sizes.values())
    names = ("model.architecture", "model.head", "export.precision")
    assert tuple(smallest.settings[name] for name in names) == min(sizes, key=lambda point: sizes[point])
    assert smallest.settings["model.width"] == 0.1


def hold(space=SPACE, **budgets):
    params = make_params(space=space, **budgets)
    require_fit(params, read_space(params))


@pytest.mark.parametrize(("name", "title"), [("bytes", "bytes"), ("macs", "multiply-accumulates")])
def test_a_budget_that_nothing_fits_is_refused_with_the_smallest_possible(name, title):
    lowest = getattr(find_smallest(make_params(space=SPACE), name).cost, name)
    with pytest.raises(PocketAffectError, match=f"smallest possible takes {lowest:,} {title}") as caught:
        hold(**{f"budget_{name}": lowest - 1})
    assert f"sweep.budget_{name} {lowest - 1:,}" in str(caught.value)
    hold(**{f"budget_{name}": lowest})


def test_budgets_that_no_network_is_within_both_of_are_refused_with_what_each_leaves():
    space = {"model.architecture": ["mobilenet", "alexnet", "vgg"], "model.width": [0.1, 0.2]}
    small, quick = (find_smallest(make_params(space=space), name).cost for name in ("bytes", "macs"))
    assert small.macs > quick.macs  # the smallest package is not the quickest network
    assert small.bytes < quick.bytes
    with pytest.raises(PocketAffectError, match="contradict each other") as caught:
        hold(space, budget_bytes=small.bytes, budget_macs=quick.macs)
    assert f"sweep.budget_macs from {small.macs:,}, or sweep.budget_bytes from {quick.bytes:,}" in str(caught.value)
    hold(space, budget_bytes=small.bytes, budget_macs=small.macs)
    hold(space, budget_bytes=quick.bytes, budget_macs=quick.macs)


def find_smallest(params, name="bytes"):
    return min(list_corners(params, read_space(params)), key=attrgetter(f"cost.{name}"))


def list_points(space, budget=BUDGET, macs=None):
    params = make_params(space=space, budget_bytes=budget, budget_macs=macs)
    return params, list_first_points(params, read_space(params))


def size(params, point):
    return predict_cost(apply_settings(params, point)).bytes


def test_each_architecture_comes_once_the_present_one_first_with_the_present_recipe():
    space = {"model.architecture": ["mobilenet", "alexnet", "vgg"], "model.width": {"low": 0.1, "high": 0.9}}
    params, points = list_points(space | {"train.learning_rate": RATES, "train.class_weights": ["none", "balanced"]})
    assert [point["model.architecture"] for point in points] == ["vgg", "mobilenet", "alexnet"]
    assert params.model.architecture == "vgg"
    assert {point["train.learning_rate"] for point in points} == {params.train.learning_rate}
    assert {point["train.class_weights"] for point in points} == {params.train.class_weights}


@pytest.mark.parametrize(
    ("architectures", "widths"),
    [(["mobilenet", "vgg"], {"low": 0.1, "high": 0.9}), (["mobilenet"], {"low": 0.1, "high": 0.9, "step": 0.01})],
)
def test_the_width_is_the_widest_that_fits(architectures, widths):
    params, points = list_points({"model.architecture": architectures, "model.width": widths})
    assert len(points) == len(architectures)
    for point in points:
        assert size(params, point) <= BUDGET
        wider = point | {"model.width": point["model.width"] * 1.02 + 0.011}
        assert size(params, wider) > BUDGET * 0.99
        if "step" in widths:
            assert point["model.width"] == pytest.approx(round(point["model.width"] * 100) / 100)


def test_the_widest_width_is_within_both_budgets():
    space = {"model.width": {"low": 0.1, "high": 0.9}}
    _, (widest,) = list_points(space)
    macs = predict_cost(apply_settings(make_params(), widest)).macs * 3 // 4
    params, (point,) = list_points(space, macs=macs)
    assert point["model.width"] < widest["model.width"]
    assert 0.8 * macs < predict_cost(apply_settings(params, point)).macs <= macs


def test_of_a_list_of_widths_the_widest_that_fits_is_taken_in_whatever_order_they_stand():
    widths = [0.3, 0.1, 0.9, 0.2, 0.5]
    params, (point,) = list_points({"model.width": widths})
    fitting = [width for width in widths if size(params, {"model.width": width}) <= BUDGET]
    assert point == {"model.width": max(fitting)}


def test_an_architecture_that_fits_at_no_width_is_left_out():
    space = {"model.architecture": ["mobilenet", "alexnet", "vgg"], "model.width": [0.1, 0.15]}
    params = make_params(space=space)
    sizes = {
        name: size(params, {"model.architecture": name, "model.width": 0.1}) for name in space["model.architecture"]
    }
    _, points = list_points(space, budget=min(sizes.values()))
    assert [point["model.architecture"] for point in points] == [min(sizes, key=sizes.__getitem__)]


def test_where_the_present_precision_does_not_fit_another_of_the_space_is_taken():
    space = {"model.width": [0.3], "export.precision": ["fp16", "int8", "palette4"]}
    params = make_params(space=space)
    precisions = {name: size(params, {"model.width": 0.3, "export.precision": name}) for name in ("int8", "palette4")}
    assert params.export.precision == "int8"
    assert list_points(space, precisions["int8"])[1] == [{"model.width": 0.3, "export.precision": "int8"}]
    assert list_points(space, precisions["int8"] - 1)[1] == [{"model.width": 0.3, "export.precision": "palette4"}]


def test_settings_outside_the_space_come_in_by_the_nearest_way():
    params, (point,) = list_points(
        {"train.learning_rate": {"low": 0.01, "high": 0.1}, "train.batch_size": {"low": 20, "high": 40, "step": 10}}
        | {"train.class_weights": ["none", "effective"], "train.warmup_epochs": {"low": 0.0, "high": 0.3, "step": 0.2}}
    )
    assert params.train.batch_size == 16
    assert params.train.class_weights == "balanced"
    assert point["train.learning_rate"] == 0.01
    assert point["train.batch_size"] == 20
    assert point["train.class_weights"] == "none"
    assert point["train.warmup_epochs"] in (0.0, 0.2)


@given(st.floats(-100, 100), st.floats(0.5, 100), st.floats(0.1, 50) | st.none(), st.floats(-300, 300), st.booleans())
@settings(max_examples=200)
def test_the_nearest_number_of_a_range_is_one_of_it_and_none_is_nearer(low, width, step, wanted, whole):
    if whole:
        low, width, step = float(round(low)), float(max(1, round(width))), step and float(max(1, round(step)))
    dimension = Range(low, low + width, whole, step=step)
    nearest = dimension.nearest(wanted)
    assert low <= nearest <= low + width
    if whole or step:
        values = dimension.all_values()
        assert nearest in values
        assert all(abs(nearest - wanted) <= abs(value - wanted) for value in values)
        gaps = {round(after - before, 1) for before, after in itertools.pairwise(values)}
        assert not step or all(gap == pytest.approx(step, abs=0.2) for gap in gaps)
    else:
        assert nearest == min(max(wanted, low), low + width)


def test_a_sweep_tries_them_before_it_asks_its_sampler_and_once_only(tmp_path):
    root = make_root(tmp_path)
    sweep = begin(root, trials=4, warm_start=True, budget_bytes=BUDGET)
    points = list_first_points(sweep.plan.params, sweep.plan.space)
    assert len(points) == 2
    begin(root, trials=4, warm_start=True, budget_bytes=BUDGET)  # stopped before any trial
    run_worker(sweep.plan)
    rows = begin(root, trials=4, warm_start=True, budget_bytes=BUDGET).rows()
    assert len(rows) == 4
    assert [row.settings for row in rows[:2]] == points
    assert all(row.settings not in points for row in rows[2:])


def test_of_few_trials_no_more_are_queued_than_are_wanted(tmp_path):
    sweep = begin(make_root(tmp_path), trials=1, warm_start=True, budget_bytes=BUDGET)
    run_worker(sweep.plan)
    assert len(sweep.rows()) == 1
