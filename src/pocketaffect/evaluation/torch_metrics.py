"""The table of metrics as one torchmetrics metric, for answers that come in batches or from several processes."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from pocketaffect.evaluation.metrics import measure
from pocketaffect.evaluation.tables import Labels, Predictions

_STATES: Final = ("probabilities", "valence_arousal", "expression", "truth")


class FaceMetrics(Metric):
    """Every metric that the labels allow, over all faces of all batches and processes.

    The areas under curves need every face's score, so the state is the faces themselves (10 numbers each); merging and
    gathering are exact. `metrics.measure` has the formulas.

    Args:
        kwargs: Arguments of `torchmetrics.Metric`.

    Shapes: probabilities float [n, 8]; valence_arousal float [n, 2]; expression int64 [n], 0..7 or
        `labels.NO_EXPRESSION`; truth float [n, 2], NaN where there is none. The value is a dictionary of float64
        scalars, without the metrics that no face can tell.

    Raises:
        PocketAffectError: An impossible value, at `compute`.

    Example:
        >>> import torch
        >>> metric = FaceMetrics()
        >>> truth = torch.tensor([[0.1, -0.2], [0.3, 0.0]])
        >>> metric.update(torch.eye(8)[:2], truth, torch.tensor([0, 2]), truth)
        >>> round(metric.compute()["accuracy"].item(), 4)
        0.5
    """

    is_differentiable = False
    full_state_update = False
    probabilities: list[Tensor]
    valence_arousal: list[Tensor]
    expression: list[Tensor]
    truth: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, valence_arousal: Tensor, expression: Tensor, truth: Tensor) -> None:
        """Adds faces."""
        for name, rows in zip(_STATES, (probabilities, valence_arousal, expression, truth), strict=True):
            getattr(self, name).append(rows)

    def compute(self) -> dict[str, Tensor]:
        """Computes metrics of all faces so far."""
        scores, affect, expression, truth = (dim_zero_cat(getattr(self, name)).cpu().numpy() for name in _STATES)
        values = measure(Predictions(scores, affect), Labels(expression, truth))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
