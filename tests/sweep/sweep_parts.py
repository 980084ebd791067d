"""A repository small enough to sweep in seconds, and trainings that take no time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.sweep.objective import EPOCHS, Plan
from pocketaffect.sweep.run import Sweep, prepare_sweep

ROOT = Path(__file__).parents[2]
SPACE: dict[str, Any] = {
    "model.architecture": ["mobilenet", "alexnet"],
    "model.width": [0.1, 0.15, 0.2, 0.3],
    "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "train.class_weights": ["none", "balanced"],
}
SWEEP: dict[str, Any] = {
    "budget_bytes": 2_000_000,
    "objectives": "score",
    "trials": 8,
    "epochs": 3,
    "sampler": "random",
    "pruner": "none",
    "warm_start": False,
    "seed": 1,
    "workers": 1,
    "executor": "local",
    "storage": "journal",
    "space": SPACE,
}

QUICK_TRIALS = 4
"""Of `note_and_wait`."""


def make_params(**sweep: Any) -> Params:
    """The shipped settings with a small sweep at 32 pixels."""
    content = read_yaml(ROOT / "params.yaml")
    content["sweep"] = SWEEP | sweep
    content["preprocess"]["image_size"] = 32
    content["train"]["batch_size"] = 16
    return Params.model_validate(content)


def make_root(folder: Path) -> Path:
    """A repository with a manifest and shards by name alone, for trainings that read neither."""
    for file in (paths.MANIFEST_TABLE, paths.SHARDS / "shards.json"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text('{"size": 32}')
    return folder


def begin(root: Path, train: Any = None, **sweep: Any) -> Sweep:
    """A sweep that is ready to run, of trainings that take no time."""
    return prepare_sweep(make_params(**sweep), root, train=train or score_by_rate)


def score_by_rate(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """No training; the score is highest at a learning rate of 0.01, and says so to six digits."""
    trial.set_user_attr(EPOCHS, params.train.epochs)
    return 1 - abs(params.train.learning_rate - 0.01)


def fail_without_weights(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """Every second training ends in an error of one of three kinds."""
    if params.train.class_weights == "balanced":
        return score_by_rate(plan, params, trial, folder)
    kinds = (PocketAffectError("loss is nan"), RuntimeError("not enough memory: tried 9 GB"), MemoryError())
    raise kinds[trial.number % 3]


def note_and_wait(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """Leaves a note with its process; the first trials end at once, the others not before somebody ends them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{os.getpid()}.note").touch()
    if trial.number >= QUICK_TRIALS:
        time.sleep(600)
    return score_by_rate(plan, params, trial, folder)


def kill_own_process(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """What the system does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def note_training(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """Leaves a note with its process, and takes no time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{os.getpid()}-{trial.number}.note").touch()
    return score_by_rate(plan, params, trial, folder)


def note_arithmetic(plan: Plan, params: Params, trial: Any, folder: Path) -> float:
    """Takes no time; records how its process counts."""
    import torch

    trial.set_user_attr("arithmetic", [torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()])
    return score_by_rate(plan, params, trial, folder)
