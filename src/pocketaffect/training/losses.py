"""Losses that skip rows without a label, and the weights of rare classes."""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, NO_EXPRESSION

NO_SPREAD: Final = 1e-8
"""Keeps a batch of equal rows from a division by zero."""

EFFECTIVE_NUMBER_BASE: Final = 0.999
"""Suits classes of a hundred to ten thousand images."""


def expression_loss(
    logits: torch.Tensor,
    expression: torch.Tensor,
    weight: torch.Tensor | None,
    soft: torch.Tensor | None = None,
    *,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Class-weighted cross-entropy over the rows that have a class or a soft label; 0 when none has.

    With soft labels a row's target is a distribution, and its weight the classes' weights averaged under it: a
    one-hot soft label counts exactly as the class alone does, and no row's target leans towards a rare class.

    Args:
        logits: float [n, 8].
        expression: int64 [n], 0..7 or NO_EXPRESSION.
        weight: float [8], or None for equal weights.
        soft: float [n, 8], rows of NaN where there is none; it stands before the class, and for a row without one.
        smoothing: Share of each target that all classes get alike (Szegedy et al. 2016, arXiv 1512.00567).
    """
    has_class = expression != NO_EXPRESSION
    if soft is None and not smoothing:
        # The mean over no row is NaN. Without any class all rows stand in, times 0: asking whether there is one would
        # wait for a GPU.
        any_class = has_class.any()
        target = torch.where(any_class, expression, 0)
        return functional.cross_entropy(logits, target, weight, ignore_index=NO_EXPRESSION) * any_class
    shares = functional.one_hot(expression.clamp(min=0), logits.shape[1]) * has_class[:, None].to(logits.dtype)
    if soft is not None:
        has_soft = ~soft.isnan().any(dim=1)
        shares = torch.where(has_soft[:, None], soft, shares)
        has_class = has_class | has_soft
    row_weight = 1.0 if weight is None else (shares * weight).sum(dim=1, keepdim=True)
    if smoothing:
        labelled = has_class[:, None].to(logits.dtype)
        shares = (1 - smoothing) * shares + smoothing / logits.shape[1] * labelled
    weighted = shares * row_weight
    total = weighted.sum().clamp(min=torch.finfo(weighted.dtype).tiny)
    return -(weighted * functional.log_softmax(logits, dim=1)).sum() / total


def valence_arousal_loss(
    prediction: torch.Tensor,
    truth: torch.Tensor,
    kind: Literal["mse", "ccc", "mix"] = "mse",
    rated: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error, `concordance_loss`, or half of each ("mix"), over the rows that have VA; 0 when none has.

    Predictions and truths are float [n, 2], NaN for no label; `rated`, int64 [m], are the rows that have VA, by default
    looked for, which waits for a GPU.
    """
    if rated is None:
        rated = (~truth.isnan().any(dim=1)).nonzero()[:, 0]
    if not len(rated):
        return prediction.sum() * 0
    prediction, truth = prediction[rated], truth[rated]
    if kind == "mse":
        return functional.mse_loss(prediction, truth)
    discord = concordance_loss(prediction, truth)
    return discord if kind == "ccc" else (functional.mse_loss(prediction, truth) + discord) / 2


def concordance_loss(prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - CCC of the batch, [n, 2], averaged over both dimensions (Lin 1989); 1 where all its rows are alike.

    Small batches say little of a concordance: a batch is best some hundred rows.
    """
    means = prediction.mean(dim=0), truth.mean(dim=0)
    centred = prediction - means[0], truth - means[1]
    covariance = (centred[0] * centred[1]).mean(dim=0)
    spread = centred[0].square().mean(dim=0) + centred[1].square().mean(dim=0) + (means[0] - means[1]).square()
    return (1 - 2 * covariance / (spread + NO_SPREAD)).mean()


def follow_teacher(
    student: tuple[torch.Tensor, torch.Tensor], teacher: tuple[torch.Tensor, torch.Tensor], *, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far a student's logits [n, 8] and VA [n, 2] are from its teacher's (Hinton et al. 2015, arXiv 1503.02531).

    All rows count, labelled or not; the temperature divides the logits of both.

    Returns:
        Kullback-Leibler divergence of the expressions, times the temperature squared, so that its gradient does not
        shrink; mean squared error of valence and arousal.
    """
    said, heard = ((logits / temperature).log_softmax(dim=1) for logits in (teacher[0], student[0]))
    divergence = functional.kl_div(heard, said, log_target=True, reduction="batchmean") * temperature**2
    return divergence, functional.mse_loss(student[1], teacher[1])


def balance_classes(expression: npt.NDArray[np.int64]) -> list[float]:
    """Weights n / (classes * n_class), the paper's: every class counts alike in the loss. 1 without an image."""
    counts = count_classes(expression)
    weights = counts.sum() / (max((counts > 0).sum(), 1) * np.maximum(counts, 1))
    return [float(weight) for weight in np.where(counts > 0, weights, 1.0)]


def weigh_by_effective_number(expression: npt.NDArray[np.int64]) -> list[float]:
    """Computes weights 1 / effective number of images, (1 - b^n_class) / (1 - b), scaled to a mean of 1 over them.

    Softer than balance: a hundredth image of a class adds almost a whole one, a three-thousandth a twentieth
    (Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples"). A class without an image has 1.
    """
    counts = count_classes(expression)
    weights = (1 - EFFECTIVE_NUMBER_BASE) / (1 - EFFECTIVE_NUMBER_BASE ** np.maximum(counts, 1))
    scaled = weights * counts.sum() / max((weights * counts).sum(), NO_SPREAD)
    return [float(weight) for weight in np.where(counts > 0, scaled, 1.0)]


def expression_shares(expression: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """float64 [8], how often each class occurs, 0 to 1; 1 without an image, where there is nothing to undo.

    To undo the rarity of a class that never occurs would have the network say it in place of the others.
    """
    counts = count_classes(expression)
    return np.asarray(np.where(counts > 0, counts / max(counts.sum(), 1), 1.0))


def count_classes(expression: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [8], images of each class."""
    return np.bincount(expression[expression != NO_EXPRESSION], minlength=len(EXPRESSIONS))


def average_prototypes(
    expression: npt.NDArray[np.int64], valence_arousal: npt.NDArray[np.float32]
) -> list[tuple[float, float]]:
    """Mean (valence, arousal) of each expression, int64 [n]; AffectNet's own where the data has none."""
    labelled = ~np.isnan(valence_arousal).any(axis=1)
    prototypes = []
    for code, fallback in enumerate(CLASS_MEAN_VA):
        rows = valence_arousal[labelled & (expression == code)].astype(np.float64)
        prototypes.append((float(rows[:, 0].mean()), float(rows[:, 1].mean())) if len(rows) else fallback)
    return prototypes
