"""What `accuracy.py` compares: the paper's recipe at full width, and ours at four budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

PAPER_PRECISION: Final = "fp32"
"""The paper's files hold 32-bit weights: 15 MB for 3.75 million parameters."""
PAPER_BATCH: Final = 64
"""The paper's 250 to 400 gave AffectNet's 287,651 images 17,000 steps and more; of 14,000 images they would make 840,
after which its MobileNet variant had learnt next to nothing. Smaller batches are the fairer reference."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What the line is called, and the folder that keeps its results.
        recipe: "baseline" (no network), "paper" (two networks, one a task) or "ours" (one network).
        architecture: As `model.architecture`.
        width: As `model.width`.
        budget_bytes: What the whole package may take; None: it is not held to one.
        train: What differs from `OUR_TRAIN`: settings of `train`.
    """

    name: str
    recipe: Literal["baseline", "paper", "ours"]
    architecture: str = ""
    width: float = 1.0
    budget_bytes: int | None = None
    train: Mapping[str, Any] = field(default_factory=dict)


OUR_MODEL: Final[dict[str, Any]] = {"head": "prototype", "dropout": 0.1, "full_resolution_stem": False}
OUR_TRAIN: Final[dict[str, Any]] = {
    "epochs": 24,
    "class_weights": "effective",
    "ema_decay": 0.995,
    "va_loss": "mix",
    "va_weight": 2.0,
}
"""What differs from params.yaml, whose recipe is tuned to the drawn sample."""

ROWS: Final = (
    Row("HOG + logistic regression, ridge", "baseline"),
    Row("paper, AlexNet variant", "paper", "alexnet"),
    Row("paper, VGG variant", "paper", "vgg"),
    Row("paper, MobileNet variant", "paper", "mobilenet"),
    Row("ours, 5 MB", "ours", "vgg", 1.0, 5_000_000),
    Row("ours, 1 MB", "ours", "vgg", 0.72, 1_000_000),
    Row("ours, 500 KB", "ours", "vgg", 0.5, 500_000),
    Row("ours, 250 KB", "ours", "vgg", 0.35, 250_000),
)
