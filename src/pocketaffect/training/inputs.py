"""What a training reads: faces in batches that are ready when a GPU is, networks to begin with or to learn from."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from pocketaffect.config import TrainParams
from pocketaffect.data.shards.batches import Batch, ordered_batches, train_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork, load_network

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
        """Makes batches ahead for a GPU, which would wait meanwhile; on the CPU `train.threads` is kept to."""
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device.type
        return batches if device == "cpu" else BatchesAhead(batches, pinned=device == "cuda")

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class BatchesAhead:
    """Batches in their order, the next one made in a thread while the present one is used.

    Pinned ones are copied to memory that a GPU reads by itself, so that nobody waits for the copy.
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


WITHOUT_WEIGHTS: Final = ("dropout",)
"""Parts of a `NetworkSpec` in which the two networks may differ."""


def start_from(network: AffectNetwork, folder: Path) -> None:
    """Puts the trained weights in `folder` into `network`: backbone, both heads, pixel statistics and prototypes.

    Raises:
        PocketAffectError: No network is there, it is damaged, or it is of another kind. `network` is then unchanged.
    """
    try:
        other = load_network(folder)
    except PocketAffectError as error:
        raise PocketAffectError(f"params.yaml: train.start_from: {error}") from None
    wanted, given = asdict(network.spec), asdict(other.spec)
    differing = [name for name in wanted if wanted[name] != given[name] and name not in WITHOUT_WEIGHTS]
    if differing:
        raise PocketAffectError(
            f"params.yaml: train.start_from: {folder}: another kind of network",
            found=", ".join(f"{name} {given[name]}" for name in differing),
            allowed=", ".join(f"{name} {wanted[name]}" for name in differing),
            todo="name a network of the same kind, or change `model`, preprocess.image_size or .colour in params.yaml",
        )
    network.load_state_dict(other.state_dict())


def load_teacher(folder: Path, size: int) -> AffectNetwork:
    """Loads the network in `folder` for images of `size` pixels a side, in evaluation mode, without gradients.

    Raises:
        PocketAffectError: No network is there, it is damaged, or it takes images of another size.
    """
    try:
        teacher = load_network(folder)
    except PocketAffectError as error:
        raise PocketAffectError(f"params.yaml: train.distill.teacher: {error}") from None
    if teacher.spec.size != size:
        raise PocketAffectError(
            f"params.yaml: train.distill.teacher: {folder}: takes images of another size",
            found=f"{teacher.spec.size} pixels",
            allowed=f"{size} pixels, as preprocess.image_size",
            todo="train the teacher on the same shards",
        )
    return teacher.requires_grad_(False)


def hash_state(state: Mapping[str, torch.Tensor]) -> str:
    """Computes the sha256 of tensors by name, type and content."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
