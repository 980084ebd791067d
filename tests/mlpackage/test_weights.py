"""Every compressed form decodes to what coremltools itself makes of it, bit for bit."""

from __future__ import annotations

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto.load import load
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pocketaffect.mlpackage.program import load_program
from pocketaffect.mlpackage.quiet import quiet_conversion
from pocketaffect.mlpackage.save import save_package
from pocketaffect.mlpackage.weights import DECODERS, _unpack


@pytest.fixture(scope="module")
def converted():
    """A convolution and a dense layer of 4096 weights, for iOS 16 and for iOS 18."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(network, nn.Linear(128, 64)).eval()
    models = {}
    with quiet_conversion():
        traced = torch.jit.trace(network, torch.rand(1, 3, 8, 8))
        for target in (ct.target.iOS16, ct.target.iOS18):
            models[target.name] = ct.convert(
                traced,
                inputs=[ct.ImageType(name="image", shape=(1, 3, 8, 8), scale=1 / 255)],
                outputs=[ct.TensorType(name="y")],
                minimum_deployment_target=target,
            )
    return models


def linear(**options):
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(**options))
    return lambda model: cto.linear_quantize_weights(model, config)


def palette(**options):
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="uniform", **options))
    return lambda model: cto.palettize_weights(model, config)


FORMS = {
    "int8 per channel": ("iOS16", linear(mode="linear_symmetric")),
    "int8 per tensor": ("iOS16", linear(mode="linear_symmetric", granularity="per_tensor")),
    "uint8 with zero points": ("iOS16", linear(mode="linear", dtype="uint8")),
    "8-bit palette": ("iOS16", palette(nbits=8)),
    "6-bit palette": ("iOS16", palette(nbits=6)),
    "4-bit palette": ("iOS16", palette(nbits=4)),
    "2-bit palette": ("iOS16", palette(nbits=2)),
    "1-bit palette": ("iOS16", palette(nbits=1)),
    "3-bit palette": ("iOS18", palette(nbits=3)),
    "grouped 4-bit palette": ("iOS18", palette(nbits=4, granularity="per_grouped_channel", group_size=16)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_form_decodes_as_coremltools_decodes_it(converted, tmp_path, form):
    target, compress = FORMS[form]
    with quiet_conversion():
        model = compress(converted[target])
    path = tmp_path / "compressed.mlpackage"
    save_package(model, path)
    program = load_program(path)
    ours = program.decoded_weights()
    opened = ct.models.MLModel(str(path), skip_model_load=True)
    spec = opened.get_spec()
    function = load(spec, spec.specificationVersion, opened.weights_dir).functions["main"]
    compared = 0
    for operation in function.operations:
        if operation.op_type not in DECODERS or not all(
            value is None or value.val is not None for value in operation.inputs.values()
        ):
            continue  # coremltools materialises only what reads constants
        theirs = operation.materialized_val_inference()
        theirs = theirs if isinstance(theirs, tuple) else (theirs,)
        for output, expected in zip(operation.outputs, theirs, strict=True):
            np.testing.assert_array_equal(ours[output.name], expected)
            compared += 1
    assert compared >= 2


def test_int8_is_within_half_a_step_of_the_original(packages):
    original, decoded = (load_program(packages[name]).decoded_weights() for name in ("fp32", "int8"))
    name = next(name for name, array in original.items() if array.shape == (24, 144 * 16))
    weights, rounded = original[name], decoded[f"{name}_to_fp16_quantized"]
    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert (np.abs(weights - rounded) / step).max() < 0.7
    assert np.abs(weights - rounded).max() > 0


@settings(deadline=None)
@given(bits=st.sampled_from([1, 2, 3, 4, 6, 8]), numbers=st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_packed_numbers_unpack_to_what_was_packed(bits, numbers):
    numbers = [number % (1 << bits) for number in numbers]
    whole = sum(number << (bits * place) for place, number in enumerate(numbers))
    packed = np.frombuffer(whole.to_bytes((bits * len(numbers) + 7) // 8, "little"), np.uint8)
    assert _unpack(packed, bits, len(numbers)).tolist() == numbers
