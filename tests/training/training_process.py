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
    stream = (folder / "log").open("w", encoding="utf-8")
    os.dup2(stream.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    train(folder, model, settings)
