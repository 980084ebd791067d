"""What several tests of the models need."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pocketaffect.designs import CATALOGUE
from pocketaffect.models.network import AffectNetwork, NetworkSpec

PHONE = [name for name in CATALOGUE if name not in ("alexnet", "vgg", "mobilenet", "resnet10")]

HEAVY = ("mobilenetv3_large", "mobileone_s0")
"""Slow to build: the first is the small one's twin, the second has 900 tensors."""


def without_heavy(names: list[str]) -> list[object]:
    """`names` for `parametrize`, the heavy ones marked slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in names]


def build(architecture: str, width: float = 0.1, size: int = 48, head: str = "prototype", **further) -> AffectNetwork:
    torch.manual_seed(0)
    return AffectNetwork(NetworkSpec(architecture, width, size, head, **further))


def faces(number: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def settle(network: AffectNetwork) -> AffectNetwork:
    """Random scales and shifts, and running statistics that fit them, as a training leaves them."""
    generator = torch.Generator().manual_seed(2)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, std=0.2, generator=generator)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(faces(16, network.spec.size))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def predict(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return network.eval()(images)
