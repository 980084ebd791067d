"""Augmented batches into training: ours beside torchvision's ImageFolder and DataLoader, in one run.

    .venv/bin/python benchmarks/data/input_pipeline.py [--images 4000] [--size 128] [--batch 32] [--rounds 5]

Both give float32 batches in [0, 1] of the same faces with the paper's augmentation (rotation up to 20 degrees, shift
up to a tenth, flip) in the same interpolation (bilinear), and ours a second time with all that `augment` can change of
geometry, focus and colour, which the reference is spared. Ours reads uint8 shards; the reference reads the faces as
JPEG files of the network's size, the form the paper trained from, with the best of 0, 1 and 2 worker processes, which
live through all epochs. Images per second of wall time, the median of several epochs in turns; and per CPU second of
all processes, since on a shared machine three processes get more of it than one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from affectnet_like import describe_machine, draw_photograph
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode

from pocketaffect.config import AugmentParams
from pocketaffect.data.shards.batches import train_batches
from pocketaffect.data.shards.split import Split

SHARD = 2048
PAPER = AugmentParams(rotation_degrees=20.0, shift=0.1, flip=0.5, brightness=0.0, contrast=0.0, cutout=0.0, mixup=0.0)
CAMERA = {"zoom": 0.15, "aspect": 0.15, "blur": 0.9, "sharpen": 0.5, "tint": 0.3, "jpeg": 0.3}


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
        split = make_faces(Path(scratch), arguments.images, arguments.size)
        print(f"{describe_machine()}; {arguments.images} faces of {arguments.size} px, batches of {arguments.batch}\n")
        epochs: dict[str, Callable[[int], Any]] = {
            name: lambda epoch, augment=augment: train_batches(split, arguments.batch, augment, seed=7, epoch=epoch)
            for name, augment in (
                ("shards, one warp", PAPER),
                ("shards, with zoom, aspect, blur, sharpening, tint and JPEG", PAPER.model_copy(update=CAMERA)),
            )
        }
        for workers in (0, 1, 2):
            loader = make_reference(Path(scratch) / "faces", arguments.batch, workers)
            epochs[f"ImageFolder, num_workers={workers}"] = lambda _, loader=loader: loader
        walls: dict[str, list[float]] = {name: [] for name in epochs}
        costs: dict[str, list[float]] = {name: [] for name in epochs}
        for epoch in range(arguments.rounds + 1):  # the first one warms up
            for name, batches in epochs.items():
                wall, cpu = measure(lambda: run_through(batches(epoch)))  # noqa: B023
                walls[name].append(arguments.images / wall)
                costs[name].append(arguments.images / cpu)
        print("| images | a second, median | all epochs | a CPU second, median |")
        print("|---|---|---|---|")
        median = {name: statistics.median(found[1:]) for name, found in walls.items()}
        for name, found in walls.items():
            rounds = " ".join(f"{value:.0f}" for value in found[1:])
            print(f"| {name} | {median[name]:.0f} | {rounds} | {statistics.median(costs[name][1:]):.0f} |")
        for title, found in (("wall", median), ("CPU", {n: statistics.median(c[1:]) for n, c in costs.items()})):
            ours, with_camera, *others = found.values()
            print(
                f"\n{title}: {ours / max(others):.1f} and {with_camera / max(others):.1f} times the best reference",
                end="",
            )
        print(f"; load at the end {os.getloadavg()[0]:.1f}")


def make_faces(root: Path, count: int, size: int) -> Split:
    """The same faces as an ImageFolder's JPEGs (eight classes) and as memory-mapped shards."""
    generator = np.random.default_rng(2018)
    drawn = np.stack([draw_photograph(size, size, generator) for _ in range(64)])
    expression = generator.integers(0, 8, count)
    shards = []
    for start in range(0, count, SHARD):
        faces = drawn[np.arange(start, min(start + SHARD, count)) % len(drawn)]
        np.save(root / f"{start}.npy", faces)
        shards.append(np.load(root / f"{start}.npy", mmap_mode="r"))
    for number, code in enumerate(expression.tolist()):
        file = root / "faces" / str(code) / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), drawn[number % len(drawn)])
    return Split(
        shards=tuple(shard.view(np.ndarray) for shard in shards),
        starts=np.arange(0, count, SHARD, dtype=np.int64),
        paths=tuple(str(number) for number in range(count)),
        expression=expression,
        valence_arousal=generator.uniform(-1, 1, (count, 2)).astype(np.float32),
    )


def make_reference(faces: Path, batch: int, workers: int) -> DataLoader[Any]:
    """The common way: every part torchvision's own."""
    augment = transforms.Compose(
        [
            transforms.RandomAffine(20, translate=(0.1, 0.1), interpolation=InterpolationMode.BILINEAR),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
    )
    return DataLoader(
        ImageFolder(str(faces), augment),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def run_through(batches: Any) -> None:
    """One epoch, as a training sees it."""
    for batch in batches:
        images = batch[0] if isinstance(batch, list) else batch.images
        assert images.dtype == torch.float32


def measure(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall time, and of CPU time of this process and its living children."""
    wall, cpu = time.perf_counter(), read_cpu_seconds()
    work()
    return time.perf_counter() - wall, read_cpu_seconds() - cpu


def read_cpu_seconds() -> float:
    """User and system time so far; a reference's workers live from its first epoch to the end of the program."""
    own = Path("/proc/self/task") / str(os.getpid()) / "children"
    ticks = 0
    for child in own.read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
