"""A training's own process: arithmetic pinned before torch is imported, as pipelines/train.py does it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketaffect.arithmetic import pin_arithmetic

if "torch" not in sys.modules:  # the process that only names these functions has torch and pins nothing
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.training import fit  # noqa: F401  imported once, for all forks


def train(
    folder: Path,
    model: dict[str, Any],
    settings: dict[str, Any],
    callbacks: Sequence[Any] = (),
    *,
    progress: bool = False,
) -> None:
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
        progress=progress,
        callbacks=callbacks,
    )


def first_gradients(folder: Path) -> Any:
    """A callback that keeps the gradients of the first step in folder/gradients.npz."""
    import numpy as np
    from pytorch_lightning.callbacks import Callback

    class FirstGradients(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):  # noqa: ARG002  Lightning's names
            if trainer.global_step == 0 and trainer.is_global_zero:
                named = module.network.named_parameters()
                np.savez(folder / "gradients.npz", **{name: weight.grad.numpy() for name, weight in named})

    return FirstGradients()


def signal_itself(epoch: int, batch: int, how: int) -> Any:
    """A callback that sends its own process a signal, so that it comes at this batch however busy the machine is.

    Epoch and batch count from 0. The epoch after the last stands for the moment when all is trained and not yet
    written.
    """
    from pytorch_lightning.callbacks import Callback

    class SignalItself(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):  # noqa: ARG002  Lightning's names
            if (trainer.current_epoch, batch_index) == place:
                os.kill(os.getpid(), how)

        def on_fit_end(self, trainer, module):  # noqa: ARG002
            if epoch == trainer.max_epochs:
                os.kill(os.getpid(), how)

    place = (epoch, batch)
    return SignalItself()


def train_logged(
    folder: Path,
    model: dict[str, Any],
    settings: dict[str, Any],
    stop: tuple[int, int, int] | None = None,
    progress: bool = False,
) -> None:
    """As `train`, with all that is printed in folder/log; stopped by `signal_itself`, if so wanted."""
    _log_to(folder)
    train(folder, model, settings, [] if stop is None else [signal_itself(*stop)], progress=progress)


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
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folder = Path(sys.argv[1])
    train(folder, *map(json.loads, sys.argv[2:]), callbacks=[first_gradients(folder)])
