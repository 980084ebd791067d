"""Every compressed form decodes to what the formulas of the MIL operation reference say, bit for bit."""

from __future__ import annotations

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto.load import load
from torch import nn

from pocketaffect.mlpackage.package import save_package
from pocketaffect.mlpackage.program import WEIGHT_FORMS, load_program
from pocketaffect.mlpackage.quiet import quiet_conversion


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


def decode(quantized_data=None, scale=None, zero_point=None, axis=0, indices=None, lut=None, shape=None):
    if quantized_data is not None:
        along = [-1 if place == axis else 1 for place in range(quantized_data.ndim)]
        step, zero = (np.reshape(one, along if np.ndim(one) else ()) for one in (scale, zero_point))
        exact = step.astype(np.float32) * (quantized_data.astype(np.float32) - zero.astype(np.float32))
        return exact.astype(scale.dtype)
    if shape is not None:  # iOS 16: numbers packed from the least significant bit on, and one palette
        bits, packed = int(np.log2(len(lut))), int.from_bytes(indices.tobytes(), "little")
        numbers = [packed >> (bits * place) & ((1 << bits) - 1) for place in range(np.prod(shape))]
        return lut[numbers].reshape(shape)
    decoded = np.empty(indices.shape, lut.dtype)  # iOS 18: a palette for each group of output channels
    group = len(indices) // len(lut)
    for channel, numbers in enumerate(indices):
        decoded[channel] = lut[channel // group].reshape(-1)[numbers]
    return decoded


@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_form_decodes_as_its_formula_says(converted, tmp_path, form):
    target, compress = FORMS[form]
    with quiet_conversion():
        model = compress(converted[target])
    path = tmp_path / "compressed.mlpackage"
    save_package(model, path)
    ours = load_program(path).decoded_weights()
    opened = ct.models.MLModel(str(path), skip_model_load=True)
    spec = opened.get_spec()
    function = load(spec, spec.specificationVersion, opened.weights_dir).functions["main"]
    compressed = [operation for operation in function.operations if operation.op_type in WEIGHT_FORMS]
    for operation in compressed:
        given = {name: value.val for name, value in operation.inputs.items() if value is not None}
        np.testing.assert_array_equal(ours[operation.outputs[0].name], decode(**given))
    assert len(compressed) >= 2


def test_int8_is_within_half_a_step_of_the_original(packages):
    original, decoded = (load_program(packages[name]).decoded_weights() for name in ("fp32", "int8"))
    name = next(name for name, array in original.items() if array.shape == (24, 144 * 16))
    weights, rounded = original[name], decoded[f"{name}_to_fp16_quantized"]
    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert (np.abs(weights - rounded) / step).max() < 0.7
    assert np.abs(weights - rounded).max() > 0
