"""One MLflow run: parameters, a curve for every epoch's number, final metrics, files."""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.files import write_json
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.flavor import write_flavor

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

DIGEST_TAG: Final = "package.sha256"
PACKAGE_TAG: Final = "package.name"
MODEL_FOLDER: Final = "model"
"""The run's artifact folder that holds the package; a version's source."""

CONTENTS_FILE: Final = "contents.json"
"""Among a run's artifacts: SHA-256 of each file that was registered, by its place there."""

CONTENTS_TAG: Final = "contents.sha256"
TWIN_TAG: Final = "twin.sha256"
CLASSIFIER_TAG: Final = "classifier.sha256"
VALIDATION_TAG: Final = "validation.sha256"
"""Hash of the validation split that the version was measured on (`measured.hash_validation`)."""

TWIN_SUFFIX: Final = ".onnx"

METRIC_BATCH: Final = 1000
PARAM_BATCH: Final = 100
"""MLflow's limits for one call of log_batch."""


@dataclass(frozen=True)
class RunRecord:
    """What a run of the pipeline hands over to MLflow."""

    package: Path
    digest: str
    params: Mapping[str, object]
    history: Sequence[Mapping[str, object]]
    metrics: Mapping[str, float]
    artifacts: Sequence[Path]
    lineage: Lineage
    description: str
    companions: Sequence[Path] = ()
    """Other forms of the model, kept beside the package: the ONNX twin, the classifier."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags of the version."""


def log_run(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    """Logs everything but the run's tags and status."""
    from mlflow.entities import Param

    params = [Param(name, str(value)) for name, value in sorted(record.params.items())]
    for start in range(0, len(params), PARAM_BATCH):
        client.log_batch(run_id, params=params[start : start + PARAM_BATCH])
    numbers, skipped = _numbers(record.history, record.metrics)
    for start in range(0, len(numbers), METRIC_BATCH):
        client.log_batch(run_id, metrics=numbers[start : start + METRIC_BATCH])
    if skipped:
        client.set_tag(run_id, "metrics.not_finite", ", ".join(sorted(skipped)))
    for artifact in record.artifacts:
        _log_artifact(client, run_id, artifact, folder=None)
    for model in (record.package, *record.companions):
        _log_artifact(client, run_id, model, folder=MODEL_FOLDER)


def log_contents(client: MlflowClient, run_id: str, record: RunRecord) -> dict[str, str]:
    """Logs MLflow's own files of the model, and the list of all registered files with their hashes.

    Returns:
        Tags that hold the list and the other forms to their bytes.
    """
    twins = [path for path in record.companions if path.suffix == TWIN_SUFFIX]
    contents = dict(_hash_files(record))
    tags = {TWIN_TAG: contents[f"{MODEL_FOLDER}/{twins[0].name}"]} if twins else {}
    forms = {record.package.name: record.digest} | {twin.name: tags[TWIN_TAG] for twin in twins[:1]}
    for classifier in (path for path in record.companions if path.is_dir()):
        tags[CLASSIFIER_TAG] = forms[classifier.name] = package_digest(classifier)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as name:
        flavor = Path(name) / MODEL_FOLDER
        flavor.mkdir()
        write_flavor(flavor, served_file=twins[0].name if twins else record.package.name, forms=forms)
        contents |= {f"{MODEL_FOLDER}/{file.relative_to(flavor).as_posix()}": _sha256(file) for file in _walk(flavor)}
        client.log_artifacts(run_id, str(flavor), MODEL_FOLDER)
        listed = Path(name) / CONTENTS_FILE
        write_json(listed, contents)
        client.log_artifact(run_id, str(listed))
        return tags | {CONTENTS_TAG: _sha256(listed)}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings with dotted keys, as MLflow shows parameters."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _hash_files(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Place among the artifacts and SHA-256 of every file that `log_run` logs."""
    for path in (*record.artifacts, record.package, *record.companions):
        place = f"{MODEL_FOLDER}/{path.name}" if path not in record.artifacts else path.name
        for file in _walk(path):
            inside = "" if file == path else f"/{file.relative_to(path).as_posix()}"
            yield f"{place}{inside}", _sha256(file)


def _walk(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _log_artifact(client: MlflowClient, run_id: str, artifact: Path, *, folder: str | None) -> None:
    if artifact.is_dir():
        inside = artifact.name if folder is None else f"{folder}/{artifact.name}"
        client.log_artifacts(run_id, str(artifact), inside)
    else:
        client.log_artifact(run_id, str(artifact), folder)


def _numbers(history: Sequence[Mapping[str, object]], metrics: Mapping[str, float]) -> tuple[list[Metric], set[str]]:
    """Every number as an MLflow metric, the final ones at the last epoch; and the names of those not finite."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows: list[tuple[int, Mapping[str, object]]] = [
        (_epoch(row, position), row) for position, row in enumerate(history)
    ]
    rows.append((max((step for step, _ in rows), default=0), metrics))
    numbers, skipped = [], set()
    for step, row in rows:
        for name, value in row.items():
            if name == "epoch" or isinstance(value, str) or value is None:
                continue
            number = float(value)  # type: ignore[arg-type]  # NumPy's and PyTorch's scalars convert, too
            if math.isfinite(number):
                numbers.append(Metric(name, number, now, step))
            else:
                skipped.add(name)
    return numbers, skipped


def _epoch(row: Mapping[str, object], position: int) -> int:
    return int(float(str(row.get("epoch", position))))


def fail_interrupted_runs(client: MlflowClient, experiment_id: str, digest: str | None) -> None:
    """Marks runs that a killed registration left without a version.

    Args:
        client: Of the store.
        experiment_id: Where to look.
        digest: Only runs of these bytes: on a shared server the others may be at work. None means all of them.
    """
    wanted = "LIKE '%'" if digest is None else f"= '{digest}'"
    unfinished = f"tags.`{DIGEST_TAG}` {wanted} and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], filter_string=unfinished):
        client.set_tag(run.info.run_id, "registration", "interrupted")
        client.set_terminated(run.info.run_id, "FAILED")


def finish_run(client: MlflowClient, run_id: str) -> None:
    """Ends a run whose process was killed between making the version and ending the run."""
    if run_id and client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "FINISHED")
