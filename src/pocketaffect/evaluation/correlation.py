"""Concordance and Pearson correlation from population moments, 0 where a side is constant.

torchmetrics' classes divide by n - 1, give NaN for a constant prediction (the very model that a search over tiny
networks must not mistake for its best) and, in float32, for a nearly constant one too; two of them cannot be merged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from pocketaffect.errors import PocketAffectError

_ROUNDING = 64 * torch.finfo(torch.float64).eps
"""A standard deviation below this share of the mean is the rounding of a constant."""


def _moments_update(preds: Tensor, target: Tensor) -> Tensor:
    """Moments of a batch [n, d]: rows, both means, both sums of squares, sum of products; float64 [6, d]."""
    if preds.shape != target.shape or preds.ndim != 2 or not len(preds):
        raise PocketAffectError(
            "correlation: shapes differ or are not [n, d] with n > 0",
            found=f"{list(preds.shape)}, {list(target.shape)}",
        )
    pair = torch.stack([preds.double(), target.double()])
    mean = pair.mean(1)
    x, y = pair - mean[:, None]
    rows = torch.full_like(mean[0], len(preds))
    return torch.stack([rows, *mean, (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)])


def _moments_merge(parts: Tensor) -> Tensor:
    """Moments of all rows from those of disjoint parts, [parts, 6, d] -> [6, d] (Chan et al. 1979)."""
    rows = parts[:, 0]
    total = rows.sum(0)
    mean = (rows[:, None] * parts[:, 1:3]).sum(0) / total.clamp(min=1)
    x, y = (parts[:, 1:3] - mean).unbind(1)
    between = torch.stack([rows * x * x, rows * y * y, rows * x * y], dim=1)
    return torch.cat([total[None], mean, (parts[:, 3:] + between).sum(0)])


def _is_constant(rows: Tensor, mean: Tensor, squares: Tensor) -> Tensor:
    return squares <= rows * (_ROUNDING * mean) ** 2


def _concordance_compute(moments: Tensor) -> Tensor:
    """Concordance of moments [6, d], float64 [d]."""
    rows, mean_x, mean_y, xx, yy, xy = moments
    constant = _is_constant(rows, mean_x, xx) | _is_constant(rows, mean_y, yy)
    spread = xx + yy + rows * (mean_x - mean_y) ** 2
    return torch.where(constant, 0.0, 2 * xy / torch.where(constant, 1.0, spread))


def _pearson_compute(moments: Tensor) -> Tensor:
    """Correlation of moments [6, d], float64 [d]."""
    rows, mean_x, mean_y, xx, yy, xy = moments
    constant = _is_constant(rows, mean_x, xx) | _is_constant(rows, mean_y, yy)
    # Two roots: the product of two tiny sums of squares would underflow.
    scale = torch.where(constant, 1.0, xx.sqrt() * yy.sqrt())
    return torch.where(constant, 0.0, xy / scale).clamp(-1, 1)


class _PairMoments(Metric):
    """Moments of (prediction, truth) pairs as one state, so that processes and objects merge exactly."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    moments: Tensor

    def __init__(self, num_outputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        empty = torch.zeros(6, num_outputs, dtype=torch.float64)
        self.add_state("moments", default=empty, dist_reduce_fx=_moments_merge)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds rows."""
        self.moments = _moments_merge(torch.stack([self.moments, _moments_update(preds, target)]))

    def _seen(self) -> Tensor:
        if not self.moments[0].any():
            raise PocketAffectError(f"{type(self).__name__}: no rows")
        return self.moments


class Concordance(_PairMoments):
    r"""Lin's concordance correlation coefficient (CCC) per dimension, from population moments.

    .. math::
        \rho_c = \frac{2 \sigma_{xy}}{\sigma_x^2 + \sigma_y^2 + (\mu_x - \mu_y)^2}

    with variances over n, as the AffectNet literature computes it (torchmetrics divides by n - 1: .79175 against
    .79159 at n = 50). A constant prediction or truth gives 0. (Lin 1989.)

    Args:
        num_outputs: Dimensions d.
        kwargs: Of `torchmetrics.Metric`.

    Shapes: preds and target float [n, d]; state [6, d] and value [d] (a scalar for d = 1) are float64, which
    Apple's MPS device lacks: keep the metric on the CPU there.

    Raises:
        PocketAffectError: Shapes differ, or computed before any row was seen.

    Example:
        >>> import torch
        >>> metric = Concordance(num_outputs=1)
        >>> metric.update(torch.tensor([[2.5], [0.0], [2.0], [8.0]]), torch.tensor([[3.0], [-0.5], [2.0], [7.0]]))
        >>> round(metric.compute().item(), 4)
        0.9768
    """

    def compute(self) -> Tensor:
        """CCC over all rows."""
        return _concordance_compute(self._seen())


class Pearson(_PairMoments):
    r"""Pearson's correlation coefficient (CORR) per dimension; a constant prediction or truth gives 0.

    .. math::
        \rho = \frac{\sigma_{xy}}{\sigma_x \sigma_y}

    Args:
        num_outputs: Dimensions d.
        kwargs: Of `torchmetrics.Metric`.

    Shapes: preds and target float [n, d]; the value is float64 [d] (see `Concordance` about MPS).

    Raises:
        PocketAffectError: Shapes differ, or computed before any row was seen.

    Example:
        >>> import torch
        >>> metric = Pearson(num_outputs=2)
        >>> metric.update(torch.tensor([[1.0, 5.0], [2.0, 5.0]]), torch.tensor([[10.0, 1.0], [20.0, 2.0]]))
        >>> metric.compute().round(decimals=4).tolist()
        [1.0, 0.0]
    """

    def compute(self) -> Tensor:
        """Correlation over all rows."""
        return _pearson_compute(self._seen())
