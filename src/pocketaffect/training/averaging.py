"""An exponential moving average of a network's weights, which is what is validated and kept."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(nn.Module):
    """A copy of a network that follows it: call `follow(network)` after each step.

    Weights and the statistics of normalisation are averaged alike. The decay begins low, (1 + n) / (10 + n) after n
    steps, and rises to its limit: otherwise a short training would keep much of its first weights. torch's
    AveragedModel does the same, and asks the device at each step how many there were.

    Attributes:
        module: The copy.
        steps: Steps that were followed; `n_averaged` is the same for a checkpoint.

    Args:
        network: What is followed.
        decay: The limit.
    """

    n_averaged: torch.Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0))
        self.decay = decay
        self.steps = 0

    def follow(self, network: nn.Module) -> None:
        """Takes the network's weights into the average."""
        pairs = list(zip(_list_tensors(self.module), _list_tensors(network), strict=True))
        # The first step is taken as it is, and so are counters, which a rounded average would hold back.
        averaged = [pair for pair in pairs if self.steps and pair[0].is_floating_point()]
        for mine, theirs in pairs:
            if not self.steps or not mine.is_floating_point():
                mine.copy_(theirs)
        if averaged:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            update(*zip(*averaged, strict=True), self.steps)
        self.steps += 1
        self.n_averaged += 1


def _list_tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in chain(network.parameters(), network.buffers())]
