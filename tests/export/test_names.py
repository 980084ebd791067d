"""Names that coremltools counts up, in the order of the program."""

from __future__ import annotations

import numpy as np
import pytest

from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.names import renumber_names
from pocketaffect.mlpackage.package import read_spec


def count_up(spec, step):
    """The names that another run of coremltools' counters might have given; how many values have such a name."""
    text = spec.SerializeToString(deterministic=True)
    assert b"transpose_0" in text
    for operation in walk_operations(spec.mlProgram):
        bound = [binding for argument in operation.inputs.values() for binding in argument.arguments]
        for value in (*operation.outputs, *bound):
            if value.name.startswith("transpose_0"):
                value.name = value.name.replace("transpose_0", f"transpose_{step}")
        names = operation.attributes["name"].immediateValue.tensor.strings.values
        names[:] = [name.replace("transpose_0", f"transpose_{step}") for name in names]
    return spec


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_names_of_another_count_become_the_same_bytes(packages, precision):
    expected = read_spec(packages[precision]).SerializeToString(deterministic=True)
    spec = count_up(read_spec(packages[precision]), 7)
    assert spec.SerializeToString(deterministic=True) != expected
    renumber_names(spec)
    assert spec.SerializeToString(deterministic=True) == expected


def test_the_renumbered_program_still_computes(packages, samples):
    outputs = load_program(packages["fp16"]).predict(samples.images[:4])
    assert np.allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-2)


def test_names_of_the_networks_modules_stay(packages):
    spec = read_spec(packages["fp16"])
    before = [output.name for operation in walk_operations(spec.mlProgram) for output in operation.outputs]
    renumber_names(spec)
    after = [output.name for operation in walk_operations(spec.mlProgram) for output in operation.outputs]
    assert before == after
    assert any("features" in name for name in after)
