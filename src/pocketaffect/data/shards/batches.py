"""Batches for training: gathered from shards, augmented by one warp an image, in a fixed order.

What an image looks like in an epoch depends on (seed, epoch, index) alone: not on the batch it falls into, on
worker processes or on where a resumed training starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pocketaffect.config import AugmentParams
from pocketaffect.data.shards.augment import (
    Faces,
    Partners,
    change_focus,
    change_tint,
    change_tones,
    cut_out,
    draw_partners,
    mix_faces,
    recompress,
)
from pocketaffect.data.shards.split import Split
from pocketaffect.labels import EXPRESSIONS

ORDER_STREAM: Final = 0
AUGMENT_STREAM: Final = 1
MIXUP_STREAM: Final = 2
APPEARANCE_STREAM: Final = 3
CAMERA_STREAM: Final = 4
DRAWS: Final = 6
"""Random numbers of an image's warp in an epoch: angle, shift across, shift down, mirror, zoom, aspect; in [0, 1)."""


@dataclass(frozen=True)
class Batch:
    """Images and labels of one step.

    Attributes:
        pixels: uint8 [n, 3, size, size], or float32 in [0, 1] where augmentation made it so; channels last in memory.
        expression: int64 [n], 0..7 or NO_EXPRESSION.
        valence_arousal: float32 [n, 2], NaN for no label.
        soft: float32 [n, 8], shares of votes over the expressions, rows of NaN for no soft label; None where the whole
            split has none.
        rows: int64 [n], the images' places in their split.
        rated: int64 [m], the places in the batch of images that have valence and arousal; None where nobody has
            looked. To look for them on a GPU would be to wait for it.
    """

    pixels: torch.Tensor
    expression: torch.Tensor
    valence_arousal: torch.Tensor
    soft: torch.Tensor | None
    rows: torch.Tensor
    rated: torch.Tensor | None = None

    @property
    def images(self) -> torch.Tensor:
        """float32 [n, 3, size, size] in [0, 1], channels last in memory."""
        return self.pixels if self.pixels.is_floating_point() else self.pixels.float().div_(255)

    def to(self, device: torch.device) -> Batch:
        """Moves the batch to `device`, without waiting for the copy; Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copies the batch to memory that a GPU reads by itself."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        parts = (getattr(self, part.name) for part in fields(self))
        return Batch(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]


class FaceBatches(Dataset[Batch]):
    """A split as a dataset that gives whole batches: `__getitem__` takes the indices of one."""

    def __init__(
        self,
        split: Split,
        *,
        augment: AugmentParams | None = None,
        seed: int = 0,
        epoch: int = 0,
        soft_labels: bool = True,
    ) -> None:
        self.split = split
        self.augment = augment
        self.seed = seed
        self.epoch = epoch
        self.soft_labels = soft_labels

    def __getitem__(self, indices: npt.NDArray[np.int64]) -> Batch:
        faces = self._read(indices)
        if self.augment is not None and self.augment.mixup:
            partners = self._partners
            faces = mix_faces(faces, self._read(partners.rows[indices]), partners.shares[indices])
        if self.augment is not None and self.augment.cutout:
            cut_out(faces.pixels, self._appearance_draws[indices, 2:], self.augment.cutout)
        return Batch(
            # NHWC seen as NCHW is channels_last already, the layout that convolutions are fastest in.
            torch.from_numpy(faces.pixels).permute(0, 3, 1, 2),
            torch.from_numpy(faces.expression),
            torch.from_numpy(faces.valence_arousal),
            torch.from_numpy(faces.soft) if self._has_soft else None,
            torch.from_numpy(indices),
            torch.from_numpy(np.flatnonzero(~np.isnan(faces.valence_arousal).any(axis=1))),
        )

    @property
    def _has_soft(self) -> bool:
        mixed = self.augment is not None and self.augment.mixup > 0
        return mixed or (self.soft_labels and self.split.soft is not None)

    def _read(self, indices: npt.NDArray[np.int64]) -> Faces:
        images: npt.NDArray[Any] = self.split.gather(indices)
        if self.augment is not None:
            draws = self._draws[indices]
            matrices = plan_warps(draws[:, :DRAWS], self.augment, images.shape[1])
            for face, matrix, (focus, jpeg, *tint) in zip(images, matrices, draws[:, DRAWS:], strict=True):
                warp_face(face, matrix, out=face)
                change_focus(face, focus, self.augment)
                if self.augment.tint:
                    change_tint(face, np.array(tint), self.augment.tint)
                recompress(face, jpeg, self.augment.jpeg)
        change = self.augment
        if change is not None and (change.brightness or change.contrast or change.cutout or change.mixup):
            # numpy converts and scales in one pass over memory, torch in two.
            images = np.divide(images, np.float32(255))
            if change.brightness or change.contrast:
                change_tones(images, self._appearance_draws[indices, :2], change)
        return Faces(images, self.split.expression[indices], self.split.valence_arousal[indices], self._soft(indices))

    def _soft(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        if self.split.soft is None or not self.soft_labels:
            return np.full((len(indices), len(EXPRESSIONS)), np.nan, np.float32)
        return self.split.soft[indices]

    # The draws of a whole epoch at once: a generator for each image costs as much as half its warp.

    @cached_property
    def _draws(self) -> npt.NDArray[np.float64]:
        """[images, DRAWS + 5] for the warps, the focus, the compression and the tint of three channels."""
        older, camera = (self._generator(stream) for stream in (AUGMENT_STREAM, CAMERA_STREAM))
        return np.hstack([older.random((len(self.split), 4)), camera.random((len(self.split), 7))])

    @cached_property
    def _appearance_draws(self) -> npt.NDArray[np.float64]:
        """[images, 4]: brightness, contrast, the cut-out square's place across and down."""
        return self._generator(APPEARANCE_STREAM).random((len(self.split), 4))

    @cached_property
    def _partners(self) -> Partners:
        assert self.augment is not None
        return draw_partners(self._generator(MIXUP_STREAM), len(self.split), self.augment.mixup)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, self.epoch])


class BatchOrder(Sampler[npt.NDArray[np.int64]]):
    """The batches of an epoch as arrays of indices; shuffled by (seed, epoch), or in order when seed is None.

    Of several processes, numbered from 0, each gets its part of every batch of `batch_size` images, so that the batches
    are the same for any number of them. They must divide the batch; in order, the last one is filled up with the first
    of the split's `length` images, so that all have equally many.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.process = process
        self.processes = processes

    def __len__(self) -> int:
        # A last training batch of one image would break batch normalisation, and a short one shifts it: left out.
        full = self.length // self.batch_size
        return max(full, 1) if self.seed is not None else math.ceil(self.length / self.batch_size)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        if self.seed is None:
            even = math.ceil(self.length / self.processes) * self.processes
            order = np.arange(even, dtype=np.int64) % self.length
        else:
            order = np.random.default_rng([self.seed, ORDER_STREAM, self.epoch]).permutation(self.length)
        for step in range(len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            part = len(batch) // self.processes
            yield batch[self.process * part : (self.process + 1) * part]


def train_batches(
    split: Split,
    batch_size: int,
    augment: AugmentParams,
    *,
    seed: int,
    epoch: int,
    soft_labels: bool = True,
    process: int = 0,
    processes: int = 1,
) -> DataLoader[Batch]:
    """Yields one epoch of shuffled, augmented batches, or the part of each that is one process's."""
    dataset = FaceBatches(split, augment=augment, seed=seed, epoch=epoch, soft_labels=soft_labels)
    order = BatchOrder(len(split), batch_size, seed=seed, epoch=epoch, process=process, processes=processes)
    return _loader(dataset, order)


def ordered_batches(split: Split, batch_size: int, *, process: int = 0, processes: int = 1) -> DataLoader[Batch]:
    """Yields the whole split in its own order, untouched, or one process's part of it."""
    return _loader(FaceBatches(split), BatchOrder(len(split), batch_size, process=process, processes=processes))


def _loader(dataset: FaceBatches, order: BatchOrder) -> DataLoader[Batch]:
    # batch_size=None: the sampler's items are whole batches. No workers: gathering from memory-mapped shards is
    # nine times slower through worker processes.
    return DataLoader(dataset, sampler=order, batch_size=None, num_workers=0)


def plan_warps(draws: npt.NDArray[np.float64], augment: AugmentParams, size: int) -> npt.NDArray[np.float64]:
    """Plans affine matrices that mirror, turn, zoom and stretch about the centre, and shift, within limits.

    The draws are float64 [n, DRAWS], each in [0, 1); images have `size` pixels a side.

    Returns:
        float64 [n, 2, 3], from a pixel's place (x, y, 1) in the image to its place in the result.
    """
    angle, across, down, mirror, zoom, aspect = draws.T
    turn = math.radians(augment.rotation_degrees) * (2 * angle - 1)
    cosine, sine = np.cos(turn), np.sin(turn)
    flip = np.where(mirror < augment.flip, -1.0, 1.0)
    centre, shift = (size - 1) / 2, augment.shift * size
    matrices = np.empty((len(draws), 2, 3))
    scale, stretch = (1 + augment.zoom) ** (2 * zoom - 1), (1 + augment.aspect) ** (aspect - 0.5)
    # Stretched last, along the picture's sides: a detector's box is upright, however the face is turned.
    wide, tall = scale * stretch, scale / stretch
    matrices[:, 0, 0], matrices[:, 0, 1] = wide * flip * cosine, -wide * sine
    matrices[:, 1, 0], matrices[:, 1, 1] = tall * flip * sine, tall * cosine
    for axis, draw in enumerate((across, down)):
        turned = matrices[:, axis, 0] * centre, matrices[:, axis, 1] * centre
        matrices[:, axis, 2] = centre - turned[0] - turned[1] + shift * (2 * draw - 1)
    return matrices


def warp_face(face: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], *, out: npt.NDArray[np.uint8]) -> None:
    """Moves a face, uint8 [size, size, 3], by a matrix of `plan_warps` in one interpolation; border pixels go on.

    `out` is a contiguous array for the result, and may be `face` itself.
    """
    # OpenCV warps four channels in two thirds of the time of three, to the same bytes.
    four = cv2.cvtColor(face, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(four, matrix, face.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
