"""A training's own process: arithmetic pinned before torch is imported, as pipelines/train.py does it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from pocketaffect.arithmetic import pin_arithmetic

if "torch" not in sys.modules:  # the process that only names these functions has torch and pins nothing
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.training import fit  # noqa: F401  imported once, for all forks


def train(folder: Path, model: dict[str, Any], settings: dict[str, Any]) -> None:
    """Trains on folder/shards to folder/model."""
    from pocketaffect.config import ModelParams, TrainParams
    from pocketaffect.training.fit import train_network

    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
    train_network(
        folder / "shards",
        ModelParams(**model),
        TrainParams(**settings),
        work=folder / "work",
        target=folder / "model",
        progress=False,
    )


def train_logged(folder: Path, model: dict[str, Any], settings: dict[str, Any]) -> None:
    """As `train`, with all that is printed in folder/log."""
    _log_to(folder)
    train(folder, model, settings)


def train_pair(folder: Path, epochs: tuple[int, int]) -> None:
    """Trains the paper's pair on folder/shards to folder/model, with all that is printed in folder/log."""
    from pocketaffect.training.presets import train_paper_pair

    _log_to(folder)
    train_paper_pair(
        folder / "shards",
        "mobilenet",
        0.1,
        7,
        folder / "work",
        folder / "model",
        batch_size=16,
        epochs=epochs,
        progress=False,
    )


def _log_to(folder: Path) -> None:
    stream = (folder / "log").open("w", encoding="utf-8")
    os.dup2(stream.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
