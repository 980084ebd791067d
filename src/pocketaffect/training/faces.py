"""Shards as what Lightning takes batches from, and batches that are ready when a GPU is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    def train_dataloader(self) -> Iterable[Batch]:
        """Makes the shuffled, augmented batches of the trainer's current epoch."""
        params = self.params
        process, processes = self._place()
        batches = train_batches(
            self.train,
            params.batch_size,
            params.augment,
            seed=params.seed,
            epoch=0 if self.trainer is None else self.trainer.current_epoch,
            soft_labels=params.soft_labels,
            process=process,
            processes=processes,
        )
        return self._hasten(batches)

    def val_dataloader(self) -> Iterable[Batch]:
        """Makes the validation split's batches, in order."""
        process, processes = self._place()
        size = VALIDATION_BATCH * processes
        return self._hasten(ordered_batches(self.validation, size, process=process, processes=processes))

    def _hasten(self, batches: DataLoader[Batch]) -> Iterable[Batch]:
        """On a GPU, which would wait meanwhile, batches are made ahead; on the CPU `train.threads` is kept to."""
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device.type
        return batches if device == "cpu" else BatchesAhead(batches, pinned=device == "cuda")

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class BatchesAhead:
    """Batches in their order, the next one made in a thread while the present one is used.

    Args:
        batches: What makes them.
        pinned: Whether they are copied to memory that a GPU reads by itself, so that nobody waits for the copy.
    """

    def __init__(self, batches: DataLoader[Batch], *, pinned: bool) -> None:
        self.batches = batches
        self.pinned = pinned

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batches)

        def make() -> Batch | None:
            batch = next(batches, None)
            return batch.pin_memory() if batch is not None and self.pinned else batch

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            coming = thread.submit(make)
            while (batch := coming.result()) is not None:
                coming = thread.submit(make)
                yield batch
