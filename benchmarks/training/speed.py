"""Images a second of our `fit`, beside a plain PyTorch loop and beside Lightning without our input and memory format.

    .venv/bin/python benchmarks/training/speed.py [--images 2048] [--size 64] [--width 0.35] [--rounds 5] [--cores 1]

Three ways to train the same network by the same loss and optimiser, one epoch of each in turns, in one run:

- ours: `AffectModule` and `FaceData` under Lightning's trainer, as `train_network` builds them;
- plain: a bare PyTorch loop over the same batches (wanted: ours within 5 % of it);
- usual: the same module under the same trainer, fed from JPEG files by torchvision's ImageFolder and a DataLoader with
  the best of 0 and 2 worker processes, the network in the contiguous format (wanted: ours at least 1.3 times it).

All three have the same `--cores` processors, for the network's threads and for what feeds it: with one, worker
processes take their time from the network; with more, ours leaves to the network what the usual way needs for JPEGs.

Seconds run from the start of an epoch to the end of its last step: no validation, no checkpoint. The paper's
augmentation, drawn faces. Wall time, and CPU time of all processes, which counts on a shared machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from affectnet_like import describe_machine
from input_pipeline import make_faces, make_reference, read_cpu_seconds
from torch.utils.data import DataLoader, Dataset

from pocketaffect.config import TrainParams, load_params
from pocketaffect.data.shards.batches import Batch, train_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.training.inputs import FaceData
from pocketaffect.training.module import AffectModule
from pocketaffect.training.objective import Objective
from pocketaffect.training.optimizer import build_optimizer
from pocketaffect.training.trainer import build_trainer

SETTINGS = Path(__file__).resolve().parents[2] / "params.yaml"


@dataclass
class Clock:
    """Wall and CPU seconds of each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Begins a round."""
        self._begun = _read_clocks()

    def stop(self) -> None:
        """Ends it."""
        wall, cpu = (end - begin for end, begin in zip(_read_clocks(), self._begun, strict=True))
        self.wall.append(wall)
        self.cpu.append(cpu)


class EpochClock(pl.Callback):
    """Times an epoch under Lightning, up to its last step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002, D102
        self.clock.start()

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        if batch_idx == int(trainer.num_training_batches) - 1:
            self.clock.stop()


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)
    cv2.setNumThreads(1)
    torch.set_num_threads(len(cores))
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    params = load_params(SETTINGS).train.model_copy(update={"epochs": 1, "batch_size": arguments.batch})
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
        split = make_faces(Path(scratch), arguments.images, arguments.size)
        bench = Bench(arguments, params, split, Path(scratch))
        ways: dict[str, Callable[[Clock], None]] = {
            "ours": bench.train_ours,
            "plain PyTorch loop": bench.train_plain,
            "usual, num_workers=0": lambda clock: bench.train_usual(clock, 0),
            "usual, num_workers=2": lambda clock: bench.train_usual(clock, 2),
        }
        clocks = {name: Clock() for name in ways}
        for _ in range(arguments.rounds + 1):  # the first one warms up
            for name, way in ways.items():
                way(clocks[name])
    print(
        f"{describe_machine()}; {arguments.images} faces of {arguments.size} px, batches of {arguments.batch}, "
        f"{arguments.architecture} x {arguments.width}; "
        f"processors {len(cores)}; load at the end {os.getloadavg()[0]:.1f}\n"
    )
    report(clocks, arguments.images // arguments.batch * arguments.batch)


def report(clocks: dict[str, Clock], images: int) -> None:
    """The table, and ours beside each of the others."""
    print("| way | images a second, median | all rounds | images a CPU second, median |")
    print("|---|---|---|---|")
    speeds: dict[str, tuple[float, float]] = {}
    for name, clock in clocks.items():
        walls = [images / seconds for seconds in clock.wall[1:]]
        speeds[name] = statistics.median(walls), images / statistics.median(clock.cpu[1:])
        rounds = " ".join(f"{value:.0f}" for value in walls)
        print(f"| {name} | {speeds[name][0]:.0f} | {rounds} | {speeds[name][1]:.0f} |")
    ours, plain, *usual = speeds.values()
    for number, title in enumerate(("wall", "CPU")):
        best = max(speed[number] for speed in usual)
        print(f"\n{title}: ours is {ours[number] / plain[number]:.2f} times the plain loop (wanted: 0.95)", end="")
        print(f", {ours[number] / best:.2f} times the best usual way (wanted: 1.3)", end="")
    print()


class Bench:
    """The three ways over the same faces."""

    def __init__(self, arguments: argparse.Namespace, params: TrainParams, split: Split, scratch: Path) -> None:
        self.arguments = arguments
        self.params = params
        self.split = split
        self.scratch = scratch

    def module(self) -> AffectModule:
        """A new network, its loss, its recipe."""
        torch.manual_seed(0)
        given = self.arguments
        network = AffectNetwork(NetworkSpec(given.architecture, given.width, given.size, "prototype", 0.0))
        return AffectModule(network, Objective(self.params, self.split.expression), self.params, self.split.paths)

    def trainer(self, clock: Clock) -> pl.Trainer:
        """As `train_network` builds it."""
        return build_trainer(self.params, self.scratch / "checkpoints", [EpochClock(clock)])

    def train_ours(self, clock: Clock) -> None:
        """As `train_network` trains."""
        self.trainer(clock).fit(self.module(), datamodule=FaceData(self.split, self.split, self.params))

    def train_plain(self, clock: Clock) -> None:
        """No Lightning, no check, no record."""
        module, params = self.module().train(), self.params
        batches = train_batches(self.split, params.batch_size, params.augment, seed=params.seed, epoch=0)
        optimizer, schedule = build_optimizer(module.parameters(), params, len(batches))
        clock.start()
        for batch in batches:
            optimizer.zero_grad()
            loss = module.objective(module.network(batch.images), batch).total
            loss.backward()
            optimizer.step()
            schedule.step()
        clock.stop()

    def train_usual(self, clock: Clock, workers: int) -> None:
        """JPEG files, one by one, and the contiguous format."""
        module = self.module()
        module.network.to(memory_format=torch.contiguous_format)
        self.trainer(clock).fit(module, train_dataloaders=self.jpeg_loader(workers))

    def jpeg_loader(self, workers: int) -> DataLoader[Batch]:
        """ImageFolder and augmentation of torchvision, with our labels."""
        folder = make_reference(self.scratch / "faces", 1, 0).dataset
        return DataLoader(
            LabelledFolder(folder, self.split),
            batch_size=self.params.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            collate_fn=collate,
        )


class LabelledFolder(Dataset[Any]):
    """An ImageFolder whose files are named by their row."""

    def __init__(self, folder: Any, split: Split) -> None:
        self.folder = folder
        self.split = split
        self.rows = [int(Path(file).stem) for file, _ in folder.samples]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, Any, int]:
        row = self.rows[index]
        return self.folder[index][0], int(self.split.expression[row]), self.split.valence_arousal[row], row


def collate(items: list[Any]) -> Batch:
    """A batch in the contiguous format."""
    images, expression, va, rows = zip(*items, strict=True)
    soft = torch.full((len(rows), 8), torch.nan)
    return Batch(
        torch.stack(images), torch.tensor(expression), torch.from_numpy(np.stack(va)), soft, torch.tensor(rows)
    )


def _read_clocks() -> tuple[float, float]:
    return time.perf_counter(), read_cpu_seconds()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--architecture", default="vgg")
    parser.add_argument("--width", type=float, default=0.35)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1, help="processors that each way may use")
    return parser.parse_args()


if __name__ == "__main__":
    main()
