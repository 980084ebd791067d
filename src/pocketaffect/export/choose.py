"""The best precision that fits the budget, by what the shipped files answer to the faces that choose."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import Package, Packages
from pocketaffect.export.measure import Faces
from pocketaffect.export.verdict import Candidate, Verification
from pocketaffect.export.verify import Verifier
from pocketaffect.precisions import AUTO, SPEC_VERSIONS, Precision, find_precision, readable_precisions
from pocketaffect.tables import render_table

logger = logging.getLogger(__name__)

CHOSEN: Final = "chosen"
CLOSE: Final = 0.002
RULE: Final = (
    f"a form that {next(iter(SPEC_VERSIONS))} reads, where one scores within {CLOSE} of the best; of these the highest "
    "score to a thousandth, then the fewest bytes. Score: agreement with PyTorch, less what balanced accuracy lost and "
    "RMSE (mean of both) gained"
)
FACES_TO_CHOOSE_BY: Final = 1024
"""More of them separate the precisions no better than the limits of the verification do; the choice's own metrics
are those of the whole validation split."""
VALIDATION: Final = "validation faces"
APART: Final = "faces set apart to choose by"


@dataclass(frozen=True)
class _Measured:
    package: Package
    verification: Verification
    score: float

    @property
    def rank(self) -> tuple[float, int]:
        """Ranks by the highest score, to a thousandth; among equals by the fewest bytes."""
        return round(self.score, 3), -self.package.bytes

    @property
    def is_for_all(self) -> bool:
        """Tells whether the oldest deployment target reads it."""
        return self.package.precision.target == next(iter(SPEC_VERSIONS))


def score_package(verification: Verification) -> float:
    """Computes agreement with the network, less what balanced accuracy lost and the RMSE (mean of both) gained.

    Where a package is better than its network by luck, that counts as no loss: agreement is the measure with the
    least noise, and a bound on what the others may lose.
    """
    before, after = verification.pytorch_quality, verification.shipped_quality
    lost = before.balanced_accuracy - after.balanced_accuracy
    gained = (after.valence_rmse + after.arousal_rmse - before.valence_rmse - before.arousal_rmse) / 2
    return verification.shipped.agreement - max(0.0, lost) - max(0.0, gained)


def choose_package(packages: Packages, verifier: Verifier, apart: Faces | None = None) -> tuple[Package, Verification]:
    """Makes the package in the precision that params.yaml names, or in the best that fits; verifies it on all faces.

    Args:
        packages: The network's.
        verifier: On the validation faces.
        apart: Faces that choose; None: the validation faces do.

    Raises:
        PocketAffectError: `export.precision` is "auto", and none fits and passes.
    """
    if verifier.limits.precision != AUTO:
        package = packages.make(find_precision(verifier.limits.precision))
        return package, verifier.verify(package)
    faces, kind = (verifier.faces, VALIDATION) if apart is None else (apart, APART)
    choosing = verifier.on(faces.thin_out(FACES_TO_CHOOSE_BY))
    package, verification = choose_precision(packages, choosing, kind)
    if choosing is verifier:
        return package, verification
    on_all, rule = verifier.verify(package), verification.rule
    return package, dataclasses.replace(on_all, rule=rule, candidates=verification.candidates)


def choose_precision(packages: Packages, verifier: Verifier, kind: str = VALIDATION) -> tuple[Package, Verification]:
    """Makes and executes the packages that fit, and picks one of those that pass by `RULE`.

    Forms that hold strictly less than one that fits and passes are left out, as are those that cannot fit.

    Args:
        packages: The network's.
        verifier: On the faces that choose.
        kind: What these are, for messages.

    Returns:
        The package, and its verification with every candidate and what became of it.

    Raises:
        PocketAffectError: None fits, or none that fits passes; each is listed with the reason.
    """
    limits, faces = verifier.limits, f"{len(verifier.faces.images):,} {kind}"
    candidates: dict[str, Candidate] = {}
    passed: list[_Measured] = []
    for precision in readable_precisions(limits.deployment_target):
        better = next((one for one in passed if _holds_more(one.package.precision, precision)), None)
        if better is not None:
            reason = f"not tried: {better.package.precision.name} fits and holds more"
            candidates[precision.name] = Candidate(precision.name, reason)
            continue
        candidate, measured = _try(precision, packages, verifier)
        candidates[precision.name] = candidate
        if measured is not None:
            passed.append(measured)
    if not passed:
        raise PocketAffectError(
            f"export.precision auto: no precision fits export.budget_bytes {limits.budget_bytes:,} and passes",
            found=f"on {faces}\n{tabulate(candidates.values())}",
            todo=f"raise export.budget_bytes, lower model.width{_newer(limits.deployment_target)}",
        )
    chosen = _pick(passed)
    for one in passed:
        name = one.package.precision.name
        candidates[name] = dataclasses.replace(candidates[name], verdict=_explain(one, chosen))
    rule = f"{faces}; {RULE}"
    table = tabulate(candidates.values())
    logger.info("precisions for %s bytes, by the answers to %s:\n%s", f"{limits.budget_bytes:,}", rule, table)
    return chosen.package, dataclasses.replace(chosen.verification, rule=rule, candidates=tuple(candidates.values()))


def _pick(passed: Sequence[_Measured]) -> _Measured:
    """Applies `RULE`. What only newer systems read must be worth leaving the others out."""
    best = max(one.score for one in passed)
    oldest = [one for one in passed if one.is_for_all and best - one.score <= CLOSE + 1e-9]
    return max(oldest or passed, key=lambda one: one.rank)


def _explain(one: _Measured, chosen: _Measured) -> str:
    precision, name = one.package.precision, chosen.package.precision.name
    if one is chosen:
        return CHOSEN
    if chosen.is_for_all and not one.is_for_all and one.score >= chosen.score:
        return f"needs {precision.target} and scores no more than {CLOSE} above {name}"
    if one.rank[0] == chosen.rank[0]:
        return f"scores as {name} to a thousandth, in more bytes"
    return f"scores less than {name}"


def _newer(deployment_target: str) -> str:
    newest = list(SPEC_VERSIONS)[-1]
    return "" if deployment_target == newest else f", or set export.deployment_target: {newest}, which has more forms"


def _try(precision: Precision, packages: Packages, verifier: Verifier) -> tuple[Candidate, _Measured | None]:
    budget = verifier.limits.budget_bytes
    if (over := packages.estimate_least(precision) - budget) > 0:
        return Candidate(precision.name, f"over the budget by at least {over:,} bytes"), None
    package = packages.make(precision)
    if (over := package.bytes - budget) > 0:
        return Candidate(precision.name, f"over the budget by {over:,} bytes", package.bytes), None
    verification = verifier.verify(package)
    score = score_package(verification)
    candidate = Candidate(
        precision.name,
        verification.failures().replace("\n", "; "),
        package.bytes,
        score,
        verification.shipped_quality,
        verification.shipped.agreement,
    )
    return candidate, _Measured(package, verification, score) if verification.passed else None


def _holds_more(one: Precision, other: Precision) -> bool:
    """Tells whether `one` is of the same form as `other` with as many bits or more.

    Not so between forms: a finer palette has the smaller error in the weights, and now and then the larger in the
    metrics.
    """
    return one.kind == other.kind != "float" and one.group == other.group and one.bits >= other.bits


def propose_precisions(packages: Packages, verifier: Verifier) -> str:
    """Names the precisions whose packages fit the budget, with their bytes, and what else there is to do."""
    limits = verifier.limits
    readable = readable_precisions(limits.deployment_target)
    possible = [one for one in readable if packages.estimate_least(one) <= limits.budget_bytes]
    fitting = [one for one in map(packages.make, possible) if one.bytes <= limits.budget_bytes]
    if fitting:
        names = ", ".join(f"{one.precision.name} ({one.bytes:,})" for one in fitting)
        return f"these would fit: {names}; export.precision: auto measures them and takes the best"
    smallest = packages.make(min(readable, key=packages.estimate_least))
    return (
        f"for {limits.deployment_target} none fits, the smallest is {smallest.precision.name} ({smallest.bytes:,}): "
        "lower model.width or raise export.budget_bytes"
    )


def tabulate(candidates: Iterable[Candidate]) -> str:
    """Writes a line for each: bytes, score, agreement, balanced accuracy, RMSE of valence and arousal, verdict."""
    rows: list[Sequence[str]] = [("precision", "bytes", "score", "agreement", "bal. acc.", "RMSE V", "RMSE A", "")]
    for one in candidates:
        quality = one.quality
        numbers = (
            (one.score, one.agreement, quality.balanced_accuracy, quality.valence_rmse, quality.arousal_rmse)
            if quality is not None
            else ()
        )
        cells = [f"{number:.4f}" for number in numbers] or ["-"] * 5
        size = "-" if one.package_bytes is None else f"{one.package_bytes:,}"
        rows.append((one.precision, size, *cells, one.verdict))
    return render_table(rows, "lrrrrrrl")
