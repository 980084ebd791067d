"""A shipped program must be the float16 one with its weights in another form: same operations, same constants."""

from __future__ import annotations

import copy

import coremltools as ct
import numpy as np
import pytest
from torch import nn

from pocketaffect.export.convert import convert
from pocketaffect.export.structure import SAME, first_difference
from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.package import save_package
from pocketaffect.precisions import PRECISIONS


@pytest.fixture(scope="module")
def reference(packages):
    return load_program(packages["fp16"])


@pytest.fixture
def changed(making, tmp_path):
    """Saves int8's model with something changed in what coremltools wrote: there no two operations share constants."""

    def open_changed(change):
        model = making.make(PRECISIONS["int8"]).model
        spec = model.get_spec()
        change(list(walk_operations(spec.mlProgram)))
        path = tmp_path / "changed.mlpackage"
        save_package(ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True), path)
        return load_program(path)

    return open_changed


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_a_network_in_another_precision_has_no_difference(reference, packages, name):
    assert first_difference(reference, load_program(packages[name])) == SAME


def constant(operations, kind, key):
    """The constant operation that the first operation of a kind reads."""
    operation = next(one for one in operations if one.type == kind)
    name = operation.inputs[key].arguments[0].name
    return next(one for one in operations if one.outputs[0].name == name)


def set_integers(key, kind, values):
    def change(operations):
        held = constant(operations, kind, key).attributes["val"].immediateValue.tensor.ints
        assert len(held.values) == len(values)
        held.values[:] = values

    return change


def rename_input(kind, key, other_kind):
    """Lets an operation read the result of another one."""

    def change(operations):
        source = next(one for one in operations if one.type == other_kind).outputs[0].name
        [one for one in operations if one.type == kind][-1].inputs[key].arguments[0].name = source

    return change


def test_a_padding_of_the_other_side_is_named(reference, changed):
    program = changed(set_integers("pad", "conv", [0, 2, 0, 2]))
    assert first_difference(reference, program) == "conv 3: pad is [0, 2, 0, 2], not [1, 1, 1, 1]"


def test_another_axis_of_the_softmax_is_named(reference, changed):
    def change(operations):
        constant(operations, "softmax", "axis").attributes["val"].immediateValue.tensor.ints.values[:] = [0]

    assert "softmax" in first_difference(reference, changed(change))


def test_an_operation_of_another_kind_is_named(reference, changed):
    def change(operations):
        next(one for one in operations if one.type == "relu").type = "tanh"

    assert first_difference(reference, changed(change)) == "operation 4 is tanh, not relu"


def test_an_operation_that_reads_another_result_is_named(reference, changed):
    # Valence and arousal from the first ReLU's neighbour of the same shape: the second of both additions' inputs.
    def change(operations):
        add = [one for one in operations if one.type == "add"][-1]
        add.inputs["y"].arguments[0].name = add.inputs["x"].arguments[0].name

    assert first_difference(reference, changed(change)).endswith("comes from another operation")


@pytest.mark.slow
def test_prototypes_of_another_network_are_named(reference, network, description, tmp_path):
    other = copy.deepcopy(network)
    other.prototypes = other.prototypes.flip(1)
    path = tmp_path / "other.mlpackage"
    save_package(convert(other, size=32, precision="fp16", description=description), path)
    difference = first_difference(reference, load_program(path))
    assert difference.endswith("has other numbers")


@pytest.mark.slow
def test_a_program_of_another_length_is_named(reference, network, description, tmp_path):
    class Longer(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            logits, affect = self.network(x)
            return logits, affect.abs()

    path = tmp_path / "longer.mlpackage"
    save_package(convert(Longer().eval(), size=32, precision="fp16", description=description), path)
    assert first_difference(reference, load_program(path)) == "21 operations, not 20"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("fp16", {"storage of large tensors", "metadata: precision"}),
        ("palette8", {"storage of large tensors", "metadata: precision"}),
        ("int8", set()),
    ],
)
def test_a_package_of_another_precision_than_asked_for_is_caught(verifier, packages, limits, asked, expected):
    verification = verifier.verify(packages["fp16"], packages["int8"], limits, precision=PRECISIONS[asked])
    assert {check.name for check in verification.checks if not check.passed} == expected


def test_a_package_with_one_tensor_left_uncompressed_is_caught(verifier, making, limits, tmp_path):
    import coremltools.optimize.coreml as optimize

    plain = making.make(PRECISIONS["fp16"]).model
    largest = max(optimize.get_weights_metadata(plain).items(), key=lambda item: item[1].val.size)[0]
    how = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=2048)
    config = optimize.OptimizationConfig(global_config=how, op_name_configs={largest: None})
    path = tmp_path / "partly.mlpackage"
    save_package(optimize.linear_quantize_weights(plain, config), path)
    reference = making.make(PRECISIONS["fp16"]).path
    verification = verifier.verify(reference, path, limits, precision=PRECISIONS["int8"])
    (check,) = [one for one in verification.checks if one.name == "storage of large tensors"]
    assert check.value == "constexpr_affine_dequantize, 8 bits in 1 tensors; fp16, 16 bits in 1 tensors"
    assert not check.passed


def test_a_package_for_newer_systems_than_asked_for_is_caught(verifier, making, limits):
    precision = PRECISIONS["pruned50-palette4"]
    path, reference = making.make(precision).path, making.make_reference(precision)
    names = []
    for target in ("iOS16", "iOS18"):
        verification = verifier.verify(reference, path, limits, precision=precision, deployment_target=target)
        names.append([check.name for check in verification.checks if not check.passed])
    assert "format version, for iOS16" in names[0]
    assert not any("format version" in name for name in names[1])


def test_a_mean_of_the_pixels_that_is_slightly_off_is_caught(reference, network, description, tmp_path):
    other = copy.deepcopy(network)
    other.mean = other.mean + 2e-3
    path = tmp_path / "mean.mlpackage"
    save_package(convert(other, size=32, precision="int8", description=description), path)
    program = load_program(path)
    assert first_difference(reference, program).startswith("sub 1: y")
    assert np.isfinite(program.predict(np.zeros((1, 32, 32, 3), np.uint8))["probabilities"]).all()
