"""Shards as what Lightning takes batches from."""

from __future__ import annotations

from typing import Final

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch, ordered_batches, train_batches
from pocketaffect.data.shards.split import Split

VALIDATION_BATCH: Final = 512


class FaceData(pl.LightningDataModule):
    """Batches of both splits; the training loader is built anew each epoch, since its order depends on it.

    Each process gets its part of every batch: the batches are the same for any number of processes.
    """

    def __init__(self, train: Split, validation: Split, params: TrainParams) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.params = params

    def train_dataloader(self) -> DataLoader[Batch]:
        """The shuffled, augmented batches of the trainer's current epoch."""
        params = self.params
        process, processes = self._place()
        return train_batches(
            self.train,
            params.batch_size,
            params.augment,
            seed=params.seed,
            epoch=0 if self.trainer is None else self.trainer.current_epoch,
            soft_labels=params.soft_labels,
            process=process,
            processes=processes,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split in order."""
        process, processes = self._place()
        return ordered_batches(self.validation, VALIDATION_BATCH * processes, process=process, processes=processes)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
