"""One untrained network in three forms, the detector, and the one photograph that an installed package brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pocketaffect.export.convert import PackageDescription, Packages, conventions
from pocketaffect.export.forms import save_twin
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.mlpackage.package import save_package
from pocketaffect.models.network import AffectNetwork, NetworkSpec, save_network
from pocketaffect.precisions import find_precision
from pocketaffect.predict.detect import FaceDetector

SIZE = 64
MARGIN = 0.1


@pytest.fixture(scope="session")
def network() -> AffectNetwork:
    torch.manual_seed(3)
    network = AffectNetwork(NetworkSpec("vgg", 0.1, SIZE, "prototype")).eval()
    with torch.no_grad():  # untrained logits hardly differ between pictures; these do
        logits, _ = network(torch.rand(16, 3, SIZE, SIZE))
        network.expression.weight.mul_(1 / logits.std(dim=0).mean())
        network.expression.bias.sub_(network(torch.rand(16, 3, SIZE, SIZE))[0].mean(dim=0))
    return network


@pytest.fixture(scope="session")
def twin(network: AffectNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("twin") / "a.onnx"
    save_twin(fold_batchnorm(network), SIZE, conventions(SIZE, find_precision("fp16"), MARGIN), file)
    return file


@pytest.fixture(scope="session")
def package(network: AffectNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "A.mlpackage"
    description = PackageDescription("a", "l", "1", "s", crop_margin=MARGIN)
    save_package(Packages(network, SIZE, description, folder.parent).make(find_precision("fp16")).model, folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(network: AffectNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_network(network, folder)
    return folder


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """uint8 [512, 512, 3]: NASA's portrait of Eileen Collins, in the public domain."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture
def relabelled(twin: Path, tmp_path: Path) -> Callable[..., str]:
    """Writes the twin with other metadata."""

    def write(**texts: str | None) -> str:
        model, name = onnx.load(twin), f"{len(list(tmp_path.glob('*.onnx')))}.onnx"
        for prop in list(model.metadata_props):
            if prop.key in texts:
                model.metadata_props.remove(prop)
        for key, text in texts.items():
            if text is not None:
                model.metadata_props.add(key=key, value=text)
        onnx.save(model, tmp_path / name)
        return str(tmp_path / name)

    return write
