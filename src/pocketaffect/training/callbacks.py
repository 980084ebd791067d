"""What a training does beside the steps: a line for each epoch, and an early end."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from pocketaffect.training.scores import find_best

logger = logging.getLogger(__name__)


class EpochLines(Callback):
    """One line for each epoch, where a progress bar would fill a log file."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what was just measured."""
        if not trainer.is_global_zero:
            return
        row = pl_module.history[-1]
        parts = [f"loss {row['train_loss']:.3f}"]
        if "accuracy" in row:
            parts.append(f"accuracy {row['accuracy']:.3f}")
        if "ccc_valence" in row:
            parts.append(f"CCC {row['ccc_valence']:.3f} / {row['ccc_arousal']:.3f}")
        logger.info("epoch %d/%d: %s", trainer.current_epoch + 1, trainer.max_epochs, ", ".join(parts))


class StopEarly(Callback):
    """Ends a training after `train.patience` epochs without a better one.

    It reads the history, which the checkpoint holds: unlike Lightning's own EarlyStopping, it also ends at once when a
    training is resumed that was killed between its last epoch and the writing of its network.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at what a resumed training had reached."""
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at how long ago the best epoch was."""
        if is_stale(pl_module.history, pl_module.params.select, pl_module.params.patience):
            trainer.should_stop = True


def is_stale(history: list[dict[str, float]], select: str, patience: int) -> bool:
    """Tells whether the best epoch is `patience` or more epochs ago; never for 0."""
    return bool(patience and history) and len(history) - 1 - find_best(history, select) >= patience
