"""The pipeline's results as one MLflow run and one version."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage import collect_lineage
from pocketaffect.registry.store import open_store
from pocketaffect.registry.versions import RegisteredVersion, register_package


def publish(root: Path, params: Params) -> RegisteredVersion:
    """Registers what the stages left below `root`; the same package again gives the same version.

    Raises:
        PocketAffectError: The package was not verified, or the store cannot be used.
    """
    verification = json.loads((root / paths.VERIFICATION).read_text(encoding="utf-8"))
    if not verification["passed"]:
        raise PocketAffectError(f"{paths.VERIFICATION}: the package was not verified", todo="`dvc repro export`")
    metrics = json.loads((root / paths.EVALUATION / "metrics.json").read_text(encoding="utf-8"))
    with (root / paths.MODEL / "history.csv").open(encoding="utf-8", newline="") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    return register_package(
        open_store(root),
        model_name=params.register_.model_name,
        experiment=params.register_.experiment,
        package=root / paths.PACKAGE,
        params=flatten(params.model_dump(by_alias=True, mode="json")),
        history=history,
        metrics={**metrics, **_shipped_metrics(verification)},
        artifacts=[
            root / paths.EVALUATION,
            root / paths.VERIFICATION,
            root / paths.CONTRACT_REPORT,
            root / paths.QUARANTINE_TABLE,
            root / paths.DATA_PROFILE,
            root / paths.DATA_REPORT,
            root / paths.FACES_REPORT,
            *(root / name for name in ("params.yaml", str(paths.LOCK_FILE))),
        ],
        lineage=collect_lineage(root),
        description=(
            f"{params.model.architecture} at width {params.model.width:g}, {params.preprocess.image_size} px, "
            f"{params.export.precision}: {verification['package_bytes']:,} bytes, "
            f"accuracy {metrics['accuracy']:.3f}, CCC {metrics['ccc_valence']:.3f} / {metrics['ccc_arousal']:.3f}"
        ),
    )


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings with dotted keys, as MLflow shows parameters."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _shipped_metrics(verification: Mapping[str, Any]) -> dict[str, float]:
    shipped = {f"shipped_{name}": value for name, value in verification["shipped_quality"].items()}
    return {
        **shipped,
        "shipped_agreement": verification["shipped"]["agreement"],
        "package_bytes": verification["package_bytes"],
    }
