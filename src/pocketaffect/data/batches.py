"""Batches for training: gathered from shards, augmented by one warp an image, in a fixed order.

What an image looks like in an epoch depends on (seed, epoch, index) alone: not on the batch it falls into, on
worker processes or on where a resumed training starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pocketaffect.config import AugmentParams
from pocketaffect.data.shards import Split

ORDER_STREAM: Final = 0
AUGMENT_STREAM: Final = 1


@dataclass(frozen=True)
class Batch:
    """Images and labels of one step.

    Attributes:
        images: float32 [n, 3, size, size] in [0, 1], channels last in memory.
        expression: int64 [n], 0..7 or NO_EXPRESSION.
        valence_arousal: float32 [n, 2], NaN for no label.
    """

    images: torch.Tensor
    expression: torch.Tensor
    valence_arousal: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; Lightning calls it."""
        return Batch(*(tensor.to(device) for tensor in (self.images, self.expression, self.valence_arousal)))


class FaceBatches(Dataset[Batch]):
    """A split as a dataset that gives whole batches: `__getitem__` takes the indices of one."""

    def __init__(self, split: Split, *, augment: AugmentParams | None = None, seed: int = 0, epoch: int = 0) -> None:
        self.split = split
        self.augment = augment
        self.seed = seed
        self.epoch = epoch

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> Batch:
        images = self.split.gather(indices)
        if self.augment is not None:
            for position, index in enumerate(indices):
                generator = np.random.default_rng([self.seed, AUGMENT_STREAM, self.epoch, int(index)])
                images[position] = warp_face(images[position], self.augment, generator)
        # NHWC bytes seen as NCHW are channels_last already, the layout that convolutions are fastest in.
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
        return Batch(
            pixels,
            torch.from_numpy(self.split.expression[indices]),
            torch.from_numpy(self.split.valence_arousal[indices]),
        )


class BatchOrder(Sampler[npt.NDArray[np.int64]]):
    """The batches of an epoch as arrays of indices; shuffled by (seed, epoch), or in order when seed is None."""

    def __init__(self, length: int, batch_size: int, *, seed: int | None = None, epoch: int = 0) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        # A last training batch of one image would break batch normalisation, and a short one shifts it: left out.
        full = self.length // self.batch_size
        return max(full, 1) if self.seed is not None else math.ceil(self.length / self.batch_size)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        if self.seed is None:
            order = np.arange(self.length, dtype=np.int64)
        else:
            order = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(self.length)
        for step in range(len(self)):
            yield order[step * self.batch_size : (step + 1) * self.batch_size]


def train_batches(split: Split, batch_size: int, augment: AugmentParams, *, seed: int, epoch: int) -> DataLoader[Batch]:
    """One epoch of shuffled, augmented batches."""
    dataset = FaceBatches(split, augment=augment, seed=seed, epoch=epoch)
    return _loader(dataset, BatchOrder(len(split), batch_size, seed=seed, epoch=epoch))


def ordered_batches(split: Split, batch_size: int) -> DataLoader[Batch]:
    """The whole split in its own order, untouched."""
    return _loader(FaceBatches(split), BatchOrder(len(split), batch_size))


def _loader(dataset: FaceBatches, order: BatchOrder) -> DataLoader[Batch]:
    # batch_size=None: the sampler's items are whole batches. No workers: gathering from memory-mapped shards is
    # nine times slower through worker processes.
    return DataLoader(dataset, sampler=order, batch_size=None, num_workers=0)


def warp_face(
    face: npt.NDArray[np.uint8], augment: AugmentParams, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Rotates, shifts and mirrors one face at random in a single interpolation; border pixels go on.

    Args:
        face: uint8 [size, size, 3].
        augment: Limits of the motion.
        generator: The image's own source of randomness.
    """
    size = face.shape[0]
    angle, across, down, mirror = generator.random(4)
    turn = math.radians(augment.rotation_degrees * (2 * angle - 1))
    centre = (size - 1) / 2
    cosine, sine = math.cos(turn), math.sin(turn)
    flip = -1.0 if mirror < augment.flip else 1.0
    shift = augment.shift * size
    matrix = np.array(
        [
            [flip * cosine, -sine, centre - flip * cosine * centre + sine * centre + shift * (2 * across - 1)],
            [flip * sine, cosine, centre - flip * sine * centre - cosine * centre + shift * (2 * down - 1)],
        ]
    )
    warped = cv2.warpAffine(face, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)
