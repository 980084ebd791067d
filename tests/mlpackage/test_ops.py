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

from pocketaffect.mlpackage.ops import EXACT_OPERATIONS, OPERATIONS
from pocketaffect.mlpackage.package import save_package
from pocketaffect.mlpackage.program import load_program
from pocketaffect.mlpackage.quiet import quiet_conversion

SIZE = 12
GENERATOR = torch.Generator().manual_seed(11)
KERNEL = torch.randn(6, 3, 3, 3, generator=GENERATOR)
DEPTHWISE = torch.randn(3, 1, 3, 3, generator=GENERATOR)
MATRIX = torch.randn(SIZE, 5, generator=GENERATOR)

# x: [1, 3, 12, 12], from -0.5 to 0.5.
FROM_TORCH = {
    "conv": lambda x: functional.conv2d(x, KERNEL, torch.arange(6.0), stride=2, padding=1),
    "conv dilated": lambda x: functional.conv2d(x, KERNEL, padding=(2, 1), dilation=(2, 1)),
    "conv grouped": lambda x: functional.conv2d(x, DEPTHWISE, groups=3),
    "max_pool": lambda x: functional.max_pool2d(x, 3, 2, padding=1),
    "max_pool ceil": lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    "batch_norm": lambda x: functional.batch_norm(
        functional.conv2d(x, KERNEL), torch.arange(6.0), torch.ones(6), torch.ones(6), torch.arange(6.0)
    ),
    "linear": lambda x: functional.linear(x, MATRIX.T, MATRIX[:5, 0]),
    "matrix": lambda x: x.mean((2, 3)) @ MATRIX[:3],
    "softmax": lambda x: (5 * x).softmax(dim=1),
    "clip": lambda x: x.clamp(-0.2, 0.3),
    "clip below": lambda x: x.clamp(min=-0.2),
    "gelu": functional.gelu,
    "hardswish": lambda x: functional.hardswish(8 * x),
    "hardsigmoid": lambda x: functional.hardsigmoid(8 * x),
    "sigmoid": lambda x: torch.sigmoid(4 * x),
    "add and mul": lambda x: (x + x * x) * 1.5,
    "mean": lambda x: x.mean((2, 3)),
    "mean kept": lambda x: x.mean(1, keepdim=True) * x,
    "reshape": lambda x: functional.relu(x).reshape(1, 3, 4, 36),
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
OTHER = NUMBERS[:, ::-1].copy()

FROM_COREMLTOOLS = [
    ("add", {"x": NUMBERS, "y": OTHER}),
    ("clip", {"x": NUMBERS, "alpha": -0.4, "beta": 0.4}),
    ("gelu", {"x": NUMBERS, "mode": "EXACT"}),
    ("linear", {"x": NUMBERS, "weight": OTHER, "bias": np.array([1.0, -2.0], np.float32)}),
    ("mul", {"x": NUMBERS, "y": OTHER[:1]}),
    ("reduce_mean", {"x": NUMBERS, "axes": [-1], "keep_dims": True}),
    ("reduce_mean", {"x": NUMBERS}),
    ("relu", {"x": NUMBERS}),
    ("reshape", {"x": NUMBERS, "shape": [4, -1]}),
    ("sigmoid", {"x": NUMBERS}),
    ("sigmoid_hard", {"x": NUMBERS, "alpha": 0.3, "beta": 0.4}),
    ("softmax", {"x": NUMBERS, "axis": 0}),
    ("sub", {"x": NUMBERS, "y": OTHER[:, :1]}),
    ("thresholded_relu", {"x": NUMBERS, "alpha": 0.5}),
]


@pytest.mark.parametrize(("kind", "inputs"), FROM_COREMLTOOLS, ids=[kind for kind, _ in FROM_COREMLTOOLS])
def test_an_operation_computes_what_coremltools_evaluates(kind, inputs):
    expected = []

    @mil.Builder.program(input_specs=[mil.Builder.TensorSpec(shape=(1,))], opset_version=ct.target.iOS17)
    def program(unused):
        expected.append(getattr(mil.Builder, kind)(**copy.deepcopy(inputs)).val)  # relu is evaluated in place
        return unused

    ours = OPERATIONS[kind](
        **{key: torch.from_numpy(one) if isinstance(one, np.ndarray) else one for key, one in inputs.items()}
    )
    np.testing.assert_allclose(ours, expected[0], rtol=1e-5, atol=1e-6)


def test_sides_may_be_padded_unevenly():
    x = torch.randn(2, 3, 7, 9, generator=GENERATOR) - 3
    ours = OPERATIONS["conv"](x=x, weight=KERNEL, strides=[2, 2], pad_type="custom", pad=[0, 1, 2, 0])
    torch.testing.assert_close(ours, functional.conv2d(functional.pad(x, (2, 0, 0, 1)), KERNEL, stride=2))
    ours = OPERATIONS["max_pool"](x=x, kernel_sizes=[3, 3], pad_type="custom", pad=[0, 1, 2, 0])
    torch.testing.assert_close(ours, functional.max_pool2d(functional.pad(x, (2, 0, 0, 1), value=-1e9), 3, 1))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("conv", {"x": torch.zeros(1, 1, 2, 2, 2), "weight": torch.zeros(1, 1, 1, 1, 1)}),
        ("conv", {"x": torch.zeros(1, 1, 4, 4), "weight": torch.zeros(1, 1, 1, 1), "pad_type": "same"}),
        ("max_pool", {"x": torch.zeros(1, 1, 4, 4), "kernel_sizes": [2, 2], "pad_type": "same_lower"}),
        ("gelu", {"x": torch.zeros(3), "mode": "TANH_APPROXIMATION"}),
        ("cast", {"x": torch.zeros(3), "dtype": "int8"}),
    ],
)
def test_a_mode_that_is_not_implemented_is_refused_and_never_guessed(kind, inputs):
    with pytest.raises(NotImplementedError):
        OPERATIONS[kind](**inputs)


def test_operations_that_skip_rounding_are_known_operations():
    assert set(OPERATIONS) > EXACT_OPERATIONS
