"""A change of any stored bit that matters is found, in whatever form the weights are stored."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.fold import fold_batchnorm
from pocketaffect.export.transplant import transplant_weights
from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.package import read_spec
from pocketaffect.mlpackage.storage import Stored, rounding_ratio
from pocketaffect.precisions import PRECISIONS

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
RECORD = struct.Struct("<IIQQ")


def places(path):
    """(decoder, input, first byte, length) of every stored tensor that a decoder reads."""
    data = (path / WEIGHTS).read_bytes()
    constants, found = {}, []
    for operation in walk_operations(read_spec(path).mlProgram):
        if operation.type == "const":
            value = operation.attributes["val"]
            if value.WhichOneof("value") == "blobFileValue":
                constants[operation.outputs[0].name] = value.blobFileValue.offset
            continue
        if not operation.type.startswith("constexpr_"):
            continue
        held = dict(operation.attributes.items())
        for name, argument in operation.inputs.items():
            binding = argument.arguments[0]
            if binding.WhichOneof("binding") == "value":
                held[name] = binding.value
            elif binding.name in constants:
                found.append((operation.type, name, constants[binding.name]))
        found += [
            (operation.type, name, value.blobFileValue.offset)
            for name, value in held.items()
            if value.WhichOneof("value") == "blobFileValue"
        ]
    return [
        (kind, name, start, length)
        for kind, name, offset in found
        for _, _, length, start in [RECORD.unpack_from(data, offset)]
    ]


def flip(path, tmp_path, place, bit):
    """A copy of a package with one bit of its weight file turned over."""
    changed = tmp_path / f"{place}-{bit}.mlpackage"
    shutil.copytree(path, changed)
    data = bytearray((changed / WEIGHTS).read_bytes())
    data[place] ^= 1 << bit
    (changed / WEIGHTS).write_bytes(data)
    return changed


def rounding(network, path):
    """What verification sees of the weights; infinite where the package cannot be decoded any more."""
    try:
        return transplant_weights(fold_batchnorm(network), load_program(path)).rounding
    except PocketAffectError:
        return float("inf")


FORMS = {
    "int8": {"quantized_data", "scale", "zero_point"},
    "palette4": {"indices", "lut"},
    "palette4-grouped": {"indices", "lut"},
    "int4-block": {"data", "scale"},
    "pruned50-palette4": {"indices_mask", "indices_nonzero_data", "lut"},
}


SLOW_FORMS = {"palette4-grouped", "int4-block"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW_FORMS else name for name in FORMS]
)
def test_a_turned_bit_in_any_part_of_a_form_is_found(making, network, tmp_path, name):
    path = making.make(PRECISIONS[name]).path
    assert rounding(network, path) <= 1
    parts = places(path)
    assert {part for _, part, _, _ in parts} >= FORMS[name] - {"mask"}
    for kind, part, start, length in {part: place for place in parts for part in [place[1]]}.values():
        # The upper byte of a float16 in the middle; bit 6 is the highest of its exponent.
        place = start + length // 2 | 1
        ratio = rounding(network, flip(path, tmp_path, place, 6))
        assert ratio > 1, (kind, part)
        assert np.isinf(ratio) or ratio > 1.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "palette4", "palette6-grouped", "int4-block", "pruned75-palette6"])
def test_random_bits_are_found_or_move_no_weight_further_than_rounding_does(making, network, tmp_path, name):
    path = making.make(PRECISIONS[name]).path
    before = load_program(path).decoded_weights()
    rng = np.random.default_rng(6)
    parts = places(path)
    caught = 0
    for _ in range(40):
        _, _, start, length = parts[rng.integers(len(parts))]
        changed = flip(path, tmp_path, start + int(rng.integers(length)), int(rng.integers(8)))
        ratio = rounding(network, changed)
        after = load_program(changed).decoded_weights() if ratio <= 1 else {}
        shutil.rmtree(changed)
        caught += ratio > 1
        for key, array in after.items():
            moved = np.abs(array.astype(np.float64) - before[key]).max()
            if array.dtype.kind == "f" and before[key].shape == array.shape:
                # A palette's values are known to the rounding of their mean; int8's integers to about one step.
                assert moved <= (0.011 if "int" not in name else 0.2) * np.abs(before[key]).max()
    assert caught > 20


def test_forms_without_a_known_bound_say_so():
    weights = np.linspace(-1, 1, 12).reshape(3, 4)
    vectors = Stored(2, ("constexpr_lut_to_dense",), {"lut": np.zeros((1, 1, 4, 2))})
    assert rounding_ratio(weights, weights, vectors) is None
    assert rounding_ratio(weights, weights, Stored(8, ("constexpr_of_tomorrow",))) is None


def test_a_weight_that_is_not_a_number_is_found():
    weights = np.ones((2, 3), np.float32)
    broken = weights.astype(np.float16)
    broken[1, 1] = np.nan
    assert not rounding_ratio(weights, broken, Stored(16)) <= 1


def test_a_pruned_weight_must_be_smaller_than_all_that_were_kept():
    weights = np.array([[0.1, -0.9, 0.5, 0.05]])
    lut = np.array([-0.9, 0.5], np.float16)
    kept = np.array([[False, True, True, False]])
    stored = Stored(1, ("constexpr_lut_to_sparse", "constexpr_sparse_to_dense"), {"lut": lut}, kept)
    assert rounding_ratio(weights, np.where(kept, weights, 0).astype(np.float16), stored) <= 1
    wrong = np.array([[True, True, False, False]])
    stored = Stored(1, stored.operations, {"lut": np.array([-0.9, 0.1], np.float16)}, wrong)
    assert rounding_ratio(weights, np.where(wrong, weights, 0).astype(np.float16), stored) > 1
