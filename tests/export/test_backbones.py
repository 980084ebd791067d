"""Whole networks for phones: what the interpreter reads from the file is what PyTorch computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from size_parts import MOST_OVER, describe
from torch import nn

from pocketaffect.designs import CATALOGUE
from pocketaffect.export.convert import Packages
from pocketaffect.export.layers import fold_batchnorm, reparameterize
from pocketaffect.export.measure import Faces, compare, predict_network, predict_program
from pocketaffect.export.size import predict_package_bytes
from pocketaffect.export.verify import Verifier
from pocketaffect.mlpackage.program import load_program
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.precisions import PRECISIONS

pytestmark = pytest.mark.slow
SIZE = 64


def with_statistics(network):
    """Weights and running statistics as after some training: every channel alive, none dominant."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.6, 1.4, generator=generator)
            nn.init.normal_(module.bias, 0, 0.2, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:  # timm's are zeros, which would be stored once
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, 3, SIZE, SIZE, generator=generator))
    return network.eval()


def images():
    smooth = np.random.default_rng(2).integers(0, 256, (24, 8, 8, 3)).repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)
    return smooth.astype(np.uint8)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_design_of_the_catalogue_is_executed_as_pytorch_executes_it(name, tmp_path):
    torch.manual_seed(0)
    trained = with_statistics(AffectNetwork(NetworkSpec(name, 0.5, SIZE, "prototype")))
    shipped = reparameterize(trained)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in fold_batchnorm(shipped).modules())
    package = Packages(shipped, SIZE, describe(trained.spec), tmp_path).make(PRECISIONS["fp32"])
    program = load_program(package.path)
    difference = compare(predict_program(program, images()), predict_network(trained, images()))
    assert difference.max_probability < 1e-4
    assert difference.max_valence_arousal < 2e-4
    assert "batch_norm" not in {step.kind for step in program.steps}
    assert abs(predict_package_bytes(trained.spec, "fp32") - package.bytes) <= MOST_OVER


@pytest.mark.parametrize("name", ["mobilenetv3_small"])  # RepViT takes half a minute
def test_a_phone_network_verifies_in_a_compressed_form(name, tmp_path, limits):
    torch.manual_seed(0)
    trained = with_statistics(AffectNetwork(NetworkSpec(name, 0.5, SIZE, "prototype")))
    shipped = reparameterize(trained)
    rng = np.random.default_rng(1)
    faces = Faces(images(), rng.integers(0, 8, 24), rng.uniform(-1, 1, (24, 2)).astype(np.float32))
    package = Packages(shipped, SIZE, describe(trained.spec), tmp_path).make(PRECISIONS["palette6"])
    loose = limits.model_copy(
        update={"budget_bytes": 10**8, "min_agreement": 0.5, "max_accuracy_drop": 0.5, "max_rmse_rise": 0.5}
    )
    verification = Verifier(shipped, faces, loose, trained=trained).verify(package)
    assert verification.passed, verification.failures()
