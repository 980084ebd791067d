from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pocketaffect.labels import EXPRESSIONS
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs, count_parameters
from pocketaffect.models.paper import BACKBONES, DENSE_FEATURES, GaussianDropout, scale_channels

PAPER_SIZE = 128
widths = st.floats(0.05, 2.0)
architectures = st.sampled_from(sorted(BACKBONES))

# Sums as they stand in the issue; `paper_parameters` derives each from the paper's layers.
PARAMETERS = {"alexnet": 3_464_952, "vgg": 3_753_016, "mobilenet": 3_237_064}
MILLION_MACS = {"alexnet": 250, "vgg": 237, "mobilenet": 185}

# (kernel, input channels, output channels, input side) of each full convolution, from the paper's layer tables.
ALEXNET = ((9, 3, 16, 128), (7, 16, 32, 64), (5, 32, 64, 32), (3, 64, 128, 16), (3, 128, 128, 8))
VGG = (
    *((3, 3, 16, 128), (3, 16, 16, 128)),
    *((3, 16, 32, 64), (3, 32, 32, 64)),
    *((3, 32, 64, 32), (3, 64, 64, 32)),
    *((3, 64, 128, 16), (3, 128, 128, 16)),
    *((3, 128, 128, 8), (3, 128, 128, 8)),
)
# (input channels, output channels, output side) of each depthwise-separable block, after 3 -> 32 at 128 -> 64 pixels.
MOBILENET = (
    (32, 64, 64),
    (64, 128, 32),
    (128, 128, 32),
    (128, 256, 16),
    (256, 256, 16),
    (256, 512, 8),
    *((512, 512, 8),) * 5,
    (512, 1024, 4),
    (1024, 1024, 4),
)
NORM = 4  # numbers of a batch normalisation per channel, as Keras counts: scale, shift, running mean, running variance


def paper_parameters(architecture: str) -> int:
    if architecture == "mobilenet":
        total = 3 * 3 * 3 * 32 + NORM * 32
        for before, after, _ in MOBILENET:
            total += 3 * 3 * before + NORM * before + before * after + NORM * after
        return total + 1024 * 8 + 8
    convolutions = {"alexnet": ALEXNET, "vgg": VGG}[architecture]
    total = sum(kernel**2 * before * after + NORM * after for kernel, before, after, _ in convolutions)
    total += 2048 * 1024 + NORM * 1024
    total += 1024 * 1024 + NORM * 1024
    return total + 1024 * 8 + 8


def paper_macs(architecture: str) -> int:
    if architecture == "mobilenet":
        total = 3 * 3 * 3 * 32 * 64**2
        total += sum((9 * before + before * after) * side**2 for before, after, side in MOBILENET)
        return total + 1024 * 8
    convolutions = {"alexnet": ALEXNET, "vgg": VGG}[architecture]
    total = sum(kernel**2 * before * after * side**2 for kernel, before, after, side in convolutions)
    return total + 2048 * 1024 + 1024 * 1024 + 1024 * 8


def build(architecture: str, width: float = 1.0, size: int = PAPER_SIZE) -> AffectNetwork:
    return AffectNetwork(NetworkSpec(architecture, width, size, "plain"))


def with_expression_head(network: AffectNetwork) -> nn.Sequential:
    """The paper's classifier: everything but the head that this project adds."""
    return nn.Sequential(network.backbone, network.expression)


@pytest.mark.parametrize("architecture", BACKBONES)
def test_width_one_has_the_paper_layers_parameters_exactly(architecture):
    assert count_parameters(with_expression_head(build(architecture))) == paper_parameters(architecture)
    assert paper_parameters(architecture) == PARAMETERS[architecture]


@pytest.mark.parametrize("architecture", BACKBONES)
def test_width_one_has_the_paper_layers_multiplications_exactly(architecture):
    assert count_macs(with_expression_head(build(architecture)), PAPER_SIZE) == paper_macs(architecture)
    assert paper_macs(architecture) == pytest.approx(MILLION_MACS[architecture] * 1e6, rel=0.01)


@pytest.mark.parametrize("architecture", BACKBONES)
def test_counting_leaves_the_network_as_it_was(architecture):
    network = build(architecture, 0.1, 32).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_macs(network, 32)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def shapes_after(backbone: nn.Sequential, names: tuple[str, ...]) -> list[tuple[int, ...]]:
    shapes, x = {}, torch.zeros(1, 3, PAPER_SIZE, PAPER_SIZE)
    with torch.inference_mode():
        for name, layer in backbone.eval().named_children():
            x = layer(x)
            shapes[name] = tuple(x.shape[1:])
    return [shapes[name] for name in names]


@pytest.mark.parametrize("architecture", ["alexnet", "vgg"])
def test_each_pooled_stage_gives_the_papers_shape(architecture):
    names = ("pool0", "pool1", "pool2", "pool3", "pool4", "flatten", "dense0", "dense1")
    expected = [(16, 64, 64), (32, 32, 32), (64, 16, 16), (128, 8, 8), (128, 4, 4), (2048,), (1024,), (1024,)]
    assert shapes_after(build(architecture).backbone, names) == expected


def test_each_mobilenet_block_gives_the_papers_shape():
    names = ("stem", *(f"block{number}" for number in range(13)), "pool", "flatten")
    expected = [(32, 64, 64), *((after, side, side) for _, after, side in MOBILENET), (1024, 1, 1), (1024,)]
    assert shapes_after(build("mobilenet").backbone, names) == expected


def test_alexnet_has_one_and_vgg_two_convolutions_before_each_pooling():
    kernels = {
        name: [layer.kernel_size[0] for layer in build(name, 0.1).modules() if isinstance(layer, nn.Conv2d)]
        for name in ("alexnet", "vgg")
    }
    assert kernels == {"alexnet": [9, 7, 5, 3, 3], "vgg": [3] * 10}


@pytest.mark.parametrize("architecture", BACKBONES)
def test_every_convolution_is_unbiased_and_followed_by_normalisation_and_relu(architecture):
    layers = [layer for layer in build(architecture, 0.1).backbone.modules() if not list(layer.children())]
    for position, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is None
            assert isinstance(layers[position + 1], nn.BatchNorm2d | nn.BatchNorm1d)
            assert isinstance(layers[position + 2], nn.ReLU)


@settings(max_examples=25)
@given(architecture=architectures, pair=st.tuples(widths, widths))
def test_a_narrower_network_is_never_larger(architecture, pair):
    narrow, wide = sorted(pair)
    small, large = (BACKBONES[architecture](width, 64) for width in (narrow, wide))
    assert count_parameters(small) <= count_parameters(large)
    assert small.feature_dimension <= large.feature_dimension


@settings(max_examples=12)
@given(architecture=architectures, pair=st.tuples(widths, widths))
def test_a_narrower_network_never_multiplies_more(architecture, pair):
    narrow, wide = sorted(pair)
    small, large = (count_macs(BACKBONES[architecture](width, 32), 32) for width in (narrow, wide))
    assert small <= large


@pytest.mark.parametrize("architecture", BACKBONES)
def test_halving_the_width_more_than_halves_the_parameters(architecture):
    sizes = [count_parameters(build(architecture, width, 64)) for width in (1.0, 0.5, 0.25, 0.125)]
    assert all(2 * smaller < larger for larger, smaller in itertools.pairwise(sizes))


@given(channels=st.integers(1, 4096), width=st.floats(0.01, 8))
def test_scaled_channels_are_multiples_of_eight_near_the_asked_number(channels, width):
    scaled = scale_channels(channels, width)
    assert scaled % 8 == 0
    assert scaled >= 8
    assert scaled == 8 or abs(scaled - channels * width) <= 4 + 1e-9


@pytest.mark.parametrize("channels", [16, 32, 64, 128, 256, 512, DENSE_FEATURES])
def test_width_one_leaves_the_papers_channels_alone(channels):
    assert scale_channels(channels, 1.0) == channels


@settings(max_examples=25)
@given(architecture=architectures, sixteens=st.integers(2, 14), width=st.floats(0.05, 0.3))
def test_every_size_that_the_settings_allow_gives_predictions(architecture, sixteens, width):
    size = 16 * sixteens
    network = build(architecture, width, size).eval()
    with torch.inference_mode():
        logits, valence_arousal = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, len(EXPRESSIONS))
    assert valence_arousal.shape == (2, 2)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.8])
def test_gaussian_dropout_multiplies_by_noise_of_mean_one_and_the_papers_deviation(probability):
    torch.manual_seed(0)
    noise = GaussianDropout(probability).train()(torch.ones(400_000, dtype=torch.float64))
    deviation = (probability / (1 - probability)) ** 0.5
    assert float(noise.mean()) == pytest.approx(1, abs=5 * deviation / 400_000**0.5)
    assert float(noise.std()) == pytest.approx(deviation, rel=0.01)


def test_gaussian_dropout_scales_each_value_by_its_own_size():
    torch.manual_seed(0)
    x = torch.tensor([0.0, 1.0, -10.0]).repeat(100_000, 1)
    y = GaussianDropout(0.2).train()(x)
    assert bool((y[:, 0] == 0).all())
    assert float(y[:, 2].std()) == pytest.approx(10 * float(y[:, 1].std()), rel=0.02)
    assert float(torch.corrcoef(y[:, 1:].T)[0, 1]) == pytest.approx(0, abs=0.02)


def test_gaussian_dropout_passes_its_input_on_in_evaluation():
    x = torch.rand(3, 4)
    assert GaussianDropout(0.5).eval()(x) is x
