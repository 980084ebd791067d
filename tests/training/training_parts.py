"""Small shards, and trainings in processes of their own.

The processes are forks of a server that has pinned the arithmetic and imported Lightning once: importing it in each
would take ten times as long as the trainings.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
from functools import cache
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pocketaffect.config import load_params

SIZE = 32
_PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").model_dump(by_alias=True)
MODEL = _PARAMS["model"] | {"architecture": "mobilenet", "width": 0.1, "dropout": 0.5}
TRAIN = _PARAMS["train"] | {
    "threads": 1,
    "accelerator": "cpu",
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "warmup_epochs": 1,
    "class_weights": "balanced",
    "augment": _PARAMS["train"]["augment"] | {"rotation_degrees": 5, "shift": 0.02, "flip": 0.5},
}

EVERYTHING = {
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "accumulate": 4,
    "patience": 5,
    "label_smoothing": 0.1,
    "va_loss": "mix",
    "task_weights": "learned",
    "augment": TRAIN["augment"] | {"brightness": 0.1, "contrast": 0.2, "cutout": 0.3, "mixup": 0.4},
}
"""Every part of the recipe that is off as shipped."""


@cache
def server() -> Any:
    """The server, which starts on the first training."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_process"])
    with pytest.MonkeyPatch.context() as patch:
        known = os.environ.get("PYTHONPATH", "")
        # Python 3.11's server does not take over sys.path.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(Path(__file__).parent), known))))
        ensure_running()
    return context


def write_separable_shards(folder: Path, *, train: int = 96, validation: int = 48) -> None:
    """Shards in the form that `data.shards` reads: each class has its own colour, valence and arousal."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    tables = []
    colours = np.array([[30 + 190 * (code >> bit & 1) for bit in range(3)] for code in range(8)])
    for split, images in (("train", train), ("validation", validation)):
        expression = np.arange(images) % 8
        faces = colours[expression][:, None, None, :] + generator.normal(0, 20, (images, SIZE, SIZE, 3))
        np.save(folder / f"{split}-00000.npy", np.clip(faces, 0, 255).astype(np.uint8))
        valence = np.where(expression < 4, 0.5, -0.5) + generator.normal(0, 0.05, images)
        arousal = np.where(expression % 2 == 0, 0.4, -0.4) + generator.normal(0, 0.05, images)
        table = pd.DataFrame({"split": split, "path": [f"{split}/{row}.jpg" for row in range(images)]})
        table = table.assign(shard=f"{split}-00000.npy", row=np.arange(images), expression=expression)
        tables.append(table.assign(valence=valence.astype(np.float32), arousal=arousal.astype(np.float32)))
    pd.concat(tables, ignore_index=True).to_parquet(folder / "index.parquet", index=False)
    summary = {"size": SIZE, "pixel_mean": [0.5] * 3, "pixel_deviation": [0.3] * 3, "sha256": {"all": "by hand"}}
    summary["images"] = {"train": train, "validation": validation}
    (folder / "shards.json").write_text(json.dumps(summary))


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of a training's history."""
    with (folder / "history.csv").open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


class Workplace:
    """A folder with shards, in which the training runs in processes of its own."""

    def __init__(self, folder: Path, **shards: int) -> None:
        self.folder = folder
        self.model = folder / "model"
        self.log = folder / "log"
        write_separable_shards(folder / "shards", **shards)

    def start(
        self,
        *,
        model: dict[str, Any] | None = None,
        stop: tuple[int, int, int] | None = None,
        progress: bool = False,
        **train: Any,
    ) -> Any:
        """Starts a training, which stops itself at epoch, batch by a signal where `stop` says so; gives its process."""
        from training_process import train_logged

        settings = (MODEL | (model or {}), TRAIN | train)
        process = server().Process(target=train_logged, args=(self.folder, *settings, stop, progress))
        process.start()
        return process

    def run_pair(self, epochs: tuple[int, int]) -> str:
        """Trains the paper's two networks into folder/model; what was logged."""
        from training_process import train_pair

        process = server().Process(target=train_pair, args=(self.folder, epochs))
        process.start()
        status, log = self.finish(process)
        assert status == 0, log
        return log

    def finish(self, process: Any) -> tuple[int, str]:
        """Waits for the process; its exit status and what it logged."""
        process.join(timeout=300)  # of a busy machine
        assert process.exitcode is not None, "still running"
        return process.exitcode, self.log.read_text()

    def run(self, **settings: Any) -> str:
        """Trains to the end; what was logged."""
        status, log = self.finish(self.start(**settings))
        assert status == 0, log
        return log

    def run_fresh(self) -> None:
        """Trains in an interpreter that shares nothing with others."""
        code = "import sys, json, training_process as p; p.train(p.Path(sys.argv[1]), *map(json.loads, sys.argv[2:]))"
        arguments = [str(self.folder), json.dumps(MODEL), json.dumps(TRAIN)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def checkpoint(self) -> Path | None:
        """The checkpoint of a training that has not ended."""
        return next(self.folder.glob("work/*/last.ckpt"), None)

    def results(self) -> dict[str, bytes]:
        """Everything that the training wrote, file by file."""
        return {file.name: file.read_bytes() for file in sorted(self.model.iterdir())}
