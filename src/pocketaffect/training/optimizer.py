"""The optimiser of a recipe, its learning rate step by step, and the moving average of what it makes."""

import copy
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pocketaffect.config import TrainParams


def build_optimizer(
    parameters: Iterable[nn.Parameter], params: TrainParams, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Builds Adam or AdamW; over all steps a linear warm-up, then a cosine decay to zero or nothing."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimizer]
    weights = list(parameters)
    # Normalisation, biases and task weights are not decayed: pulling them to zero only fights the data.
    decayed = [weight for weight in weights if weight.ndim > 1]
    kept = [weight for weight in weights if weight.ndim <= 1]
    optimizer = kind(
        [{"params": decayed, "weight_decay": params.weight_decay}, {"params": kept, "weight_decay": 0.0}],
        lr=params.learning_rate,
        # The unfused step takes square roots from MKL, which rounds them differently on processors of another
        # maker; with this one an emulated AMD EPYC gave the bytes of the Intel Xeon it was compared with.
        fused=True,
    )
    warmup = max(1, round(steps * params.warmup_epochs / params.epochs))

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if params.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, scale)


class MovingAverage(nn.Module):
    """A copy of a network that follows it: call `follow(network)` after each step.

    Weights and the statistics of normalisation are averaged alike. The decay begins low, (1 + n) / (10 + n) after n
    steps, and rises to its limit: otherwise a short training would keep much of its first weights. torch's
    AveragedModel does the same, and asks the device at each step how many there were.

    `module` is the copy; `steps` counts those that were followed, and `n_averaged` is the same for a checkpoint.
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
