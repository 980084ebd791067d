from __future__ import annotations

import itertools

import pytest
from sweep_parts import make_params

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.sweep.budget import find_smallest, predict_bytes, require_fit
from pocketaffect.sweep.space import read_space

SPACE = {
    "model.architecture": ["mobilenet", "alexnet", "vgg"],
    "model.width": {"low": 0.1, "high": 0.3},
    "model.head": ["prototype", "plain"],
    "export.precision": ["fp16", "palette4", "int8"],
    "train.learning_rate": {"low": 0.001, "high": 0.1},
}


def test_a_trial_s_bytes_are_those_that_its_network_is_predicted_to_take():
    params = make_params()
    model = params.model
    spec = NetworkSpec(model.architecture, model.width, 32, model.head, model.dropout)
    assert predict_bytes(params) == predict_package_bytes(spec, params.export.precision)


def test_the_smallest_package_is_that_of_a_search_by_hand():
    params = make_params(space=SPACE)
    points = itertools.product(SPACE["model.architecture"], SPACE["model.head"], SPACE["export.precision"])
    sizes = {
        point: predict_package_bytes(NetworkSpec(point[0], 0.1, 32, point[1], params.model.dropout), point[2])
        for point in points
    }
    smallest = find_smallest(params, read_space(params))
    assert smallest.bytes == min(sizes.values())
    names = ("model.architecture", "model.head", "export.precision")
    assert tuple(smallest.settings[name] for name in names) == min(sizes, key=lambda point: sizes[point])
    assert smallest.settings["model.width"] == 0.1


def test_a_budget_that_nothing_fits_is_refused_with_the_smallest_possible():
    smallest = find_smallest(make_params(space=SPACE), read_space(make_params(space=SPACE)))
    params = make_params(space=SPACE, budget_bytes=smallest.bytes - 1)
    with pytest.raises(PocketAffectError, match=f"{smallest.bytes:,} bytes") as caught:
        require_fit(params, read_space(params))
    assert "sweep.budget_bytes" in str(caught.value)
    fitting = make_params(space=SPACE, budget_bytes=smallest.bytes)
    assert require_fit(fitting, read_space(fitting)) == smallest
