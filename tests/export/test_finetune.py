"""Fine-tuning for the stored form: better than rounding afterwards, repeatable, and it verifies."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import Packages
from pocketaffect.export.finetune import finetune_palette
from pocketaffect.export.measure import Faces, predict_network, predict_program, score
from pocketaffect.export.verify import Verifier
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.mlpackage.program import load_program
from pocketaffect.precisions import PRECISIONS

SIZE = 32


@pytest.fixture(scope="module")
def batches(draw):
    """Endless batches of 32 of the faces that the network was fitted to."""
    drawn = draw(1024, seed=0)
    images = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(drawn.expression), torch.from_numpy(drawn.valence_arousal)

    def start():
        generator = torch.Generator().manual_seed(5)
        while True:
            rows = torch.randint(0, len(images), (32,), generator=generator)
            yield images[rows], *(label[rows] for label in labels)

    return start


def loss(network, batch):
    images, expression, affect = batch
    logits, va = network(images)
    return functional.cross_entropy(logits, expression) + 4 * functional.mse_loss(va, affect)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_only_palettes_are_fine_tuned_as_palettes(network, batches, precision):
    with pytest.raises(PocketAffectError, match="a palette"):
        finetune_palette(network, batches(), loss, precision=precision, steps=1)


def test_too_few_batches_and_a_broken_loss_are_refused(network, batches):
    with pytest.raises(PocketAffectError, match="too few batches") as raised:
        finetune_palette(network, itertools.islice(batches(), 1), loss, precision="palette2", steps=2)
    assert "2 (its steps)" in str(raised.value)
    with pytest.raises(PocketAffectError, match="loss is nan at step 1"):
        finetune_palette(network, batches(), lambda *both: loss(*both) * torch.nan, precision="palette2", steps=1)


@pytest.fixture(scope="module")
def faces(draw):
    drawn = draw(512, seed=9)
    return Faces(drawn.images, drawn.expression, drawn.valence_arousal)


def answers(network, precision, description, folder, faces):
    path = Packages(network, SIZE, description, folder).make(PRECISIONS[precision]).path
    return score(predict_program(load_program(path), faces.images), faces)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["palette4", "palette4-grouped"])
def test_palettes_that_were_trained_are_better_than_palettes_fitted_afterwards(
    network, batches, description, tmp_path, faces, monkeypatch, form
):
    # Four bits hold this network without loss; one bit shows what training is for.
    monkeypatch.setitem(PRECISIONS, "one-bit", replace(PRECISIONS[form], name="one-bit", bits=1))
    afterwards = answers(network, "one-bit", description, tmp_path / "afterwards", faces)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tuned = finetune_palette(network, batches(), loss, precision="one-bit", steps=40, learning_rate=1e-3)
    trained = answers(tuned, "one-bit", description, tmp_path / "trained", faces)
    assert trained.accuracy > afterwards.accuracy + (0.2 if form == "palette4" else 0.02)
    assert trained.valence_rmse < afterwards.valence_rmse
    assert trained.arousal_rmse < afterwards.arousal_rmse
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in tuned.modules())
    assert type(tuned) is type(network)
    groups = {"palette4": (1, 1), "palette4-grouped": (9, 3)}[form]  # of 144 and of 24 channels
    values = [len(weight.unique()) for weight in tuned.state_dict().values() if weight.numel() > 2048]
    assert values == [2 * groups[0], 2 * groups[1]]


@pytest.mark.slow
def test_a_trained_palette_verifies_against_its_network_and_repeats(
    network, batches, description, tmp_path, faces, limits
):
    digests = set()
    for number in range(2):
        tuned = finetune_palette(network, batches(), loss, precision="palette4", steps=12)
        package = Packages(tuned, SIZE, description, tmp_path / f"{number}").make(PRECISIONS["palette4"])
        digests.add(package_digest(package.path))
    assert len(digests) == 1
    verification = Verifier(tuned, faces, limits, trained=network, tuned=True).verify(package)
    assert verification.passed, verification.failures()
    assert verification.shipped.agreement > 0.99
    assert verification.pytorch_quality == score(predict_network(network, faces.images), faces)
