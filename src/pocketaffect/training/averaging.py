"""An exponential moving average of a network's weights, which is what is validated and kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def average_weights(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network` that follows it: call `update_parameters(network)` after each step.

    Weights and the statistics of normalisation are averaged alike. The decay begins low, (1 + n) / (10 + n) after n
    steps, and rises to `decay`: otherwise a short training would keep much of its first weights.
    """

    def follow(averaged: Tensors, current: Tensors, steps: torch.Tensor | int) -> None:
        done = int(steps)
        update: Any = get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))  # type: ignore[no-untyped-call]
        update(averaged, current, steps)

    average = AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
    return average.requires_grad_(False)
