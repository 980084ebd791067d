"""A small network of the product's form, fitted to coloured patterns, and its packages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pocketaffect.config import ExportParams, load_params
from pocketaffect.export.convert import PackageDescription, Packages
from pocketaffect.export.measure import Faces
from pocketaffect.export.verify import Verifier
from pocketaffect.labels import CLASS_MEAN_VA
from pocketaffect.precisions import PRECISIONS

SIZE = 32


class SmallNetwork(nn.Module):
    """Every layer kind of the product's networks: strided, depthwise and pointwise convolutions, both heads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 144, 1, bias=False),
            nn.BatchNorm2d(144),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(nn.Linear(144 * 16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2))
        self.expression = nn.Linear(24, 8)
        self.register_buffer("prototypes", torch.tensor(CLASS_MEAN_VA))
        self.residual = nn.Linear(24, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.dense(self.features((x - self.mean) / self.std))
        logits = self.expression(x)
        affect = torch.softmax(logits, dim=1) @ self.prototypes + self.residual(x)
        return logits, affect.clamp(-1, 1)


@dataclass(frozen=True)
class Samples:
    images: np.ndarray
    expression: np.ndarray
    valence_arousal: np.ndarray


def draw_samples(count: int, seed: int) -> Samples:
    """Classes differ by colour, and by which side a patch is on; brightness and noise blur them."""
    rng = np.random.default_rng(seed)
    expression = rng.integers(0, 8, count)
    colour = np.array([[1, -1, 0], [-1, 1, 0], [0, 1, -1], [-1, 0, 1]])[expression % 4] * 9.0
    canvas = 128 + rng.normal(0, 7, (count, 1, 1, 1)) + rng.normal(0, 30, (count, SIZE, SIZE, 3))
    canvas += colour[:, None, None, :]
    left = (expression >= 4)[:, None, None, None]
    canvas[:, 4:16, :12] += np.where(left, 14, 0)
    canvas[:, 4:16, 20:] += np.where(left, 0, 14)
    affect = np.array(CLASS_MEAN_VA)[expression] + rng.normal(0, 0.1, (count, 2))
    return Samples(canvas.clip(0, 255).astype(np.uint8), expression, affect.clip(-1, 1).astype(np.float32))


@pytest.fixture(scope="session")
def make_network() -> type[nn.Module]:
    return SmallNetwork


@pytest.fixture(scope="session")
def draw() -> Callable[..., Samples]:
    return draw_samples


@pytest.fixture(scope="session")
def samples() -> Samples:
    drawn = draw_samples(192, seed=1)
    drawn.expression[::16] = -1
    drawn.valence_arousal[::12] = np.nan
    return drawn


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    fitted = SmallNetwork().train()
    train = draw_samples(1024, seed=0)
    images = torch.from_numpy(train.images).permute(0, 3, 1, 2).float() / 255
    expression = torch.from_numpy(train.expression)
    affect = torch.from_numpy(train.valence_arousal)
    optimizer = torch.optim.Adam(fitted.parameters(), lr=3e-3)
    for _ in range(5):
        for rows in torch.randperm(len(images)).split(64):
            logits, va = fitted(images[rows])
            loss = functional.cross_entropy(logits, expression[rows])
            loss = loss + functional.mse_loss(va, affect[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return fitted.eval()


@pytest.fixture(scope="session")
def description() -> PackageDescription:
    return PackageDescription(
        author="the authors",
        licence="Apache-2.0",
        version="1.2",
        short_description="Eight expressions, valence and arousal.",
        metadata={"git_commit": "abc"},
        crop_margin=0.1,
    )


@pytest.fixture(scope="session")
def making(network: nn.Module, description: PackageDescription, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The fitted network's packages, each made when a test first asks for it."""
    return Packages(network, SIZE, description, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def packages(making: Packages) -> dict[str, Path]:
    return {name: making.make(PRECISIONS[name]).path for name in ("fp32", "fp16", "int8")}


@pytest.fixture(scope="session")
def verifier(network: nn.Module, samples: Samples, limits: ExportParams) -> Verifier:
    return Verifier(network, Faces(samples.images, samples.expression, samples.valence_arousal), limits)


@pytest.fixture(scope="session")
def held_to(verifier: Verifier) -> Callable[..., Verifier]:
    """A verifier with some limits changed, which executes nothing anew."""

    def change(of: Verifier = verifier, **changes: object) -> Verifier:
        other = copy.copy(of)
        other.limits = of.limits.model_copy(update=changes)
        return other

    return change


@pytest.fixture(scope="session")
def limits() -> ExportParams:
    shipped = load_params(Path(__file__).parents[2] / "params.yaml").export
    return shipped.model_copy(
        update={
            "budget_bytes": 500_000,
            "max_mean_probability_difference": 0.003,
            "min_agreement": 0.97,
            "max_accuracy_drop": 0.02,
            "max_rmse_rise": 0.02,
        }
    )
