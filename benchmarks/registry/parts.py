"""Small versions to register and promote by the hundred, and what must hold of a store after any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from pocketaffect.config import Params, RegisterParams, load_params
from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.promotion.log import look, read_log
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import VALIDATION_TAG, RunRecord
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import (
    RegisteredVersion,
    artifact_path,
    check_forms,
    list_versions,
    package_path,
)

NAME: Final = "pocketaffect"
KEPT: Final = ("predictions.parquet", "verification.json", "contract.json")
FACES: Final = 240
SPEC_PLACE: Final = "Data/com.apple.CoreML/model.mlmodel"


def make_params() -> Params:
    """The shipped settings; of the policy what versions without a real model file can hold, and few draws."""
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    checks = params.promotion.checks.model_copy(update={"lineage_complete": False})
    promotion = params.promotion.model_copy(update={"resamples": 100, "checks": checks})
    return params.model_copy(update={"promotion": promotion})


def make_version(folder: Path, number: int) -> Path:
    """A package of its own bytes with the files that the policy reads."""
    place = folder / str(number)
    package = place / "PocketAffect.mlpackage"
    (package / SPEC_PLACE).parent.mkdir(parents=True, exist_ok=True)
    (package / SPEC_PLACE).write_bytes(number.to_bytes(8, "big") * 5000)
    expression = np.arange(FACES) % 8
    affect = np.random.default_rng(0).uniform(-1, 1, (FACES, 2)).astype(np.float32)
    probabilities = np.full((FACES, 8), 0.02, np.float32)
    probabilities[np.arange(FACES), expression] = 0.86
    paths = tuple(str(face) for face in range(FACES))
    table = PredictionTable(paths, Predictions(probabilities, affect), Labels(expression, affect))
    write_predictions(place / "predictions.parquet", table)
    (place / "verification.json").write_text(json.dumps({"passed": True, "checks": []}))
    (place / "contract.json").write_text(json.dumps({"rows": 1, "quarantined": 0}))
    return place


def register(store: Store, place: Path) -> RegisteredVersion:
    """Registers what `make_version` made."""
    record = RunRecord(
        place / "PocketAffect.mlpackage",
        LINEAGE,
        params={"train.epochs": 1},
        history=[{"epoch": 1, "loss": 1.0}],
        metrics={"accuracy": 1.0},
        artifacts=[place / name for name in KEPT],
        description="a benchmark",
        tags={VALIDATION_TAG: "v" * 64},
    )
    names = RegisterParams(model_name=NAME, experiment="benchmark", allow_dirty=True)
    return register_package(store, names, record)


def find_faults(store: Store, made: Path, expected_versions: int) -> list[str]:
    """Lists what does not hold: versions doubled, lost or damaged, champion and log at odds, entries out of chain.

    Args:
        store: The store.
        made: The folder that `make_version` wrote to, whose bytes the versions must have.
        expected_versions: How many there must be.
    """
    versions = list_versions(store, NAME)
    faults = []
    if len(versions) != expected_versions or len({version.digest for version in versions}) != len(versions):
        faults.append(f"{len(versions)} versions of {len({v.digest for v in versions})} packages")
    for version in versions:
        check_forms(store, version)  # refuses bytes that are not the registered ones
        number = int.from_bytes((package_path(store, version) / SPEC_PLACE).read_bytes()[:8], "big")
        for name in KEPT:
            kept = artifact_path(store, version, name)
            if kept is None or kept.read_bytes() != (made / str(number) / name).read_bytes():
                faults.append(f"version {version.version}: {name} is not what was made")
    log, champion, remark = look(store, NAME)
    if remark:
        faults.append(remark)
    if (None if champion is None else champion.version) != log.champion:
        faults.append("champion and log at odds")
    for earlier, later in zip(log.entries, log.entries[1:], strict=False):
        if later.before != earlier.after:
            faults.append(
                f"entry {later.number} starts from {later.before}, entry {earlier.number} ended at {earlier.after}"
            )
    if not all(entry.applied for entry in read_log(store, NAME).entries):
        faults.append("a move was not completed")
    return faults


LINEAGE: Final = Lineage(
    commit="a" * 40,
    dirty_paths=(),
    data_md5="b" * 32 + ".dir",
    data_source="sample",
    sha256={"dvc_lock": "c" * 64, "params": "d" * 64, "requirements": "e" * 64},
    versions={"pocketaffect": "0", "python": "3", "torch": "2", "coremltools": "9"},
    machine={"platform": "any", "cpu": "any"},
)
