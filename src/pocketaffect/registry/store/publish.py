"""The pipeline's results as one MLflow run and one version."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Interval
from pocketaffect.evaluation.prediction_table import read_predictions
from pocketaffect.files import write_json
from pocketaffect.mlpackage.package import package_bytes, package_digest
from pocketaffect.provenance.origin import describe_origin
from pocketaffect.registry.lineage.lineage import Lineage, collect_lineage
from pocketaffect.registry.lineage.model_file import read_file_metadata
from pocketaffect.registry.lineage.trials import find_trial
from pocketaffect.registry.store.card import CardFacts, write_card
from pocketaffect.registry.store.measured import (
    hash_validation,
    measure_classes,
    measure_predictions,
    to_json,
)
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import VALIDATION_TAG, flatten
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import RegisteredVersion

SHIPPED_FILE: Final = "shipped.json"
"""Among a run's artifacts: metrics of the shipped file with intervals, and per class."""


def publish(root: Path, params: Params, *, allow_dirty: bool | None = None) -> RegisteredVersion:
    """Registers what the stages left below `root`; the same package again gives the same version.

    Args:
        root: The repository.
        params: Its settings.
        allow_dirty: Whether uncommitted changes are registered (and marked) or refused; by default as
            `register.allow_dirty` says.

    Raises:
        PocketAffectError: The package was not verified or not made from what stands here, uncommitted changes are
            not allowed, or the store cannot be used.
    """
    verification = _read(root / paths.VERIFICATION)
    if not verification["passed"]:
        raise PocketAffectError(f"{paths.VERIFICATION}: the package was not verified", todo="`dvc repro export`")
    lineage = collect_lineage(root)
    _check_origin(root, params)
    _check_dirtiness(lineage, params.register_.allow_dirty if allow_dirty is None else allow_dirty)
    metrics = _read(root / paths.EVALUATION / "metrics.json")
    with (root / paths.MODEL / "history.csv").open(encoding="utf-8", newline="") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    facts = _collect_facts(root, params, lineage, verification, metrics)
    store, settings = open_store(root), flatten(params.model_dump(by_alias=True, mode="json"))
    trial = find_trial(store.client(), params.register_.experiment, settings)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        return register_package(
            store,
            model_name=params.register_.model_name,
            experiment=params.register_.experiment,
            package=root / paths.PACKAGE,
            companions=_companions(root),
            params=settings,
            history=history,
            metrics={**metrics, **_shipped_metrics(facts)},
            artifacts=[*_artifacts(root), *_written(root, facts, Path(folder))],
            lineage=lineage,
            tags={VALIDATION_TAG: hash_validation(root / paths.SHARDS)} | trial,
            description=(
                f"{params.model.architecture} at width {params.model.width:g}, {params.preprocess.image_size} px, "
                f"{verification['precision']}: {verification['package_bytes']:,} bytes, "
                f"accuracy {metrics['accuracy']:.3f}, CCC {metrics['ccc_valence']:.3f} / {metrics['ccc_arousal']:.3f}"
            ),
        )


def _check_origin(root: Path, params: Params) -> None:
    """Refuses a package that was made from other data, settings or sources than stand here: its tags would lie."""
    says, here = read_file_metadata(root / paths.PACKAGE), describe_origin(params, root)
    differ = [name.removeprefix("origin_") for name in here if says.get(name) != here[name]]
    if differ:
        raise PocketAffectError(
            f"{paths.PACKAGE}: not made from what stands here",
            found=f"other {', '.join(differ)}",
            todo="`dvc repro`",
        )


def _check_dirtiness(lineage: Lineage, allowed: bool) -> None:
    if lineage.dirty and not allowed:
        raise PocketAffectError(
            "register: uncommitted changes",
            found=", ".join(lineage.dirty_paths[:10]),
            allowed="a commit that holds everything that decides the result",
            todo="git commit, then `pocketaffect register`; with --allow-dirty it marks the version, which is never "
            "promoted (the stage: params.yaml, register.allow_dirty)",
        )


def _collect_facts(
    root: Path, params: Params, lineage: Lineage, verification: Mapping[str, Any], metrics: Mapping[str, float]
) -> CardFacts:
    forms = [root / paths.PACKAGE, *_companions(root)]
    facts = CardFacts(
        params=params,
        lineage=lineage,
        digest=package_digest(root / paths.PACKAGE),
        forms=[(path.name, package_bytes(path) if path.is_dir() else path.stat().st_size) for path in forms],
        verification=verification,
        contract=_read(root / paths.CONTRACT_REPORT),
        summary=_read(root / paths.SHARDS / "shards.json"),
        metrics={},
        classes=(),
        pytorch=metrics,
    )
    if not (root / paths.SHIPPED_PREDICTIONS).is_file():
        return facts
    table = read_predictions(root / paths.SHIPPED_PREDICTIONS)
    measured = measure_predictions(table, resamples=params.promotion.resamples, seed=params.promotion.seed)
    return replace(facts, metrics=measured, classes=measure_classes(table))


def _companions(root: Path) -> list[Path]:
    """The twin and the classifier form, as far as the export wrote them."""
    return [root / path for path in (paths.CLASSIFIER, paths.TWIN) if (root / path).exists()]


def _artifacts(root: Path) -> Iterator[Path]:
    yield from (root / paths.EVALUATION, root / paths.VERIFICATION, root / paths.CONTRACT_REPORT)
    yield from (root / paths.QUARANTINE_TABLE, root / paths.DATA_PROFILE, root / paths.DATA_REPORT)
    yield root / paths.FACES_REPORT
    yield from (root / name for name in ("params.yaml", str(paths.LOCK_FILE)))
    if (root / paths.SHIPPED_PREDICTIONS).is_file():
        yield root / paths.SHIPPED_PREDICTIONS


def _written(root: Path, facts: CardFacts, folder: Path) -> Iterator[Path]:
    """What is made for the version alone."""
    yield from write_card(facts, folder)
    if facts.metrics:
        content = to_json(facts.metrics, facts.classes, read_predictions(root / paths.SHIPPED_PREDICTIONS))
        write_json(folder / SHIPPED_FILE, content)
        yield folder / SHIPPED_FILE


def _shipped_metrics(facts: CardFacts) -> dict[str, float]:
    values: Mapping[str, Interval] = facts.metrics
    return {
        **{f"shipped_{name}": one.value for name, one in values.items()},
        "shipped_agreement": facts.verification["shipped"]["agreement"],
        "package_bytes": facts.verification["package_bytes"],
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketAffectError(f"{file}: no such file; nothing to register", todo="dvc repro") from None
    return content
