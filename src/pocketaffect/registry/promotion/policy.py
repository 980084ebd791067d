"""The policy of `promotion` in params.yaml: evidence of a version, and a row for each check that it is held to.

Evidence comes from the version's own records, else by executing its package.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect import paths
from pocketaffect.checkout import ask_git, holds_commit
from pocketaffect.config import PARAMS_FILE, Params, PreprocessParams, PromotionChecks, PromotionParams
from pocketaffect.data.shards.split import open_split
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Comparison, Interval, compare_predictions
from pocketaffect.evaluation.prediction_table import PredictionTable, match_rows, read_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.mlpackage.package import package_bytes
from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG, NONE, read_file_metadata
from pocketaffect.registry.promotion.log import AUDITS_THAT_PASS
from pocketaffect.registry.store.measured import hash_validation, measure_predictions
from pocketaffect.registry.store.runs import VALIDATION_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion, artifact_path, package_path
from pocketaffect.tables import render_table

if TYPE_CHECKING:
    from pocketaffect.mlpackage.program import Program

AUDIT_TAG: Final = "audit"
CROP_SETTINGS: Final = ("margin", "align")
NOT_MEASURED: Final = "not measured"
FIRST: Final = "no champion yet: nothing to compare with"


@dataclass(frozen=True)
class Evidence:
    """What is known of a version. None, or a text, stands for what is not.

    Attributes:
        metrics: Metrics of the shipped file, by name; or why there are none.
        comparisons: With the champion on the same faces, by metric; why there are none; or None without a champion.
        remark: On how they were compared.
        verification: Why the verification does not count; empty where it passed, as the contract's.
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


def gather_evidence(
    store: Store, version: RegisteredVersion, champion: RegisteredVersion | None, root: Path, params: Params
) -> Evidence:
    """Gathers what is known of `version`, and how it stands beside `champion` on the same validation faces.

    Raises:
        PocketAffectError: The version's package or records are not what was registered.
    """
    package = package_path(store, version)
    draws = {"resamples": params.promotion.resamples, "seed": params.promotion.seed}
    comparisons: dict[str, Comparison] | str | None = None
    remark = ""
    try:
        answers, _ = _find_answers(store, version, root, params, wanted=version.tags.get(VALIDATION_TAG))
    except PocketAffectError as error:
        answers, reason = None, error.in_one_line()
    metrics = reason if answers is None else measure_predictions(answers, **draws) | _measure_changes(store, version)
    if champion is not None and answers is not None:
        try:
            theirs, remark = _find_answers(store, champion, root, params, wanted=version.tags.get(VALIDATION_TAG))
            _, theirs = match_rows({f"version {version.version}": answers, f"version {champion.version}": theirs})
            comparisons = compare_predictions(answers.predictions, theirs.predictions, answers.labels, **draws)
        except PocketAffectError as error:
            comparisons = f"version {champion.version} cannot be measured: {error.in_one_line()}"
    elif champion is not None:
        comparisons = reason
    return Evidence(
        package_bytes=package_bytes(package),
        metrics=metrics,
        comparisons=comparisons,
        remark=remark,
        verification=_judge_verification(store, version),
        contract=_judge_contract(store, version, params.validate_.max_quarantine_fraction),
        lineage=tuple(find_gaps(version, package, root)),
        audit=version.tags.get(AUDIT_TAG),
    )


def _measure_changes(store: Store, version: RegisteredVersion) -> dict[str, Interval]:
    """Reads the largest share of classes that one change of the behaviour table turned, before the export."""
    file = artifact_path(store, version, f"{paths.EVALUATION.name}/{paths.BEHAVIOUR.name}")
    if file is None:
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        most = max(float(row["classes_changed"]) for row in csv.DictReader(stream))
    return {"class_changes": Interval(most, math.nan, math.nan)}


def find_gaps(version: RegisteredVersion, package: Path, root: Path) -> Iterator[str]:
    """Finds what keeps anyone from making the version again, and where the file says other than the store."""
    tags = version.tags
    if not re.fullmatch(r"[0-9a-f]{40}", tags.get("git.commit", "")):
        yield f"commit: {tags.get('git.commit') or NONE}"
    elif tags.get("git.dirty") != "false":
        changed = tags.get("git.dirty_paths", "")
        yield f"uncommitted changes ({changed}); git commit, then `pocketaffect register`"
    elif not holds_commit(root, tags["git.commit"]):
        yield (
            f"commit {tags['git.commit'][:12]} is on no branch or tag of this repository: git fetch, or, where it was "
            "replaced (amend, squash), `pocketaffect register` from the commit that holds the same"
        )
    if experiment := tags.get(EXPERIMENT_TAG):
        yield f"only the DVC experiment {experiment} made it; dvc exp apply, git commit, then `pocketaffect register`"
    for name in ("data.md5", "dvc_lock.sha256", "params.sha256", "requirements.sha256"):
        if tags.get(name, NONE) == NONE:
            yield f"no {name}"
    try:
        says = read_file_metadata(package).get("origin_data_md5")
    except PocketAffectError as error:
        yield error.in_one_line()
        return
    if says is None:
        yield "the file does not say its data"
    elif says != tags.get("data.md5"):
        yield f"the file says data {says}, the store {tags.get('data.md5')}"


def _find_answers(
    store: Store, version: RegisteredVersion, root: Path, params: Params, *, wanted: str | None
) -> tuple[PredictionTable, str]:
    """Finds the answers that were kept with the version if they are of the wanted faces, else those it gives now."""
    if version.tags.get(VALIDATION_TAG) == wanted:
        kept = artifact_path(store, version, paths.SHIPPED_PREDICTIONS.name)
        if kept is not None:
            return read_predictions(kept), ""
    trained_with = store.client().get_run(version.run_id).data.params
    answers, remark = execute_on_shards(
        package_path(store, version),
        root / paths.SHARDS,
        wanted=wanted,
        trained_with=trained_with,
        here=params.preprocess,
    )
    return answers, "; ".join(filter(None, (f"version {version.version} measured anew", remark)))


def execute_on_shards(
    package: Path, shards: Path, *, wanted: str | None, trained_with: Mapping[str, str], here: PreprocessParams
) -> tuple[PredictionTable, str]:
    """Computes a package's answers to the validation split in `shards`, and a remark on what was done to the faces.

    The split must have the hash `wanted`, or may be any; `trained_with` are the run's parameters, `preprocess.…` among
    them, and `here` the settings that cut these faces.

    Raises:
        PocketAffectError: Other shards than wanted lie here, or these faces are cut as the package does not expect.
    """
    if wanted is not None and hash_validation(shards) != wanted:
        raise PocketAffectError(
            f"{shards}: not the validation faces that the candidate was measured on",
            todo="`dvc repro` (or git checkout the candidate's commit and `dvc checkout`), then repeat",
        )
    for name in CROP_SETTINGS:
        theirs, ours = trained_with.get(f"preprocess.{name}"), str(getattr(here, name))
        if theirs is not None and theirs != ours:
            raise PocketAffectError(
                f"{package}: expects faces that are cut in another way", found=f"{name} {ours}", allowed=theirs
            )
    from pocketaffect.export.measure import load_affect_program, predict_program

    program = load_affect_program(package)
    split = open_split(shards, "validation")
    faces, remark = _fit(split.images(), program)
    found, labels = predict_program(program, faces), Labels(split.expression, split.valence_arousal)
    return PredictionTable(split.paths, Predictions(found.probabilities, found.valence_arousal), labels), remark


def _fit(faces: npt.NDArray[np.uint8], program: Program) -> tuple[npt.NDArray[np.uint8], str]:
    """Fits faces to the program's size: smaller by averaging areas, as `preprocess` makes them; never enlarged."""
    side, wanted = faces.shape[1], program.size
    if side == wanted:
        return faces, ""
    if side < wanted:
        raise PocketAffectError(
            f"the package takes faces of {wanted} px, and those here have {side}: enlarged ones would wrong it",
            todo=f"preprocess.image_size: {wanted} in params.yaml and `dvc repro preprocess`, or --override",
        )
    import cv2

    smaller: Any = [cv2.resize(face, (wanted, wanted), interpolation=cv2.INTER_AREA) for face in faces]
    return np.stack(smaller), f"its faces made smaller, from {side} to {wanted} px"


def _judge_verification(store: Store, version: RegisteredVersion) -> str:
    content = _read_report(store, version, paths.VERIFICATION)
    if content is None:
        return "no verification report with the version"
    failed = [check["name"] for check in content["checks"] if not check["passed"]]
    return "" if content["passed"] else f"failed: {', '.join(failed)}"


def _judge_contract(store: Store, version: RegisteredVersion, most: float) -> str:
    content = _read_report(store, version, paths.CONTRACT_REPORT)
    if content is None:
        return "no report on the data contract with the version"
    share = content["quarantined"] / max(content["rows"], 1)
    return "" if share <= most else f"{share:.2%} of the rows quarantined, validate.max_quarantine_fraction {most:.2%}"


def _read_report(store: Store, version: RegisteredVersion, report: Path) -> dict[str, Any] | None:
    file = artifact_path(store, version, report.name)
    return None if file is None else json.loads(file.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class CheckResult:
    """One row of the table, under the check's name in params.yaml; `passed` is None where there was nothing to hold."""

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
