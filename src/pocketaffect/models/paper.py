"""The three backbones of Hewitt & Gunes 2018 (arXiv 1807.08775), each with a width multiplier.

Every convolution is "same"-padded, has no bias, and is followed by batch normalisation and ReLU. A backbone maps
float [n, 3, size, size] to features [n, feature_dimension]. At width 1.0 and 128 pixels the layers are the paper's.
`dropout` multiplies the paper's rates: they suit its networks of millions of weights on 287,651 faces, and starve
smaller networks on less data.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import torch
from torch import nn

CONVOLUTION_DROPOUT: Final = 0.2
DENSE_DROPOUT: Final = 0.5
MOBILENET_DROPOUT: Final = 0.3
DENSE_FEATURES: Final = 1024
POOLINGS: Final = 5
MOBILENET_BLOCKS: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""(channels, stride) of each depthwise-separable block."""


class Backbone(nn.Sequential):
    """Image to features, with the number of features as an attribute."""

    feature_dimension: int

    def __init__(self, layers: OrderedDict[str, nn.Module], feature_dimension: int) -> None:
        super().__init__(layers)
        self.feature_dimension = feature_dimension


class GaussianDropout(nn.Module):
    """Multiplies by noise of mean 1 and standard deviation sqrt(p / (1 - p)) in training (Srivastava et al. 2014)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.deviation = math.sqrt(probability / (1 - probability))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds noise to `x` in training; leaves it as it is in evaluation."""
        if not self.training:
            return x
        noise = torch.empty_like(x)
        # Filled in the order of memory: in the order of its axes a channels_last tensor takes seven times as long.
        noise.as_strided((noise.numel(),), (1,)).normal_(1, self.deviation)
        return x * noise

    def extra_repr(self) -> str:
        """Describes the module for `print`."""
        return f"p={self.probability}"


def scale_channels(channels: int, width: float) -> int:
    """Scales a layer's channels by a width multiplier: to a multiple of 8, at least 8; exact at width 1.

    Multiples of 8 are what phones' matrix units work in.
    """
    return max(8, round(channels * width / 8) * 8)


def build_alexnet(width: float, size: int, dropout: float = 1.0) -> Backbone:
    """Builds variant 1: five single convolutions of 9, 7, 5, 3 and 3 pixels, each pooled."""
    return _build_pooled(((9, 16), (7, 32), (5, 64), (3, 128), (3, 128)), 1, width, size, dropout)


def build_vgg(width: float, size: int, dropout: float = 1.0) -> Backbone:
    """Builds variant 2: five pairs of 3 x 3 convolutions, each pair pooled."""
    return _build_pooled(((3, 16), (3, 32), (3, 64), (3, 128), (3, 128)), 2, width, size, dropout)


def build_mobilenet(width: float, size: int, dropout: float = 1.0) -> Backbone:
    """Builds variant 3: MobileNet (Howard et al. 2017), depthwise-separable blocks and global average pooling."""
    del size  # pooled globally: any input size gives the same layers
    channels = scale_channels(32, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=make_convolution(3, channels, 3, stride=2))
    for number, (wanted, stride) in enumerate(MOBILENET_BLOCKS):
        following = scale_channels(wanted, width)
        layers[f"block{number}"] = nn.Sequential(
            make_convolution(channels, channels, 3, stride=stride, groups=channels),
            make_convolution(channels, following, 1),
        )
        channels = following
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(MOBILENET_DROPOUT * dropout)
    return Backbone(layers, channels)


BACKBONES: Final[dict[str, Callable[[float, int, float], Backbone]]] = {
    "alexnet": build_alexnet,
    "vgg": build_vgg,
    "mobilenet": build_mobilenet,
}


def _build_pooled(
    stages: tuple[tuple[int, int], ...], repeats: int, width: float, size: int, dropout: float
) -> Backbone:
    """Builds `stages` of (kernel, channels), each `repeats` convolutions and one pooling, then two dense layers."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    previous = 3
    for number, (kernel, wanted) in enumerate(stages):
        channels = scale_channels(wanted, width)
        for repeat in range(repeats):
            layers[f"stage{number}_{repeat}"] = make_convolution(previous, channels, kernel)
            previous = channels
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers[f"dropout{number}"] = GaussianDropout(CONVOLUTION_DROPOUT * dropout)
    side = size // 2**POOLINGS
    layers["flatten"] = nn.Flatten()
    features = previous * side * side
    for number in range(2):
        wanted = scale_channels(DENSE_FEATURES, width)
        layers[f"dense{number}"] = nn.Sequential(
            nn.Linear(features, wanted, bias=False),
            nn.BatchNorm1d(wanted),
            nn.ReLU(),
            nn.Dropout(DENSE_DROPOUT * dropout),
        )
        features = wanted
    return Backbone(layers, features)


def make_convolution(previous: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Makes a "same"-padded convolution without bias, its batch normalisation, and ReLU."""
    return nn.Sequential(
        nn.Conv2d(previous, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
