"""Gathers what the policy asks of a version: from its own records, else by executing its package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Comparison, compare_predictions
from pocketaffect.evaluation.prediction_table import PredictionTable, match_rows, read_predictions
from pocketaffect.git import holds_commit
from pocketaffect.mlpackage.package import package_bytes
from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG, NONE
from pocketaffect.registry.lineage.model_file import read_file_metadata
from pocketaffect.registry.promotion.policy import Evidence
from pocketaffect.registry.promotion.remeasure import execute_on_shards
from pocketaffect.registry.store.measured import measure_predictions
from pocketaffect.registry.store.runs import VALIDATION_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion, artifact_path, package_path

AUDIT_TAG = "audit"


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
    metrics = reason if answers is None else measure_predictions(answers, **draws)
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


def _judge_verification(store: Store, version: RegisteredVersion) -> str:
    file = artifact_path(store, version, paths.VERIFICATION.name)
    if file is None:
        return "no verification report with the version"
    content = json.loads(file.read_text(encoding="utf-8"))
    failed = [check["name"] for check in content["checks"] if not check["passed"]]
    return "" if content["passed"] else f"failed: {', '.join(failed)}"


def _judge_contract(store: Store, version: RegisteredVersion, most: float) -> str:
    file = artifact_path(store, version, paths.CONTRACT_REPORT.name)
    if file is None:
        return "no report on the data contract with the version"
    content = json.loads(file.read_text(encoding="utf-8"))
    share = content["quarantined"] / max(content["rows"], 1)
    return "" if share <= most else f"{share:.2%} of the rows quarantined, validate.max_quarantine_fraction {most:.2%}"
