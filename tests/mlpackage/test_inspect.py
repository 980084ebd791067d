from __future__ import annotations

import json

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.inspect import inspect_package
from pocketaffect.mlpackage.package import package_bytes, package_digest


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_layers_bytes_add_up_to_the_weight_file(precision, packages):
    inspection = inspect_package(packages[precision])
    counted = 64 + sum(layer.bytes for layer in inspection.layers) + inspection.other_bytes
    assert 0 <= counted - inspection.weight_bytes < 64  # the last tensor is not filled up to 64 bytes
    assert inspection.bytes == package_bytes(packages[precision])
    assert inspection.digest == package_digest(packages[precision])


@pytest.mark.parametrize(("precision", "bits"), [("fp32", 32), ("fp16", 16), ("int8", 8)])
def test_a_large_layer_takes_its_precisions_bits_and_a_little_more(precision, bits, packages):
    layers = {layer.name: layer for layer in inspect_package(packages[precision]).layers}
    largest = max(layers.values(), key=lambda layer: layer.bytes)
    assert (largest.kind, largest.shape, largest.stored_as) == ("linear", (24, 144 * 16), precision)
    assert bits < largest.bits < bits * 1.01


def test_small_layers_of_an_int8_package_stay_in_float16(packages):
    stored = {layer.name: layer.stored_as for layer in inspect_package(packages["int8"]).layers}
    assert stored["pair"] == "fp16"
    assert stored["dense"] == "int8"


def test_the_table_names_every_layer_input_output_and_the_system(packages, network):
    inspection = inspect_package(packages["int8"])
    text = inspection.to_text()
    for part in ("iOS 16", "image RGB 32 x 32", "float32 [1, 8]", "scores", "git_commit", "relu"):
        assert part in text
    assert all(layer.name in text for layer in inspection.layers)
    convolutions = sum(type(module).__name__ == "Conv2d" for module in network.modules())
    assert inspection.operations["conv"] == convolutions
    assert json.loads(json.dumps(inspection.to_dict()))["system"] == inspection.system


def test_what_is_no_package_is_refused(tmp_path):
    with pytest.raises(PocketAffectError, match="not a Core ML package"):
        inspect_package(tmp_path)
