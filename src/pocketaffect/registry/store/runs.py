"""One MLflow run: settings, a curve for each number of an epoch, metrics, data set, files and the model."""

from __future__ import annotations

import getpass
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pocketaffect import paths
from pocketaffect.files import write_json
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.lineage.lineage import Lineage, digest_file
from pocketaffect.registry.store import served

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

DIGEST_TAG: Final = "package.sha256"
PACKAGE_TAG: Final = "package.name"
MODEL_FOLDER: Final = "model"
"""The run's artifact folder that holds the package; a version's source."""

CONTENTS_FILE: Final = "contents.json"
"""File among a run's artifacts: SHA-256 of each file that was registered, by its place there."""

CONTENTS_TAG: Final = "contents.sha256"
TWIN_TAG: Final = "twin.sha256"
CLASSIFIER_TAG: Final = "classifier.sha256"
VALIDATION_TAG: Final = "validation.sha256"
"""Tag: hash of the validation split that the version was measured on (`measured.hash_validation`)."""

TWIN_SUFFIX: Final = ".onnx"

CODE: Final = "code"
MODULE: Final = "pocketaffect_served"
"""The served model's name as a module of its own, beside whatever pocketaffect is installed."""

_NEEDED: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")

METRIC_BATCH: Final = 1000
PARAM_BATCH: Final = 100
"""MLflow's limits for one call of log_batch."""


@dataclass(frozen=True)
class RunRecord:
    """What a run of the pipeline hands over to MLflow.

    Attributes:
        lineage: The package's origin, which becomes tags of run and version.
        params: Settings under dotted names.
        history: One mapping per epoch: `epoch` (the step) and that epoch's numbers.
        companions: Other forms of the model, kept beside the package; `mlflow.pyfunc` executes a `.onnx` among them.
        faces: Number of training images; 0 where it is not known.
        trained: When the training began and ended, in seconds since 1970; None where nobody noted it.
    """

    package: Path
    lineage: Lineage
    params: Mapping[str, object] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Sequence[Path] = ()
    companions: Sequence[Path] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    faces: int = 0
    trained: tuple[float, float] | None = None

    @cached_property
    def digest(self) -> str:
        """Computes the digest by which the registry knows the package."""
        return package_digest(self.package)

    def version_tags(self) -> dict[str, str]:
        """Lists tags of run and version that are known before anything is logged."""
        return {**self.lineage.to_tags(), DIGEST_TAG: self.digest, PACKAGE_TAG: self.package.name, **self.tags}


def start_run(client: MlflowClient, experiment_id: str, record: RunRecord, name: str) -> Run:
    """Makes the run, as long as the training took where that is known, with what MLflow's pages show of it."""
    shown = {
        "mlflow.note.content": record.description,
        "mlflow.user": login_name(),
        "mlflow.source.name": "dvc repro",
        "mlflow.source.type": "LOCAL",
    }
    began = int(1000 * (record.trained[0] if record.trained else time.time()))
    return client.create_run(experiment_id, start_time=began, tags=record.version_tags() | shown, run_name=name)


def log_run(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    """Logs settings, curves and data set."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    for params in _in_batches((Param(name, str(value)) for name, value in sorted(record.params.items())), PARAM_BATCH):
        client.log_batch(run_id, params=params)
    for metrics in _in_batches(_list_curves(record), METRIC_BATCH):
        client.log_batch(run_id, metrics=metrics)
    name, digest = record.lineage.data_source[:500], record.lineage.data_md5[:36]  # MLflow's limits
    profile = json.dumps({"num_rows": record.faces}) if record.faces else None
    data = Dataset(name, digest, "local", json.dumps({"uri": paths.DATA.as_posix()}), profile=profile)
    client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])


def log_files(client: MlflowClient, run_id: str, record: RunRecord) -> dict[str, str]:
    """Logs all files, and MLflow's own of the model; gives the tags that hold list and other forms to their bytes."""
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        tags = _collect_files(record, Path(folder))
        client.log_artifacts(run_id, folder)
    return tags


def show_model(client: MlflowClient, run: Run, record: RunRecord) -> None:
    """Puts the model on MLflow's page of models, and logs the final metrics of run and model."""
    from mlflow.entities import LoggedModelOutput, Metric

    model = client.create_logged_model(
        run.info.experiment_id,
        name=record.package.stem,
        source_run_id=run.info.run_id,
        params={name: str(value)[:500] for name, value in record.params.items()},  # MLflow's limit
        model_type="Core ML",
    )
    step, now = max((int(row["epoch"]) for row in record.history), default=0), int(time.time() * 1000)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step)])
    final = [Metric(name, value, now, step, model_id=model.model_id) for name, value in record.metrics.items()]
    client.log_batch(run.info.run_id, metrics=final)
    client.finalize_logged_model(model.model_id, "READY")


def end_run(client: MlflowClient, run_id: str, record: RunRecord, model_name: str, version: int) -> None:
    """Finishes the run of a version, if nothing did, and says on its model's page which version that is."""
    run = client.get_run(run_id) if run_id else None
    if run is None or run.info.status != "RUNNING":
        return
    registered = {"mlflow.modelVersions": json.dumps([{"name": model_name, "version": version}])}
    for model in run.outputs.model_outputs if run.outputs else ():
        client.set_logged_model_tags(model.model_id, registered)
    client.set_terminated(run_id, end_time=int(1000 * record.trained[1]) if record.trained else None)


def drop_run(client: MlflowClient, run_id: str) -> None:
    """Marks a run that came to no version as FAILED, and removes its files and its model."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run = client.get_run(run_id)
    get_artifact_repository(run.info.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call]
    for model in run.outputs.model_outputs if run.outputs else ():
        client.delete_logged_model(model.model_id)
    client.set_terminated(run_id, "FAILED")


def _collect_files(record: RunRecord, folder: Path) -> dict[str, str]:
    """Copies all files as the run's artifacts will lie, with MLflow's own of the model, and lists their hashes."""
    model = folder / MODEL_FOLDER
    model.mkdir()
    for path in (*record.artifacts, record.package, *record.companions):
        place = (folder if path in record.artifacts else model) / path.name
        shutil.copytree(path, place, copy_function=shutil.copyfile) if path.is_dir() else shutil.copyfile(path, place)
    digests = {path.name: digest_file(model / path.name) for path in (record.package, *record.companions)}
    twin = next((name for name in digests if name.endswith(TWIN_SUFFIX)), None)
    write_flavor(model, served_file=twin or record.package.name, forms=digests)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    write_json(folder / CONTENTS_FILE, {file.relative_to(folder).as_posix(): digest_file(file) for file in files})
    tags = {
        TWIN_TAG if path.suffix == TWIN_SUFFIX else CLASSIFIER_TAG: digests[path.name] for path in record.companions
    }
    return tags | {CONTENTS_TAG: digest_file(folder / CONTENTS_FILE)}


def write_flavor(folder: Path, *, served_file: str, forms: Mapping[str, str]) -> None:
    """Writes MLflow's files beside the model: `mlflow.pyfunc` loads the folder, `mlflow models serve` answers with it.

    `served_file` is the ONNX twin's name there, else the package's; `forms` has the digest of each form of the model,
    which loading holds it to, whichever it executes.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types import ColSpec, Schema

    facts = {"file": served_file, "forms": dict(forms), "labels": list(EXPRESSIONS)}
    write_json(folder / served.FACTS, facts)
    (folder / CODE).mkdir()
    shutil.copyfile(served.__file__, folder / CODE / f"{MODULE}.py")
    lines = [f"{name}=={version(name)}" for name in _NEEDED]
    if not served_file.endswith(".onnx"):
        lines.append("pocketaffect")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "python_env.yaml").write_text("dependencies:\n- -r requirements.txt\n", encoding="utf-8")
    numbers = [*(f"p_{name}" for name in EXPRESSIONS), "valence", "arousal"]
    outputs = [ColSpec("string", "expression"), *(ColSpec("float", name) for name in numbers)]
    # Base64 or bytes. Of "binary" MLflow decodes base64 itself, from some forms of a request alone, and says less.
    inputs = Schema([ColSpec("string", "image")])
    model = Model(signature=ModelSignature(inputs, Schema([*outputs])))
    add_to_model(model, MODULE, code=CODE, python_env="python_env.yaml")  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))


def _list_curves(record: RunRecord) -> Iterator[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for row in record.history:
        for name, value in row.items():
            if name != "epoch":
                yield Metric(name, value, now, int(row["epoch"]))


def _in_batches(rows: Iterable[T], most: int) -> Iterator[list[T]]:
    listed = list(rows)
    return (listed[start : start + most] for start in range(0, len(listed), most))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Gives nested settings dotted keys, as MLflow shows parameters."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def login_name() -> str:
    """Names who is logged in."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
