"""What the last `dvc repro` made, on one screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.config import load_params
from pocketaffect.data.source import check_source
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.metrics import METRIC_TITLES, list_missing
from pocketaffect.files import read_yaml
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.store.store import find_store
from pocketaffect.registry.store.versions import CANDIDATE, aliased_version, find_version
from pocketaffect.tables import render_table

_SHOWN: Final = ("accuracy", "macro_f1", "rmse_valence", "rmse_arousal", "ccc_valence", "ccc_arousal")


def summarise(root: Path) -> str:
    """Tells metrics beside their floors, bytes against the budget, verification, version, and where to look next.

    Raises:
        PocketAffectError: The pipeline has not run.
    """
    params = load_params(root / "params.yaml")
    metrics = _read(root / paths.EVALUATION / "metrics.json")
    floors = _read(root / paths.EVALUATION / "floors.json")
    verification = _read(root / paths.VERIFICATION)
    size, budget = verification["package_bytes"], params.export.budget_bytes
    shipped = verification["shipped"]
    verdict = "passed" if verification["passed"] else "FAILED"
    stale = _find_stale_stage(root)
    facts = [
        ("data", check_source(root)),
        *([("", f"but the figures are of an earlier run: {stale}; `dvc repro`")] if stale else ()),
        ("package", f"{root / paths.PACKAGE}: {size:,} bytes of {budget:,} ({size / budget:.0%} of the budget)"),
        (
            "verified",
            f"{verdict}, {len(verification['checks'])} checks on {verification['images']:,} images; "
            f"agreement with PyTorch {shipped['agreement']:.3f}, "
            f"mean probability difference {shipped['mean_probability']:.1e}",
        ),
        ("", "(executed by our interpreter, not on a device)"),
        *_describe_confidence(verification.get("confidence")),
        ("registry", _describe_version(root)),
    ]
    following = [
        ("open", f"{root / paths.EVALUATION / 'report.html'}"),
        ("first", ". .venv/bin/activate   (once in each shell)"),
        ("plots", "dvc plots show"),
        ("runs", "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db"),
        ("", "then open http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"),
        ("your data", "pocketaffect data use PATH && dvc repro"),
    ]
    lines = ["", summary_table(metrics, floors), ""]
    lines += [render_table([*facts, ("", ""), *following], "l"), ""]
    return "\n".join(lines)


def _describe_confidence(confidence: Mapping[str, float] | None) -> list[tuple[str, str]]:
    if confidence is None:
        return []
    right = "" if confidence["kept_right"] is None else f", {confidence['kept_right']:.0%} of them right"
    kept = f"above {confidence['unsure_below']:.2f}: {confidence['kept']:.0%} of the faces{right}; else unsure"
    return [("sure", f"{kept} (temperature {confidence['temperature']:.2f})")]


def _find_stale_stage(root: Path) -> str:
    """Names the first stage of dvc.lock that was run with other data, or another stage's other output, than are now."""
    stages = read_yaml(root / paths.LOCK_FILE).get("stages") or {}
    present = {entry["path"]: entry.get("md5") for entry in read_yaml(root / paths.DATA_FILE).get("outs") or ()}
    present |= {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs") or ()}
    for name, stage in stages.items():
        for dep in stage.get("deps") or ():
            if dep["path"] in present and dep.get("md5") != present[dep["path"]]:
                return f"stage {name} had another {dep['path']}"
    return ""


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketAffectError(f"{file}: not there yet", todo="`dvc repro`") from None
    return content


def _describe_version(root: Path) -> str:
    name, digest = _read(root / paths.REGISTERED)["model_name"], package_digest(root / paths.PACKAGE)
    store = find_store(root)
    version = None if store is None else find_version(store, name, digest)
    if store is None or version is None:
        return f"{name} {digest[:12]} is not in this store; `pocketaffect register` puts it there"
    aliases = ", ".join(version.aliases)
    said = f"{name} version {version.version}{f' ({aliases})' if aliases else ''}"
    candidate = aliased_version(store, name, CANDIDATE)
    if candidate is not None and candidate.version != version.version:
        said += f", NOT the {CANDIDATE}, which is version {candidate.version}: `pocketaffect register` makes it that"
    return f"{said}, sha256 {digest[:12]}…"


def summary_table(metrics: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> str:
    """Writes the metrics that decide as plain text, beside the floors' rows as floors.json has them."""
    columns = {"model": metrics, **{name.replace("_", " "): row for name, row in floors.items()}}
    titles = {name: METRIC_TITLES[name].replace(" ↓", "") for name in _SHOWN if name in metrics}
    rows = [["", *columns]]
    rows += [[title, *(_number(row.get(name)) for row in columns.values())] for name, title in titles.items()]
    lines = [render_table(rows, "lr")]
    if missing := list_missing(metrics):
        lines.append(f"not measured, since no validation face has the labels: {', '.join(missing)}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
