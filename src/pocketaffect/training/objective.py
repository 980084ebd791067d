"""What a training lowers: the losses of both tasks, and how they are put together."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch
from pocketaffect.labels import NO_EXPRESSION
from pocketaffect.training import losses

Outputs = tuple[torch.Tensor, torch.Tensor]
"""Logits float [n, 8] and valence-arousal float [n, 2]."""

WEIGHERS = {"none": lambda _: None, "balanced": losses.balance_classes, "effective": losses.weigh_by_effective_number}
"""`train.class_weights` to a function from int64 [images] of expressions to the weights of the classes."""


class Losses(NamedTuple):
    """What a step lowers, and the two losses that it is made of; scalars."""

    total: torch.Tensor
    expression: torch.Tensor
    valence_arousal: torch.Tensor


class Objective(nn.Module):
    """The loss of a recipe.

    In evaluation mode it is the plain loss by class and VA, with the class and task weights alone: without soft labels,
    smoothing, logit adjustment and teacher, so that epochs and recipes can be compared.

    Learned task weights are those of Kendall, Gal & Cipolla 2018 (arXiv 1705.07115): each task has a variance, a
    softmax's temperature for the expression and a Gaussian's for both dimensions of VA, and the total is the negative
    log-likelihood but for constants, L_e exp(-s_e) + s_e / 2 + L_va exp(-s_va) + s_va. They begin at
    `expression_weight` and `va_weight`.

    `expression`, int64 [images] of the training split, gives the weights and the shares of the classes;
    `log_variances`, float [2] of expression and VA, are None with fixed task weights.
    """

    class_weights: torch.Tensor | None
    log_shares: torch.Tensor | None

    def __init__(self, params: TrainParams, expression: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.params = params
        weights = WEIGHERS[params.class_weights](expression)
        shares = None
        if params.logit_adjustment:
            shares = params.logit_adjustment * np.log(losses.expression_shares(expression))
        for name, values in (("class_weights", weights), ("log_shares", shares)):
            tensor = None if values is None else torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.log_variances: nn.Parameter | None = None
        if params.task_weights == "learned":
            first = [-math.log(weight) for weight in (params.expression_weight, params.va_weight)]
            self.log_variances = nn.Parameter(torch.tensor(first))

    def forward(self, outputs: Outputs, batch: Batch, teacher: Outputs | None = None) -> Losses:
        """Computes the losses of a batch."""
        params = self.params
        logits, prediction = outputs
        soft, smoothing = None, 0.0
        if self.training:
            soft, smoothing = batch.soft, params.label_smoothing
            if self.log_shares is not None:
                logits = logits + self.log_shares
        by_expression = losses.expression_loss(logits, batch.expression, self.class_weights, soft, smoothing=smoothing)
        by_va = losses.valence_arousal_loss(prediction, batch.valence_arousal, params.va_loss, batch.rated)
        if self.training and teacher is not None:
            guided = losses.follow_teacher(outputs, teacher, temperature=params.distill.temperature)
            share = params.distill.weight
            by_expression = (1 - share) * by_expression + share * guided[0]
            by_va = (1 - share) * by_va + share * guided[1]
        return Losses(self._weigh(by_expression, by_va, batch), by_expression, by_va)

    def _weigh(self, by_expression: torch.Tensor, by_va: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.log_variances is None:
            return self.params.expression_weight * by_expression + self.params.va_weight * by_va
        # A task without a label in the batch says nothing about its variance.
        has_class = (batch.expression != NO_EXPRESSION).any()
        if batch.soft is not None:
            has_class = has_class | ~batch.soft.isnan().all()
        has_va = ~batch.valence_arousal.isnan().all()
        known = torch.stack((has_class, has_va))
        half = self.log_variances.new_tensor((0.5, 1.0))
        precise = torch.exp(-self.log_variances) * torch.stack((by_expression, by_va))
        return (precise + known * half * self.log_variances).sum()

    def task_weights(self) -> dict[str, float]:
        """Gives the learned weights by name, for the history; empty with fixed ones."""
        if self.log_variances is None:
            return {}
        expression, va = torch.exp(-self.log_variances.detach()).tolist()
        return {"expression_weight": expression, "va_weight": va}
