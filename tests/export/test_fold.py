"""Folding BatchNorm leaves the function as it was and touches only pairs that are really executed as such."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.layers import fold_batchnorm


def with_statistics(network):
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.2, 3, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return network.eval()


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


class DefinedBackwards(nn.Module):
    """Layers defined in another order than they run."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, bias=False)
        self.first = nn.Conv2d(3, 4, 3, bias=False)
        self.second_norm = nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        return self.second_norm(self.second(functional.relu(self.norm(self.first(x)))))


class NormFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.layers(x)


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class SharedNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.left(x)) + self.norm(self.right(x))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5, bias=False),
            nn.BatchNorm1d(5),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize(
    ("kind", "left"),
    [(DefinedBackwards, 0), (Dense, 0), (NormFirst, 2), (TwoReaders, 1), (SharedNorm, 1)],
)
def test_the_folded_network_computes_the_same_and_keeps_what_cannot_fold(kind, left):
    network = with_statistics(kind())
    folded = fold_batchnorm(network)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # float64 shows that the difference is rounding alone.
        torch.testing.assert_close(folded(x), network(x), rtol=1e-5, atol=1e-5)
        exact = copy.deepcopy(network).double()(x.double())
        torch.testing.assert_close(folded(x).double(), exact, rtol=1e-5, atol=2e-6)
    assert len(norms(folded)) == left


def test_the_small_network_folds_whole_and_the_original_is_untouched(make_network, network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batchnorm(copy.deepcopy(network).train())
    assert not norms(folded)
    assert not folded.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        for ours, theirs in zip(folded(x), network(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_network_that_branches_on_a_tensor_is_refused_by_name():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(PocketAffectError, match="Branching"):
        fold_batchnorm(Branching())
