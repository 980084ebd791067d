"""One MLflow run: parameters, a curve for every epoch's number, final metrics, files."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.registry.lineage import Lineage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

DIGEST_TAG: Final = "package.sha256"
PACKAGE_TAG: Final = "package.name"
MODEL_FOLDER: Final = "model"
"""The run's artifact folder that holds the package; a version's source."""

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
    _log_artifact(client, run_id, record.package, folder=MODEL_FOLDER)


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
