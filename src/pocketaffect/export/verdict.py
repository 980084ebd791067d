"""What a verification found: every check with its value and limit, as an object and as a stable report."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pocketaffect.export.calibrate import MeasuredConfidence
from pocketaffect.export.measure import Difference, Quality
from pocketaffect.files import to_plain
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

EXECUTED_BY: Final = "pocketaffect interpreter: graph, weights and preprocessing; not a device's arithmetic or speed"
_VA_RANGE: Final = 2.0
"""Affect spans [-1, 1], twice the range of a probability, and is held to the same share of its range."""
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Check:
    """One condition on the shipped package; a value of NaN fails it. `comparison` is one of `<`, `<=`, `>=`, `==`."""

    name: str
    value: float | str
    limit: float | str
    comparison: str

    @property
    def passed(self) -> bool:
        """Tells whether `value comparison limit` holds."""
        return bool(_COMPARISONS[self.comparison](self.value, self.limit))


@dataclass(frozen=True)
class Form:
    """Another file with the package's weights ("classifier", "twin" or "core_ml"), verified against it.

    The digest is that of the bytes that the verdict is about; for a package its `package_digest`.
    """

    name: str
    bytes: int
    sha256: str
    difference: Difference
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Candidate:
    """A precision that was considered for a budget: "chosen", or why it was not.

    Bytes are None if no package was made; the score that the choice went by (see `choose`), metrics and agreement with
    the network's classes, if it was not executed.
    """

    precision: str
    verdict: str
    package_bytes: int | None = None
    score: float | None = None
    quality: Quality | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify.Verifier.verify`, and of the forms beside the package: every condition, in order.

    Attributes:
        float16: The fp16 package against PyTorch.
        decoded: The shipped package against PyTorch with the package's decoded weights.
        shipped: The shipped package against PyTorch.
        pytorch_quality: Metrics of the network, before it was fine-tuned for its package if it was.
        precision: The shipped package's; None if it was not asked for.
        rule: By which rule and faces the precision was chosen; empty if one was given.
        candidates: Every precision that was considered; empty if one was given.
        confidence: Calibration of the shipped package; None where no face has an expression.
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
    rule: str = ""
    candidates: tuple[Candidate, ...] = ()
    forms: tuple[Form, ...] = ()
    confidence: MeasuredConfidence | None = None

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Lists those of the package, then those of its other forms."""
        return (*self.checks, *(check for form in self.forms for check in form.checks))

    @property
    def passed(self) -> bool:
        """Tells whether every check holds."""
        return all(check.passed for check in self.all_checks)

    def failures(self) -> str:
        """Lists the failed checks, one per line; empty if there are none."""
        failed = [check for check in self.all_checks if not check.passed]
        values = [to_plain((check.value, check.limit), significant=6) for check in failed]
        lines = zip(failed, values, strict=True)
        return "\n".join(f"{one.name}: {found}, must be {one.comparison} {limit}" for one, (found, limit) in lines)

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values: six significant digits, null for NaN, so that reports are byte-stable."""
        content = asdict(self)
        if not self.rule:
            del content["rule"]
        content["checks"] = [asdict(check) | {"passed": check.passed} for check in self.all_checks]
        content["forms"] = {
            form.name: {"bytes": form.bytes, "sha256": form.sha256, "difference": asdict(form.difference)}
            for form in self.forms
        }
        return {"passed": self.passed, "executed_by": EXECUTED_BY, **to_plain(content, significant=6)}


def parity_checks(what: str, difference: Difference, limit: float) -> tuple[Check, ...]:
    """Limits the mean differences of both outputs; `limit` is that of the probabilities."""
    affect = difference.mean_valence_arousal
    return (
        Check(f"{what}: mean probability difference", difference.mean_probability, limit, "<"),
        Check(f"{what}: mean valence-arousal difference", affect, limit * _VA_RANGE, "<"),
    )


def convention_checks(what: str, metadata: Mapping[str, str]) -> Iterator[Check]:
    """Checks the order of classes, which apps take from the metadata and no comparison of numbers covers."""
    wanted = {"labels": ",".join(EXPRESSIONS), "valence_arousal_order": ",".join(VALENCE_AROUSAL)}
    for key, text in wanted.items():
        yield Check(f"{what}: {key}", metadata.get(key, ""), text, "==")


def describe_results(verification: Verification | None, *, images: int) -> dict[str, str]:
    """Writes the package's own word on what it was measured at, as metadata: on how many faces, and how well.

    Every number has a fixed width, so that a package that waits for its results (None) has the size of the final one.
    """
    nothing = Difference(0.0, 0.0, 0.0, 0.0, 0.0)
    quality = Quality(0.0, 0.0, 0.0, 0.0) if verification is None else verification.shipped_quality
    float16 = nothing if verification is None else verification.float16
    shipped = nothing if verification is None else verification.shipped
    return {
        "metrics": (
            f"accuracy {_fixed(quality.accuracy)}, balanced accuracy {_fixed(quality.balanced_accuracy)}, RMSE valence "
            f"{_fixed(quality.valence_rmse)}, RMSE arousal {_fixed(quality.arousal_rmse)}; "
            f"this file, {images} validation faces"
        ),
        "verification": (
            f"fp16 form against PyTorch: mean probability difference {float16.mean_probability:.5f}, mean "
            f"valence-arousal difference {float16.mean_valence_arousal:.5f}; this file: "
            f"{shipped.mean_probability:.5f}, {shipped.mean_valence_arousal:.5f}; "
            f"the same class for {shipped.agreement:.4f} of {images} faces"
        ),
        "verified_by": EXECUTED_BY,
    }


def _fixed(value: float) -> str:
    """Writes four decimals; as many letters for what no face has the labels for."""
    return f"{value:.4f}" if math.isfinite(value) else "  none"
