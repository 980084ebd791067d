"""The policy of `promotion` in params.yaml, applied to what is known of a version: a row for each check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketaffect.checkout import ask_git
from pocketaffect.config import PARAMS_FILE, PromotionChecks, PromotionParams
from pocketaffect.evaluation.intervals import Comparison, Interval
from pocketaffect.tables import render_table

AUDITS_THAT_PASS: Final = ("bit-identical", "equal within tolerance")
NOT_MEASURED: Final = "not measured"
FIRST: Final = "no champion yet: nothing to compare with"


@dataclass(frozen=True)
class Evidence:
    """What is known of a version. None, or a text, stands for what is not.

    Attributes:
        package_bytes: Bytes of the .mlpackage.
        metrics: Metrics of the shipped file, by name; or why there are none.
        comparisons: With the champion on the same faces, by metric; why there are none; or None without a champion.
        remark: On how they were compared.
        verification: Why the verification does not count; empty where it passed.
        contract: Why the data contract does not; empty where it passed.
        lineage: Gaps in the lineage.
        audit: The verdict of `pocketaffect audit`; None before one.
    """

    package_bytes: int
    metrics: Mapping[str, Interval] | str
    comparisons: Mapping[str, Comparison] | str | None
    remark: str
    verification: str
    contract: str
    lineage: Sequence[str]
    audit: str | None


@dataclass(frozen=True)
class CheckResult:
    """One row of the table.

    Attributes:
        name: The check's name in params.yaml.
        value: The value found.
        limit: The limit that it was held to.
        passed: None where there was nothing to hold.
        remark: A further remark.
    """

    name: str
    value: str
    limit: str
    passed: bool | None
    remark: str = ""


def apply_policy(checks: PromotionChecks, evidence: Evidence) -> tuple[CheckResult, ...]:
    """Applies every check that the policy makes, in its order."""
    results = []
    for name, limit in checks.model_dump().items():
        if limit is None or limit is False:
            continue
        if name.startswith("max_drop_"):
            results.append(_check_drop(name, float(limit), evidence))
        elif name.startswith(("min_", "max_")):
            results.append(_check_limit(name, limit, evidence))
        else:
            results.append(_check_fact(name, evidence))
    return tuple(results)


def describe_policy(root: Path, promotion: PromotionParams) -> str:
    """Names the commit whose params.yaml holds this policy, or says that it is not committed."""
    from ruamel.yaml import YAML

    commit, text = ask_git(root, "rev-parse", "HEAD"), ask_git(root, "show", f"HEAD:./{PARAMS_FILE}")
    if commit is None or text is None:
        return f"{PARAMS_FILE}, not committed"
    try:
        committed = PromotionParams.model_validate(YAML(typ="safe", pure=True).load(text)["promotion"])
    except (ValueError, KeyError, TypeError):  # of a pocketaffect that knew other checks
        committed = None
    changed = "" if committed == promotion else " with changes, not committed"
    return f"{PARAMS_FILE} of commit {commit[:12]}{changed}"


def failed_checks(results: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Lists the checks that did not hold."""
    return tuple(result for result in results if result.passed is False)


def render_checks(results: Sequence[CheckResult]) -> str:
    """Renders the table as text, a line for each check."""
    marks = {True: "ok", False: "FAILED", None: "-"}
    rows = [("", "check", "found", "limit", "")]
    rows += [(marks[one.passed], one.name, one.value, one.limit, one.remark) for one in results]
    return render_table(rows, "l")


def _check_limit(name: str, limit: float, evidence: Evidence) -> CheckResult:
    kind, metric = name[:3], name[4:]
    shown = f"{'<=' if kind == 'max' else '>='} {limit:,}"
    if metric == "bytes":
        return CheckResult(name, f"{evidence.package_bytes:,}", shown, evidence.package_bytes <= limit)
    if isinstance(evidence.metrics, str):
        return CheckResult(name, "unknown", shown, False, evidence.metrics)
    if metric not in evidence.metrics:
        return CheckResult(name, NOT_MEASURED, shown, False, _advise(name))
    one = evidence.metrics[metric]
    holds = one.value <= limit if kind == "max" else one.value >= limit
    remark = "" if one.low != one.low else f"95 % interval {one.low:.3f} to {one.high:.3f}"
    return CheckResult(name, f"{one.value:.4f}", shown, bool(holds), remark)


def _check_drop(name: str, limit: float, evidence: Evidence) -> CheckResult:
    """Checks the drop against the champion: the lower end of the difference's interval may be `limit` below at most."""
    shown = f">= {-limit:g} at the lower end"
    if evidence.comparisons is None:
        return CheckResult(name, "-", shown, None, FIRST)
    if isinstance(evidence.comparisons, str):
        return CheckResult(name, "unknown", shown, False, evidence.comparisons)
    metric = name.removeprefix("max_drop_")
    if metric not in evidence.comparisons:
        return CheckResult(name, NOT_MEASURED, shown, False, _advise(name))
    one = evidence.comparisons[metric]
    remark = f"{one.ours:.4f} against the champion's {one.theirs:.4f}"
    remark += f"; {evidence.remark}" if evidence.remark else ""
    return CheckResult(
        name, f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f})", shown, one.low >= -limit, remark
    )


def _advise(name: str) -> str:
    return f"no validation face has the labels; promotion.checks.{name}: null asks for no such figure"


def _check_fact(name: str, evidence: Evidence) -> CheckResult:
    if name == "audit_passed":
        found = evidence.audit or "not audited"
        remark = "" if evidence.audit else "pocketaffect audit"
        return CheckResult(name, found, "passed", found.startswith(AUDITS_THAT_PASS), remark)
    wrong = {
        "verification_passed": evidence.verification,
        "contract_passed": evidence.contract,
        "lineage_complete": "; ".join(evidence.lineage),
    }[name]
    return CheckResult(name, "no" if wrong else "yes", "yes", not wrong, wrong)
