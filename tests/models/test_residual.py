from __future__ import annotations

import pytest
import torch
from timm.models.resnet import BasicBlock as TimmsBlock

from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs
from pocketaffect.models.residual import STAGES, BasicBlock, build_resnet10


@pytest.mark.parametrize(("previous", "channels", "stride"), [(8, 8, 1), (8, 16, 2)])
def test_a_block_computes_what_timms_does(previous, channels, stride):
    torch.manual_seed(1)
    ours = BasicBlock(previous, channels, stride).double()
    projected = None
    if stride != 1:
        projected = torch.nn.Sequential(
            torch.nn.Conv2d(previous, channels, 1, stride=stride, bias=False), torch.nn.BatchNorm2d(channels)
        )
    theirs = TimmsBlock(previous, channels, stride=stride, downsample=projected).double()
    # Both hold the same tensors in the same order of execution; only their names differ.
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(3, previous, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("size", [32, 48, 64])
def test_each_size_has_the_same_layers_and_a_sixteenth_of_the_side(size):
    backbone = build_resnet10(0.5, size).eval()
    seen = []
    backbone.pool.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0].shape[2:]))
    assert backbone(torch.zeros(2, 3, size, size)).shape == (2, backbone.feature_dimension)
    assert seen == [(size // 16, size // 16)]


def test_macs_are_those_counted_by_hand():
    first, *_ = STAGES
    macs, side, previous = 24 * 24 * 27 * first, 24, first  # the stem halves 48
    for number, channels in enumerate(STAGES):
        side //= 2 if number else 1
        shortcut = previous * channels if number else 0
        macs += side * side * (9 * previous * channels + 9 * channels * channels + shortcut)
        previous = channels
    network = AffectNetwork(NetworkSpec("resnet10", 1.0, 48, "plain"))
    assert count_macs(network, 48) == macs + previous * 10


def test_every_normalisation_is_folded_away_for_export():
    network = AffectNetwork(NetworkSpec("resnet10", 0.4, 48, "prototype")).eval()
    folded = fold_batchnorm(network)
    assert not [layer for layer in folded.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    images = torch.rand(2, 3, 48, 48)
    for ours, theirs in zip(folded(images), network(images), strict=True):
        torch.testing.assert_close(ours, theirs)
