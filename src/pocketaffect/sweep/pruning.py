"""Ends trainings early whose validation score falls behind, through Lightning's own hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from pocketaffect.training.scores import SCORE

if TYPE_CHECKING:
    from optuna.trial import Trial


class PruneByScore(Callback):
    """Reports each epoch's validation score to the study and ends the training when the pruner says so.

    A training that goes on from a checkpoint reports the epochs before it too. The last epoch is never pruned: it is
    paid for.

    Args:
        trial: The trial of this training.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.epochs = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports what was just measured.

        Raises:
            TrialPruned: The pruner gives the trial up.
        """
        from optuna import TrialPruned

        history = pl_module.history
        for row in history[self.epochs :]:
            self.trial.report(row[SCORE], step=int(row["epoch"]))
        self.epochs = len(history)
        if self.epochs < (trainer.max_epochs or 0) and self.trial.should_prune():
            raise TrialPruned(f"score {history[-1][SCORE]:.3f} after epoch {self.epochs}")
