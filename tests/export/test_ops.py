"""Each operation against PyTorch through a real conversion, or against coremltools' own evaluation."""

from __future__ import annotations

import copy

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters import mil
from torch import nn
from torch.nn import functional

from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.ops import EXACT_OPERATIONS, OPERATIONS
from pocketaffect.mlpackage.package import save_package
from pocketaffect.mlpackage.quiet import quiet_conversion

SIZE = 12
GENERATOR = torch.Generator().manual_seed(11)
KERNEL = torch.randn(6, 3, 3, 3, generator=GENERATOR)
DEPTHWISE = torch.randn(6, 1, 3, 3, generator=GENERATOR)
MATRIX = torch.randn(SIZE, 5, generator=GENERATOR)
CHANNELS = torch.randn(3, generator=GENERATOR)
VARIANCE = torch.rand(3, generator=GENERATOR) + 0.3

# x: [1, 3, 12, 12], from -0.5 to 0.5.
FROM_TORCH = {
    "conv": lambda x: functional.conv2d(x, KERNEL, torch.arange(6.0), stride=2, padding=1),
    "conv dilated": lambda x: functional.conv2d(x, KERNEL, padding=(2, 1), dilation=(2, 1)),
    "conv grouped": lambda x: functional.conv2d(x.repeat(1, 2, 1, 1), DEPTHWISE, groups=6),
    "conv padded at one side": lambda x: functional.conv2d(functional.pad(x, (0, 1, 1, 0)), KERNEL, stride=2),
    "conv of rank 3": lambda x: functional.conv1d(x[:, :, 0], KERNEL[:, :, 0], padding=1),
    "max_pool": lambda x: functional.max_pool2d(x, 3, 2, padding=1),
    "max_pool ceil": lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    "avg_pool": lambda x: functional.avg_pool2d(x, 2),
    "avg_pool padded": lambda x: functional.avg_pool2d(x, 3, 2, padding=1),
    "avg_pool without padding": lambda x: functional.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
    "adaptive pool": lambda x: functional.adaptive_avg_pool2d(x, 3),
    "batch_norm": lambda x: functional.batch_norm(x, CHANNELS, VARIANCE, VARIANCE, CHANNELS),
    "layer_norm": lambda x: functional.layer_norm(x, [SIZE], MATRIX[:, 0], MATRIX[:, 1]),
    "linear": lambda x: functional.linear(x, MATRIX.T, MATRIX[:5, 0]),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "softmax": lambda x: (5 * x).softmax(dim=1),
    "clip": lambda x: x.clamp(-0.2, 0.3),
    "gelu": functional.gelu,
    "gelu tanh": lambda x: functional.gelu(4 * x, approximate="tanh"),
    "silu": functional.silu,
    "hardswish": lambda x: functional.hardswish(8 * x),
    "hardsigmoid": lambda x: functional.hardsigmoid(8 * x),
    "sigmoid": lambda x: torch.sigmoid(4 * x),
    "tanh": lambda x: torch.tanh(3 * x),
    "elu": functional.elu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "prelu": lambda x: functional.prelu(x, CHANNELS),
    "relu6": lambda x: functional.relu6(20 * x),
    "softplus": functional.softplus,
    "exp and log": lambda x: torch.log(torch.exp(x) + 1),
    "sqrt and rsqrt": lambda x: torch.sqrt(x + 1) + torch.rsqrt(x + 1),
    "pow": lambda x: (x + 1) ** 1.5,
    "division": lambda x: x / (x.abs() + 1),
    "maximum and minimum": lambda x: torch.maximum(x, x.flip(3)) - torch.minimum(x, x.flip(2)),
    "where": lambda x: torch.where(x > 0.1, x, x * 2),
    "mean": lambda x: x.mean((2, 3)),
    "mean kept": lambda x: x.mean(1, keepdim=True) * x,
    "sum, max and min": lambda x: x.sum(1) + x.amax(1) - x.amin(1),
    "variance": lambda x: x.var(3, unbiased=False),
    "norm": lambda x: functional.normalize(x, dim=1),
    "reshape and transpose": lambda x: x.reshape(1, 3, 4, 36).permute(0, 2, 1, 3).flatten(1),
    "concat and chunk": lambda x: torch.cat([part * 2 for part in x.chunk(3, 1)][::-1], 1),
    "split": lambda x: x.split([1, 2], 1)[1],
    "stack": lambda x: torch.stack([x[:, 0], x[:, 2]], 1),
    "slices": lambda x: x[:, 1:, ::2, :-3],
    "index": lambda x: x[:, 1],
    "squeeze and unsqueeze": lambda x: x[:, :1].squeeze(1).unsqueeze(2),
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1) * 1.5,
    "gather": lambda x: x[:, [2, 0]],
    "pad reflect": lambda x: functional.pad(x, (1, 2, 3, 0), mode="reflect"),
    "pad constant": lambda x: functional.pad(x, (1, 2, 3, 0), value=0.7),
}


class EveryOperation(nn.Module):
    def forward(self, image):
        x = image - 0.5
        return tuple(compute(x).flatten(1) for compute in FROM_TORCH.values())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Each operation's result by the interpreter and by PyTorch, for three images."""
    network = EveryOperation().eval()
    with quiet_conversion():
        traced = torch.jit.trace(network, torch.rand(1, 3, SIZE, SIZE))
        model = ct.convert(
            traced,
            inputs=[ct.ImageType(name="image", shape=(1, 3, SIZE, SIZE), scale=1 / 255)],
            outputs=[ct.TensorType(name=f"out{place}") for place in range(len(FROM_TORCH))],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
        )
    path = tmp_path_factory.mktemp("ops") / "ops.mlpackage"
    save_package(model, path)
    images = np.random.default_rng(2).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    ours = load_program(path).predict(images)
    theirs = [network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255) for image in images]
    return {
        name: (ours[f"out{place}"], np.concatenate([one[place].numpy() for one in theirs]))
        for place, name in enumerate(FROM_TORCH)
    }


@pytest.mark.parametrize("name", FROM_TORCH)
def test_an_operation_computes_what_pytorch_computes(results, name):
    ours, theirs = results[name]
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-4, atol=2e-5)


NUMBERS = np.array([[-2.5, -1.0, -0.3, 0.0], [0.2, 0.5, 1.5, 3.0]], np.float32)
POSITIVE = np.abs(NUMBERS) + np.float32(0.1)
OTHER = NUMBERS[:, ::-1].copy()
STEPS = np.array([[-128, -3, 0, 7], [127, 1, -1, 20]], np.int8)

FROM_COREMLTOOLS = [
    ("abs", {"x": NUMBERS}),
    ("add", {"x": NUMBERS, "y": OTHER}),
    ("ceil", {"x": NUMBERS}),
    ("clamped_relu", {"x": NUMBERS, "alpha": 0.3, "beta": 1.2}),
    ("cos", {"x": NUMBERS}),
    ("elu", {"x": NUMBERS, "alpha": 0.7}),
    ("equal", {"x": NUMBERS, "y": OTHER}),
    ("erf", {"x": NUMBERS}),
    ("floor", {"x": NUMBERS}),
    ("floor_div", {"x": NUMBERS, "y": POSITIVE}),
    ("gelu", {"x": NUMBERS, "mode": "SIGMOID_APPROXIMATION"}),
    ("gelu", {"x": NUMBERS, "mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": NUMBERS, "mode": "EXACT"}),
    ("greater_equal", {"x": NUMBERS, "y": OTHER}),
    ("inverse", {"x": POSITIVE, "epsilon": 0.05}),
    ("less", {"x": NUMBERS, "y": OTHER}),
    ("less_equal", {"x": NUMBERS, "y": OTHER}),
    ("linear_activation", {"x": NUMBERS, "alpha": 0.3, "beta": 0.1}),
    ("log", {"x": POSITIVE, "epsilon": 0.01}),
    ("not_equal", {"x": NUMBERS, "y": OTHER}),
    ("reduce_l2_norm", {"x": NUMBERS, "axes": [1], "keep_dims": True}),
    ("reduce_sum_square", {"x": NUMBERS, "axes": [0], "keep_dims": False}),
    ("round", {"x": NUMBERS}),
    ("rsqrt", {"x": POSITIVE, "epsilon": 0.01}),
    ("scaled_tanh", {"x": NUMBERS, "alpha": 0.7, "beta": 1.3}),
    ("sigmoid_hard", {"x": NUMBERS, "alpha": 0.3, "beta": 0.4}),
    ("sign", {"x": NUMBERS}),
    ("sin", {"x": NUMBERS}),
    ("slice_by_size", {"x": NUMBERS, "begin": [0, 1], "size": [2, -1]}),
    ("softsign", {"x": NUMBERS}),
    ("square", {"x": NUMBERS}),
    ("threshold", {"x": NUMBERS, "alpha": 0.3}),
    ("thresholded_relu", {"x": NUMBERS, "alpha": 0.5}),
    ("tile", {"x": NUMBERS, "reps": [2, 3]}),
    ("transpose", {"x": NUMBERS, "perm": [1, 0]}),
    ("clip", {"x": NUMBERS, "alpha": -0.4, "beta": 0.4}),
    ("concat", {"values": [NUMBERS, OTHER], "axis": 1}),
    ("exp", {"x": NUMBERS}),
    ("expand_dims", {"x": NUMBERS, "axes": [0, -1]}),
    ("gather", {"x": NUMBERS, "indices": np.array([2, 0], np.int32), "axis": 1}),
    ("greater", {"x": NUMBERS, "y": OTHER}),
    ("leaky_relu", {"x": NUMBERS, "alpha": 0.2}),
    ("linear", {"x": NUMBERS, "weight": OTHER, "bias": np.array([1.0, -2.0], np.float32)}),
    ("logical_and", {"x": NUMBERS > 0, "y": OTHER > 0}),
    ("logical_not", {"x": NUMBERS > 0}),
    ("logical_or", {"x": NUMBERS > 0, "y": OTHER > 0}),
    ("matmul", {"x": NUMBERS, "y": OTHER, "transpose_x": True}),
    ("matmul", {"x": NUMBERS, "y": OTHER, "transpose_y": True}),
    ("maximum", {"x": NUMBERS, "y": OTHER}),
    ("minimum", {"x": NUMBERS, "y": OTHER}),
    ("mul", {"x": NUMBERS, "y": OTHER[:1]}),
    ("pow", {"x": POSITIVE, "y": OTHER}),
    ("real_div", {"x": NUMBERS, "y": POSITIVE}),
    ("reduce_max", {"x": NUMBERS, "axes": [0], "keep_dims": False}),
    ("reduce_mean", {"x": NUMBERS, "axes": [-1], "keep_dims": True}),
    ("reduce_min", {"x": NUMBERS, "axes": [0, 1], "keep_dims": False}),
    ("reduce_sum", {"x": NUMBERS, "axes": [1], "keep_dims": False}),
    ("relu", {"x": NUMBERS}),
    ("relu6", {"x": 4 * NUMBERS}),
    ("reshape", {"x": NUMBERS, "shape": [4, -1]}),
    ("reverse", {"x": NUMBERS, "axes": [1]}),
    ("select", {"cond": NUMBERS > 0, "a": NUMBERS, "b": OTHER}),
    ("shape", {"x": NUMBERS}),
    ("sigmoid", {"x": NUMBERS}),
    ("softmax", {"x": NUMBERS, "axis": 0}),
    ("softplus", {"x": NUMBERS}),
    ("split", {"x": NUMBERS, "split_sizes": [1, 3], "axis": 1}),
    ("sqrt", {"x": POSITIVE}),
    ("squeeze", {"x": NUMBERS[:, :1], "axes": [1]}),
    ("stack", {"values": [NUMBERS, OTHER], "axis": 1}),
    ("sub", {"x": NUMBERS, "y": OTHER[:, :1]}),
    ("tanh", {"x": NUMBERS}),
    ("slice_by_index", {"x": NUMBERS, "begin": [0, 3], "end": [2, 0], "stride": [1, 2], "begin_mask": [False, True],
                        "end_mask": [False, True]}),
    ("quantize", {"input": NUMBERS, "scale": np.float32(0.02), "output_dtype": "int8"}),
    ("quantize", {"input": NUMBERS, "scale": np.float32(0.02), "output_dtype": "uint8", "zero_point": np.uint8(7)}),
    ("quantize", {"input": NUMBERS, "scale": np.array([0.3, 0.02], np.float32), "output_dtype": "int8",
                  "zero_point": np.array([1, -3], np.int8), "axis": 0}),
    ("dequantize", {"input": STEPS, "scale": np.float32(0.02)}),
    ("dequantize", {"input": STEPS, "scale": np.float32(0.02), "zero_point": np.int8(-5)}),
    ("dequantize", {"input": STEPS, "scale": np.array([0.3, 0.02], np.float32),
                    "zero_point": np.array([1, -3], np.int8), "axis": 0}),
]  # fmt: skip


def given_to_us(value):
    """As the interpreter hands a value on: tensors of floats, numbers, lists of integers."""
    if isinstance(value, list) and isinstance(value[0], np.ndarray):
        return [torch.from_numpy(one) for one in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(np.float32)) if value.dtype == np.int8 else torch.from_numpy(value)
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize(("kind", "inputs"), FROM_COREMLTOOLS, ids=[kind for kind, _ in FROM_COREMLTOOLS])
def test_an_operation_computes_what_coremltools_evaluates(kind, inputs):
    expected = []

    @mil.Builder.program(input_specs=[mil.Builder.TensorSpec(shape=(1,))], opset_version=ct.target.iOS17)
    def program(unused):
        # Copies: coremltools evaluates relu in place.
        results = getattr(mil.Builder, kind)(**copy.deepcopy(inputs))
        for result in results if isinstance(results, list | tuple) else [results]:
            value = result.val
            # Quantising is evaluated only where the weights of a package are read.
            expected.append(result.op.materialized_val_inference() if value is None else value)
        return unused

    ours = OPERATIONS[kind](**{key: given_to_us(value) for key, value in inputs.items()})
    for one, reference in zip(ours if isinstance(ours, tuple) else (ours,), expected, strict=True):
        assert reference is not None
        np.testing.assert_allclose(np.asarray(one, dtype=np.float64), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("length", "stride", "kernel"), [(12, 2, 3), (11, 2, 3), (12, 1, 4), (10, 3, 2)])
def test_padding_of_type_same_keeps_ceil_of_length_over_stride(length, stride, kernel):
    x = torch.randn(1, 2, length, length, generator=GENERATOR)
    weight = torch.randn(4, 2, kernel, kernel, generator=GENERATOR)
    output = -(-length // stride)
    total = max((output - 1) * stride + kernel - length, 0)
    for pad_type, before in (("same", total // 2), ("same_lower", total - total // 2)):
        ours = OPERATIONS["conv"](x=x, weight=weight, strides=[stride, stride], pad_type=pad_type)
        padded = functional.pad(x, (before, total - before, before, total - before))
        torch.testing.assert_close(ours, functional.conv2d(padded, weight, stride=stride))
        assert ours.shape[2:] == (output, output)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("conv", {"x": torch.zeros(1, 1, 2, 2, 2), "weight": torch.zeros(1, 1, 1, 1, 1)}),
        ("conv", {"x": torch.zeros(1, 1, 4, 4), "weight": torch.zeros(1, 1, 1, 1), "pad_type": "odd"}),
        ("concat", {"values": [torch.zeros(2)], "axis": 0, "interleave": True}),
        ("slice_by_index", {"x": torch.zeros(3), "begin": [2], "end": [0], "stride": [-1]}),
        ("pad", {"x": torch.zeros(3), "pad": [1, 1], "mode": "odd"}),
        ("gather", {"x": torch.zeros(3, 3), "indices": [0], "batch_dims": 1}),
        ("cast", {"x": torch.zeros(3), "dtype": "int8"}),
        ("quantize", {"input": torch.zeros(3), "scale": 0.1, "output_dtype": "int4"}),
        ("dequantize", {"input": torch.zeros(3), "scale": torch.ones(3)}),
    ],
)
def test_a_mode_that_is_not_implemented_is_refused_and_never_guessed(kind, inputs):
    with pytest.raises(NotImplementedError):
        OPERATIONS[kind](**inputs)


def test_operations_that_skip_rounding_are_known_operations():
    assert set(OPERATIONS) > EXACT_OPERATIONS
