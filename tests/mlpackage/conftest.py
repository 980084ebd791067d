"""Packages of a small network that has nothing to do with faces, written with coremltools alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from torch import nn

from pocketaffect.mlpackage.package import save_package
from pocketaffect.mlpackage.quiet import quiet_conversion

SIZE = 32


class SmallNetwork(nn.Module):
    """Strided, depthwise and pointwise convolutions, pooling, a dense layer, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.ReLU(),
            nn.Conv2d(16, 144, 1),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Flatten(),
        )
        self.dense = nn.Linear(144 * 16, 24)
        self.scores, self.pair = nn.Linear(24, 8), nn.Linear(24, 2)
        self.register_buffer("table", torch.rand(8, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.dense(self.features(x)))
        scores = torch.softmax(self.scores(x), dim=1)
        return scores, self.pair(x) + scores @ self.table


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    return SmallNetwork().eval()


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (96, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def models(network: nn.Module) -> dict[str, Any]:
    """By precision, what coremltools converts."""

    def convert(precision: Any) -> Any:
        return ct.convert(
            torch.jit.trace(network, torch.rand(1, 3, SIZE, SIZE)),
            inputs=[ct.ImageType(name="image", shape=(1, 3, SIZE, SIZE), scale=1 / 255)],
            outputs=[ct.TensorType(name=name, dtype=np.float32) for name in ("scores", "pair")],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=precision,
        )

    with quiet_conversion():
        plain = {"fp32": convert(ct.precision.FLOAT32), "fp16": convert(ct.precision.FLOAT16)}
        how = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=2048)
        plain["int8"] = cto.linear_quantize_weights(plain["fp16"], cto.OptimizationConfig(global_config=how))
    for model in plain.values():
        model.author = "the authors"
        model.user_defined_metadata["git_commit"] = "abc"
    return plain


@pytest.fixture(scope="session")
def packages(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    for name, model in models.items():
        save_package(model, folder / f"{name}.mlpackage")
    return {name: folder / f"{name}.mlpackage" for name in models}
