"""The optimiser of a recipe and its learning rate, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from pocketaffect.config import TrainParams


def build_optimizer(
    parameters: Iterable[nn.Parameter], params: TrainParams, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Builds Adam or AdamW; a linear warm-up, then a cosine decay to zero or nothing.

    Args:
        parameters: The parameters to be learnt.
        params: The recipe.
        steps: Steps of the whole training.
    """
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
