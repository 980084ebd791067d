from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from network_parts import PHONE, build, faces, predict, settle, without_heavy
from pocketaffect.designs import CATALOGUE, find_design
from pocketaffect.export.layers import fold_batchnorm, reparameterize
from pocketaffect.export.size import count_shipped_parameters
from pocketaffect.models.network import count_macs, count_parameters, save_network


def largest_difference(one: nn.Module, other: nn.Module, size: int) -> float:
    """In float64, so that only the weights' rounding is left: float32's own sums differ from processor to processor."""
    answers = (predict(copy.deepcopy(network).double(), faces(8, size).double()) for network in (one, other))
    return max(float((left - right).abs().max()) for left, right in zip(*answers, strict=True))


@pytest.mark.parametrize("name", without_heavy(list(CATALOGUE)))
def test_the_exported_form_computes_the_same_and_folds_whole(name):
    network = settle(build(name))
    logits = predict(network, faces(8, 48))[0]
    assert float(logits.std(dim=0).max()) > 1e-3  # the images are told apart, so a wrong merge would show
    shipped = reparameterize(network)
    assert largest_difference(network, shipped, 48) < 1e-4
    folded = fold_batchnorm(shipped)
    assert largest_difference(network, folded, 48) < 1e-4
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert count_shipped_parameters(shipped) == count_parameters(folded)
    assert (count_macs(shipped, 48) < count_macs(network, 48)) == find_design(name).reparameterised


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PHONE if find_design(name).reparameterised])
def test_a_full_resolution_stem_is_merged_like_any_other(name):
    network = settle(build(name, full_resolution_stem=True))
    assert largest_difference(network, reparameterize(network), 48) < 1e-4


def test_a_merge_that_forgets_a_branch_would_be_seen():
    network = settle(build("mobileone_s0"))
    shipped = reparameterize(network)
    with torch.no_grad():
        network.backbone.model.stages[0][0].conv_scale.conv.weight.zero_()
    assert largest_difference(network, shipped, 48) > 1e-3


@pytest.mark.parametrize("name", ["vgg", "mobilenetv3_small", "repvit_m0_9"])
def test_the_trained_network_stays_as_it_was(name):
    network = settle(build(name)).train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    shipped = reparameterize(network)
    assert network.training
    assert not network.reparameterized
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in network.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert not any(layer.training for layer in shipped.modules())
    assert not any(weight.requires_grad or weight.dtype != torch.float32 for weight in shipped.parameters())


def test_the_exported_form_of_the_exported_form_is_the_same():
    shipped = reparameterize(settle(build("repvit_m0_9")))
    again = reparameterize(shipped)
    assert shipped.state_dict().keys() == again.state_dict().keys()
    assert largest_difference(shipped, again, 48) == 0


def test_the_exported_form_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="for export alone"):
        save_network(reparameterize(build("repvit_m0_9")), tmp_path)
    assert not list(tmp_path.iterdir())
