"""Predicted bytes against those of conversions; all designs are in test_backbones.py and benchmarks/export/size.py."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from size_parts import MOST_OVER, MOST_UNDER, MOST_UNDER_SHARE, compare

from pocketaffect.config import load_params
from pocketaffect.designs import CATALOGUE, find_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import (
    WIDTHS,
    ModelRow,
    list_models,
    list_shapes,
    predict_package_bytes,
    read_measured,
    render_models,
)
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.precisions import PRECISIONS
from pocketaffect.recipes import PHOTOGRAPHS, apply_settings


def assert_close(spec, compared):
    for name, predicted, real in compared:
        assert predicted >= real - max(MOST_UNDER, MOST_UNDER_SHARE * real), (spec, name, predicted, real)
        assert predicted <= real + MOST_OVER, (spec, name, predicted, real)


@pytest.mark.parametrize(
    ("spec", "precisions"),
    [
        (NetworkSpec("alexnet", 0.13, 32, "prototype"), ("fp16", "int8")),
        pytest.param(NetworkSpec("vgg", 0.2, 48, "plain"), ("palette6",), marks=pytest.mark.slow),
    ],
)
def test_the_size_is_known_before_the_conversion(spec, precisions, tmp_path):
    assert_close(spec, compare(spec, precisions, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet10", "mobilenetv3_small", "mobileone_s0"])
def test_the_size_of_random_configurations_is_known_before_the_conversion(architecture, tmp_path):
    rng = np.random.default_rng(list(CATALOGUE).index(architecture))
    spec = NetworkSpec(
        architecture,
        round(float(rng.uniform(0.08, 0.3)), 3),
        int(rng.choice([32, 48, 64])),
        str(rng.choice(["prototype", "plain"])),
        full_resolution_stem=bool(rng.integers(2)),
    )
    compressed = [name for name, one in PRECISIONS.items() if one.kind != "float"]
    assert_close(spec, compare(spec, ("fp16", str(rng.choice(compressed))), tmp_path))


def test_a_network_its_spec_and_its_shapes_have_the_same_size():
    spec = NetworkSpec("vgg", 0.25, 64, "prototype")
    sizes = {predict_package_bytes(one, "int8") for one in (spec, AffectNetwork(spec), list_shapes(spec))}
    assert len(sizes) == 1


def test_predicting_leaves_the_random_numbers_of_the_caller_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list_shapes(NetworkSpec("alexnet", 0.17, 32, "plain"))
    assert torch.equal(torch.rand(1), expected)


AGAIN = "run `python benchmarks/export/fit_size.py`, for one new design with its name, and commit program_bytes.json"


def test_every_design_and_every_precision_is_measured_with_the_coremltools_that_is_here():
    from coremltools import __version__

    assert read_measured()["coremltools"] == __version__, AGAIN
    assert read_measured()["designs"].keys() == CATALOGUE.keys(), AGAIN
    compressed = {name for name, one in PRECISIONS.items() if one.kind != "float"}
    assert all(design["each"].keys() == compressed for design in read_measured()["designs"].values()), AGAIN


def test_what_cannot_be_predicted_is_refused():
    with pytest.raises(PocketAffectError, match="unknown"):
        predict_package_bytes(NetworkSpec("vgg", 0.25, 64, "plain"), "int7")


@pytest.fixture(scope="module")
def rows() -> list[ModelRow]:
    return list_models(32, (0.1,))


def test_every_design_is_listed(rows):
    assert [row.spec.architecture for row in rows] == list(CATALOGUE)


@pytest.mark.slow
def test_every_design_costs_more_at_each_larger_width():
    wider = list_models(32)
    assert [(row.spec.architecture, row.spec.width) for row in wider] == list(product(CATALOGUE, WIDTHS))
    for one, next_one in pairwise(wider):
        if one.spec.architecture == next_one.spec.architecture:
            assert one.shipped_parameters < next_one.shipped_parameters
            assert one.trained_parameters < next_one.trained_parameters
            assert one.macs < next_one.macs


def test_less_is_shipped_than_trained_and_much_less_where_branches_merge(rows):
    for row in rows:
        assert row.shipped_parameters < row.trained_parameters
    assert all(
        row.shipped_parameters < 0.4 * row.trained_parameters for row in rows if row.spec.architecture == "mobileone_s0"
    )


def test_the_columns_stand_under_each_other(rows):
    table = render_models(rows).splitlines()
    header, *lines = table[: len(rows) + 1]
    for title in ("trained", "shipped", "MMACs", "int8 bytes"):
        end = header.index(title) + len(title)
        assert all(line[end - 1].isdigit() and line[end : end + 2] == "  " for line in lines)
    assert all(line.endswith(find_design(row.spec.architecture).licence) for line, row in zip(lines, rows, strict=True))
    assert lines[-1].split()[:2] == ["mobileone_s0", "0.1"]
    assert f"{rows[-1].shipped_parameters:,}" in lines[-1]
    assert f"{rows[-1].bytes[1]:,}" in lines[-1]


def test_every_designs_paper_and_source_are_named_once(rows):
    text = render_models(rows)
    for name, design in CATALOGUE.items():
        assert text.count(f"\n{name}: {design.citation}") == 1
        assert design.source in text


def test_an_impossible_width_is_refused():
    with pytest.raises(PocketAffectError, match="width"):
        list_models(64, (0.0,))


@pytest.mark.parametrize("drawn", [True, False])
def test_both_recipes_make_packages_within_the_budget(drawn):
    params = load_params()
    if not drawn:
        params = apply_settings(params, {name: value for name, (_, value) in PHOTOGRAPHS.items()})
    spec = NetworkSpec.from_params(params.model, params.preprocess.image_size)
    assert predict_package_bytes(spec, params.export.precision) <= params.export.budget_bytes
