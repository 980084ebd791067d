"""What a verification found: every check with its value and limit, as an object and as a stable report."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

EXECUTED_BY: Final = "pocketaffect interpreter: graph, weights and preprocessing; not a device's arithmetic or speed"
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Check:
    """One condition on the shipped package; a value of NaN fails it.

    Attributes:
        name: What is compared.
        value: What was measured.
        limit: What it is held against.
        comparison: One of `<`, `<=`, `>=`, `==`.
    """

    name: str
    value: float | str
    limit: float | str
    comparison: str

    @property
    def passed(self) -> bool:
        """Whether `value comparison limit` holds."""
        return bool(_COMPARISONS[self.comparison](self.value, self.limit))


@dataclass(frozen=True)
class Difference:
    """How far two sets of predictions lie apart, over all images and outputs."""

    max_probability: float
    mean_probability: float
    max_valence_arousal: float
    mean_valence_arousal: float
    agreement: float


@dataclass(frozen=True)
class Quality:
    """Metrics on the labelled images."""

    accuracy: float
    balanced_accuracy: float
    valence_rmse: float
    arousal_rmse: float


@dataclass(frozen=True)
class Candidate:
    """A precision that was considered for a budget.

    Attributes:
        precision: Its name.
        verdict: "chosen", or why it was not.
        package_bytes: Size of its package; None if none was made.
        score: What the choice went by (see `choose`); None if the package was not executed.
        quality: Metrics of the package, likewise.
        agreement: Share of the faces that the package gives the network's class, likewise.
    """

    precision: str
    verdict: str
    package_bytes: int | None = None
    score: float | None = None
    quality: Quality | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify`.

    Attributes:
        checks: Every condition, in order.
        images: Number of images compared.
        expression_labels: Number of those with an expression.
        valence_arousal_labels: Number of those with valence and arousal.
        package_bytes: Size of the shipped package.
        float16: The fp16 package against PyTorch.
        decoded: The shipped package against PyTorch with the package's decoded weights.
        shipped: The shipped package against PyTorch.
        pytorch_quality: Metrics of the network, before it was fine-tuned for its package if it was.
        shipped_quality: Metrics of the shipped package.
        precision: The shipped package's; None if it was not asked for.
        candidates: Every precision that was considered; empty if one was given.
    """

    checks: tuple[Check, ...]
    images: int
    expression_labels: int
    valence_arousal_labels: int
    package_bytes: int
    float16: Difference
    decoded: Difference
    shipped: Difference
    pytorch_quality: Quality
    shipped_quality: Quality
    precision: str | None = None
    candidates: tuple[Candidate, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """The failed checks, one per line; empty if there are none."""
        failed = [check for check in self.checks if not check.passed]
        return "\n".join(
            f"{check.name}: {_rounded(check.value)}, must be {check.comparison} {_rounded(check.limit)}"
            for check in failed
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: six significant digits, null for NaN, so that reports are byte-stable."""
        content = asdict(self)
        content["checks"] = [asdict(check) | {"passed": check.passed} for check in self.checks]
        return {"passed": self.passed, "executed_by": EXECUTED_BY, **_rounded(content)}


def _rounded(value: Any) -> Any:
    """Floats to six significant digits, non-finite ones to None, inside of dicts and lists too."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
