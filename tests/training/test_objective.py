from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn import functional
from training_parts import TRAIN

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch
from pocketaffect.training.objective import Objective

COUNTS = [4, 40, 8, 6, 3, 2, 9, 5]
EXPRESSION = np.repeat(np.arange(8), COUNTS)


def objective(**settings: Any) -> Objective:
    return Objective(TrainParams(**TRAIN | {"class_weights": "none"} | settings), EXPRESSION)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    expression = torch.tensor([0, 3, 7, 1, -1, 2])
    truth = torch.rand(6, 2, generator=generator) * 2 - 1
    truth[1] = torch.nan
    return Batch(torch.empty(0), expression, truth, torch.full((6, 8), torch.nan), torch.arange(6))


@pytest.fixture
def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 8, generator=generator), torch.rand(6, 2, generator=generator)


def test_fixed_weights_are_those_of_the_settings(batch, outputs):
    losses = objective(expression_weight=0.5, va_weight=3.0)(outputs, batch)
    assert float(losses.total) == pytest.approx(0.5 * float(losses.expression) + 3 * float(losses.valence_arousal))


def test_learned_weights_are_the_likelihoods_of_a_softmax_and_a_gaussian(batch, outputs):
    learned = objective(task_weights="learned", expression_weight=2.0, va_weight=5.0)
    assert learned.task_weights() == pytest.approx({"expression_weight": 2, "va_weight": 5})
    with torch.no_grad():
        learned.log_variances.copy_(torch.tensor([0.3, -0.8]))
    losses = learned(outputs, batch)
    known = ~batch.valence_arousal.isnan().any(dim=1)
    variance = torch.full((int(known.sum()), 2), float(torch.exp(torch.tensor(-0.8))))
    gaussian = functional.gaussian_nll_loss(outputs[1][known], batch.valence_arousal[known], variance)
    expected = torch.exp(torch.tensor(-0.3)) * losses.expression + 0.15 + 2 * gaussian  # of two dimensions
    assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    losses.total.backward()
    assert bool(learned.log_variances.grad.ne(0).all())


def test_a_task_without_a_label_in_the_batch_leaves_its_learned_weight_alone(batch, outputs):
    learned = objective(task_weights="learned")
    blank = Batch(batch.images, batch.expression, torch.full((6, 2), torch.nan), batch.soft, batch.rows)
    learned(outputs, blank).total.backward()
    assert learned.log_variances.grad[0] != 0
    assert learned.log_variances.grad[1] == 0


def test_logit_adjustment_adds_the_log_shares_in_training_alone(batch, outputs):
    adjusted = objective(logit_adjustment=0.7)
    rows = batch.expression >= 0
    log_shares = 0.7 * np.log(np.array(COUNTS) / sum(COUNTS))
    labels = batch.expression[rows].numpy()

    def reference(shift: Any) -> float:
        chosen = log_softmax(outputs[0][rows].double().numpy() + shift, axis=1)[np.arange(len(labels)), labels]
        return float(-chosen.mean())

    assert float(adjusted(outputs, batch).expression) == pytest.approx(reference(log_shares), rel=1e-6)
    assert float(adjusted.eval()(outputs, batch).expression) == pytest.approx(reference(0.0), rel=1e-6)


def test_validation_is_judged_by_class_without_smoothing_soft_labels_or_teacher(batch, outputs):
    soft = Batch(batch.images, batch.expression, batch.valence_arousal, torch.full((6, 8), 0.125), batch.rows)
    strange = objective(label_smoothing=0.3, distill={"weight": 0.9}).eval()
    plain = objective()(outputs, batch)
    for given, wanted in zip(strange(outputs, soft, (outputs[0] + 1, outputs[1])), plain, strict=True):
        assert float(given) == pytest.approx(float(wanted))


def test_the_teacher_has_its_share_of_each_task(batch, outputs):
    teacher = torch.randn(6, 8), torch.rand(6, 2)
    without, all_of_it = (
        objective(distill={"weight": weight, "temperature": 3.0})(outputs, batch, teacher) for weight in (0.0, 1.0)
    )
    half = objective(distill={"weight": 0.25, "temperature": 3.0})(outputs, batch, teacher)
    for part in ("expression", "valence_arousal"):
        expected = 0.75 * getattr(without, part) + 0.25 * getattr(all_of_it, part)
        assert float(getattr(half, part)) == pytest.approx(float(expected))
    for part, wanted in zip(("expression", "valence_arousal"), objective()(outputs, batch)[1:], strict=True):
        assert float(getattr(without, part)) == pytest.approx(float(wanted))
