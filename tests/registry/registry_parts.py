"""Packages and answers to register, and processes that register at the same time."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pocketaffect.config import RegisterParams
from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import CLASS_MEAN_VA
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import VALIDATION_TAG, RunRecord
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion

SPEC_PLACE = "Data/com.apple.CoreML/model.mlmodel"
MANIFEST = json.dumps(
    {"itemInfoEntries": {"m": {"path": "com.apple.CoreML/model.mlmodel"}}, "rootModelIdentifier": "m"}
)


def make_package(path: Path, content: bytes) -> Path:
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir(parents=True)
    (path / "Manifest.json").write_text(MANIFEST)
    (weights / "weight.bin").write_bytes(content)
    return path


def in_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Exit codes of `count` processes that ran work(0), work(1), ... at the same time.

    Forked, so that each need not import MLflow for seconds first.
    """
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(300)
            work(number)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode if process.exitcode is not None else -signal.SIGKILL for process in processes]


def make_stamped_package(path: Path, content: bytes, **metadata: str) -> Path:
    """A package whose model file says no more than its metadata; `content` stands for its weights."""
    from coremltools import proto

    package = make_package(path, content)
    model = proto.Model_pb2.Model(specificationVersion=7)
    model.description.metadata.userDefined.update(metadata)
    model.mlProgram.version = 1
    model.description.metadata.author = "the tests"
    (package / SPEC_PLACE).write_bytes(model.SerializeToString(deterministic=True))
    return package


def make_answers(*, right: float, seed: int = 0, faces: int = 240) -> PredictionTable:
    """Answers of which about the share `right` names the true expression, and whose affect is as near the truth.

    Labels and names are the same for every `right` and `seed`.
    """
    truth = np.random.default_rng(99)
    expression = np.arange(faces) % 8
    affect = np.clip(np.array(CLASS_MEAN_VA)[expression] + truth.normal(0, 0.1, (faces, 2)), -1, 1).astype(np.float32)
    draw = np.random.default_rng(seed)
    named = np.where(draw.random(faces) < right, expression, draw.integers(0, 8, faces))
    probabilities = np.full((faces, 8), 0.02, np.float32)
    probabilities[np.arange(faces), named] = 0.86
    noise = draw.normal(0, 1.1 - right, (faces, 2))
    predictions = Predictions(probabilities, (affect + noise).astype(np.float32))
    paths = tuple(f"face-{number}.jpg" for number in range(faces))
    return PredictionTable(paths, predictions, Labels(expression, affect))


VERIFIED = {"passed": True, "checks": [{"name": "bytes", "passed": True}]}
CONTRACT = {"rows": 100, "kept": 99, "quarantined": 1, "dropped": 0, "near_duplicates": 0}


class Registrar:
    """Registers versions as the pipeline does, from files small enough for hundreds of them."""

    def __init__(self, store: Store, folder: Path, lineage: Lineage, model_name: str = "pocketaffect") -> None:
        self.store = store
        self.folder = folder
        self.lineage = lineage
        self.model_name = model_name

    def __call__(
        self,
        content: bytes,
        *,
        right: float = 0.9,
        validation: str = "v" * 64,
        verification: dict[str, Any] | None = VERIFIED,
        contract: dict[str, Any] = CONTRACT,
        says_data: str | None = None,
        **changes: Any,
    ) -> RegisteredVersion:
        place = self.folder / content.hex()
        shutil.rmtree(place, ignore_errors=True)
        lineage = dataclasses.replace(self.lineage, **changes)
        says = lineage.data_md5 if says_data is None else says_data
        package = make_stamped_package(place / "PocketAffect.mlpackage", content, origin_data_md5=says)
        artifacts = [place / "predictions.parquet"]
        write_predictions(artifacts[0], make_answers(right=right))
        for name, value in (("verification.json", verification), ("contract.json", contract)):
            if value is not None:
                (place / name).write_text(json.dumps(value))
                artifacts.append(place / name)
        register = RegisterParams(model_name=self.model_name, experiment="faces", allow_dirty=True)
        record = RunRecord(
            package,
            lineage,
            params={"preprocess.margin": 0.0, "preprocess.align": "none"},
            metrics={"shipped_balanced_accuracy": right, "package_bytes": 1.0},
            artifacts=artifacts,
            description="a test",
            tags={VALIDATION_TAG: validation},
        )
        return register_package(self.store, register, record)
