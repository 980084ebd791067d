"""A program in fewer bytes must be the same program."""

from __future__ import annotations

import coremltools as ct
import numpy as np
import pytest

from pocketaffect.export import compact
from pocketaffect.export.compact import compact_program, program_meaning
from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.names import renumber_names
from pocketaffect.mlpackage.package import read_spec, save_package
from pocketaffect.precisions import PRECISIONS


@pytest.fixture(params=["fp16", "int8"])
def written(request, making, packages):
    """What coremltools wrote, and the package that was saved of it."""
    return making.make(PRECISIONS[request.param]).model, packages[request.param]


def serialised(spec):
    return spec.mlProgram.SerializeToString(deterministic=True)


def test_a_saved_program_is_a_third_shorter_and_answers_bit_for_bit_the_same(written, samples, tmp_path):
    model, saved = written
    before = model.get_spec()
    assert len(serialised(read_spec(saved))) < 0.7 * len(serialised(before))
    assert program_meaning(read_spec(saved).mlProgram) == program_meaning(before.mlProgram)
    long = tmp_path / "long.mlpackage"
    ct.models.MLModel(before, weights_dir=model.weights_dir, skip_model_load=True).save(str(long))
    assert len(serialised(read_spec(long))) == len(serialised(before))
    expected, found = (load_program(path).predict(samples.images[:32]) for path in (long, saved))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_package_is_saved_as_coremltools_wrote_it_where_compact_is_off(written, tmp_path):
    model, _ = written
    save_package(model, tmp_path / "long.mlpackage", compact=False)
    found, expected = read_spec(tmp_path / "long.mlpackage"), model.get_spec()
    renumber_names(expected)
    assert serialised(found) == serialised(expected)


def test_weights_keep_the_names_of_their_layers_and_nothing_else_keeps_a_long_one(written):
    spec = read_spec(written[1])
    names = [output.name for operation in walk_operations(spec.mlProgram) for output in operation.outputs]
    assert len(set(names)) == len(names)
    long = {name for name in names if len(name) > 4}
    assert {"probabilities", "valence_arousal"} <= long
    assert sum("weight" in name for name in long) == 6  # three convolutions, the dense layer, both heads
    assert all(name.startswith(("network_", "transpose_", "probabilities", "valence_arousal")) for name in long)


def test_shortening_again_changes_nothing(written):
    spec = read_spec(written[1])
    before = serialised(spec)
    compact_program(spec)
    assert serialised(spec) == before


def first(spec, kind):
    return next(operation for operation in walk_operations(spec.mlProgram) if operation.type == kind)


def change_a_stride(spec):
    name = first(spec, "conv").inputs["strides"].arguments[0].name
    constant = next(one for one in walk_operations(spec.mlProgram) if one.outputs[0].name == name)
    constant.attributes["val"].immediateValue.tensor.ints.values[0] += 1


def swap_the_inputs_of_a_difference(spec):
    inputs = first(spec, "sub").inputs
    inputs["x"].arguments[0].name, inputs["y"].arguments[0].name = (inputs[key].arguments[0].name for key in "yx")


def read_another_weight(spec):
    weights = [one for one in walk_operations(spec.mlProgram) if one.attributes["val"].HasField("blobFileValue")]
    weights[0].attributes["val"].blobFileValue.offset = weights[1].attributes["val"].blobFileValue.offset


def leave_an_operation_out(spec):
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    place = [operation.type for operation in block.operations].index("relu")
    relu = block.operations[place]
    source, result = relu.inputs["x"].arguments[0].name, relu.outputs[0].name
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == result:
                    binding.name = source
    del block.operations[place]


def swap_the_outputs(spec):
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    block.outputs[:] = block.outputs[::-1]


def declare_another_dialect(spec):
    (function,) = spec.mlProgram.functions.values()
    block = function.block_specializations.pop(function.opset)
    function.opset = "CoreML9"
    function.block_specializations[function.opset].CopyFrom(block)


def declare_another_type(spec):
    first(spec, "relu").outputs[0].type.tensorType.dataType += 1


@pytest.mark.parametrize(
    "change",
    [
        change_a_stride,
        swap_the_inputs_of_a_difference,
        read_another_weight,
        leave_an_operation_out,
        swap_the_outputs,
        declare_another_dialect,
        declare_another_type,
    ],
)
def test_another_program_has_another_meaning(change, packages):
    spec = read_spec(packages["fp16"])
    before = program_meaning(spec.mlProgram)
    change(spec)
    assert program_meaning(spec.mlProgram) != before


def test_a_program_that_would_become_another_stays_as_it_was(making, monkeypatch, caplog):
    spec = making.make(PRECISIONS["fp16"]).model.get_spec()
    before = serialised(spec)

    def share_too_much(block):
        shorter(block)
        relus = [operation for operation in block.operations if operation.type == "relu"]
        relus[1].inputs["x"].arguments[0].name = relus[0].inputs["x"].arguments[0].name

    shorter = compact._share_constants
    monkeypatch.setattr(compact, "_share_constants", share_too_much)
    compact_program(spec)
    assert serialised(spec) == before
    assert "another program" in caplog.text


def test_a_program_of_two_functions_stays_as_it_was(making):
    spec = making.make(PRECISIONS["fp16"]).model.get_spec()
    spec.mlProgram.functions["second"].CopyFrom(spec.mlProgram.functions["main"])
    before = serialised(spec)
    compact_program(spec)
    assert serialised(spec) == before
    with pytest.raises(ValueError, match="one function"):
        program_meaning(spec.mlProgram)
