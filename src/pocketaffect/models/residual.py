"""A residual network for faces of 48 and 64 pixels: ResNet-10 with a small stem (He et al. 2016, arXiv 1512.03385).

ImageNet's stems throw three quarters of the rows away before the first block, and the paper's pooled networks spend
two thirds of their weights on two dense layers behind the last pooling. Here one strided convolution halves the face,
four stages of one basic block each end at 3 x 3 places (of 48 pixels), and their mean is what the heads read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import torch
from torch import nn

from pocketaffect.designs import find_design
from pocketaffect.models.paper import Backbone, make_convolution, scale_channels

STAGES: Final = (24, 48, 96, 128)
"""Channels of the stages at width 1, which is just under 500,000 bytes in int8."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to what came in.

    Args:
        previous: Channels that come in.
        channels: Channels that go out.
        stride: The first convolution's.
    """

    def __init__(self, previous: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = make_convolution(previous, channels, 3, stride=stride)
        self.second = make_convolution(channels, channels, 3)[:2]  # the activation comes after the sum
        self.shortcut = (
            nn.Identity()
            if previous == channels and stride == 1
            else make_convolution(previous, channels, 1, stride=stride)[:2]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes float [n, channels, side / stride, side / stride] from float [n, previous, side, side]."""
        summed: torch.Tensor = self.second(self.first(x)) + self.shortcut(x)
        return summed.relu()


def build_resnet10(width: float, size: int, dropout: float = 1.0) -> Backbone:
    """Builds it as the paper's backbones are built; pooled globally, so that its layers fit every input size."""
    del size
    channels = [scale_channels(wanted, width) for wanted in STAGES]
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=make_convolution(3, channels[0], 3, stride=2))
    for number, (previous, following) in enumerate(zip([channels[0], *channels], channels, strict=False)):
        layers[f"stage{number}"] = BasicBlock(previous, following, stride=2 if number else 1)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(find_design("resnet10").dropout * dropout)
    return Backbone(layers, channels[-1])
