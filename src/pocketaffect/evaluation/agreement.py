"""Agreement metrics that torchmetrics lacks: Krippendorff's alpha and the sign agreement of affect."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from pocketaffect.errors import PocketAffectError


def _krippendorff_alpha_update(preds: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Counts of (truth, prediction) pairs, int64 [num_classes, num_classes]."""
    for name, part in (("preds", preds), ("target", target)):
        # torchmetrics counts a class too high as a pair of other classes.
        if len(part) and not 0 <= part.min() <= part.max() < num_classes:
            raise PocketAffectError(
                f"Krippendorff's alpha: {name} hold a class that does not exist",
                found=f"{part.min()}..{part.max()}",
                allowed=f"0..{num_classes - 1}",
            )
    return multiclass_confusion_matrix(preds, target, num_classes)


def _krippendorff_alpha_compute(confusion: Tensor) -> Tensor:
    """Alpha of a confusion matrix, float64 scalar."""
    coincidences = (confusion + confusion.T).double()
    values_of_class = coincidences.sum(0)
    values = values_of_class.sum()
    observed = values - coincidences.trace()
    expected = (values**2 - (values_of_class**2).sum()) / (values - 1)
    # A single class overall leaves nothing to disagree about: 0, not the 1 that a perfect rater earns.
    return torch.where(expected > 0, 1 - observed / expected.clamp(min=torch.finfo().tiny), 0.0)


class KrippendorffAlpha(Metric):
    r"""Krippendorff's alpha for nominal data and two raters, the truth and the prediction.

    .. math::
        \alpha = 1 - \frac{D_o}{D_e} = 1 - (m - 1) \frac{m - \sum_c o_{cc}}{m^2 - \sum_c m_c^2}

    where :math:`o` is the symmetric matrix of coincidences (confusion matrix plus its transpose), :math:`m_c`
    its row sums and :math:`m` twice the number of rows. 1 is perfect, 0 is chance, negative is worse.
    Truth and predictions of one single class give 0, where the formula is 0/0. (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability".)

    Args:
        num_classes: Classes that truth and prediction choose from.
        kwargs: Of `torchmetrics.Metric`.

    Shapes: preds and target int64 [n]; the value is a float64 scalar.

    Raises:
        PocketAffectError: A class lies outside 0..num_classes-1, or computed before any row was seen.

    Example:
        >>> import torch
        >>> metric = KrippendorffAlpha(num_classes=3)
        >>> metric.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
        >>> round(metric.compute().item(), 4)
        0.6667
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    confusion: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.long)
        self.add_state("confusion", default=empty, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds rows."""
        self.confusion += _krippendorff_alpha_update(preds, target, self.num_classes)

    def compute(self) -> Tensor:
        """Alpha over all rows."""
        if not self.confusion.any():
            raise PocketAffectError("Krippendorff's alpha: no rows")
        return _krippendorff_alpha_compute(self.confusion)


def _sign_agreement_update(preds: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """Rows whose signs agree, int64 [d], and rows."""
    if preds.shape != target.shape or preds.ndim != 2:
        raise PocketAffectError(
            "sign agreement: shapes differ or are not [n, d]", found=f"{list(preds.shape)}, {list(target.shape)}"
        )
    return (preds.sign() == target.sign()).sum(0), len(preds)


def _sign_agreement_compute(agreeing: Tensor, total: Tensor) -> Tensor:
    """Share of rows whose signs agree, float64 [d]."""
    return agreeing.double() / total


class SignAgreement(Metric):
    r"""Sign agreement (SAGR) of a prediction with the truth, per dimension.

    .. math::
        \mathrm{SAGR} = \frac{1}{n} \sum_i [\operatorname{sign}(\hat y_i) = \operatorname{sign}(y_i)]

    Zero is a sign of its own: a truth of exactly 0 agrees with a prediction of exactly 0 and with no other.
    AffectNet holds such truths and a network hardly ever outputs 0, so that even a perfect ranking of faces stays
    a little below 1. A constant prediction scores the share of its own sign. (Nicolaou et al. 2011, "Continuous
    prediction of spontaneous affect".)

    Args:
        num_outputs: Dimensions d.
        kwargs: Of `torchmetrics.Metric`.

    Shapes: preds and target float [n, d]; the value is float64 [d], a scalar for d = 1.

    Raises:
        PocketAffectError: Shapes differ, or computed before any row was seen.

    Example:
        >>> import torch
        >>> metric = SignAgreement(num_outputs=2)
        >>> metric.update(torch.tensor([[0.1, -0.2], [0.3, 0.0]]), torch.tensor([[0.9, 0.5], [0.2, 0.0]]))
        >>> metric.compute().tolist()
        [1.0, 0.5]
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    agreeing: Tensor
    total: Tensor

    def __init__(self, num_outputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("agreeing", default=torch.zeros(num_outputs, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds rows."""
        agreeing, total = _sign_agreement_update(preds, target)
        self.agreeing += agreeing
        self.total += total

    def compute(self) -> Tensor:
        """SAGR over all rows."""
        if self.total == 0:
            raise PocketAffectError("sign agreement: no rows")
        return _sign_agreement_compute(self.agreeing, self.total)
