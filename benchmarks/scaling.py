"""What AffectNet costs on one GPU, eight, and four nodes: an image's costs are measured here, the rest is arithmetic.

    python benchmarks/scaling.py [--images 150] [--rounds 3]

Measured, in CPU seconds of one core: looking at an image (`validate`), cutting its face (`preprocess`), reading and
augmenting it for a step, and the step itself on the CPU. Assumed, for want of a GPU: the constants below.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import pandas as pd
import torch

from pocketaffect.config import PreprocessParams
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.shards.batches import train_batches
from pocketaffect.data.shards.write import write_shards
from pocketaffect.labels import BOX_COLUMNS
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs

sys.path.insert(0, str(Path(__file__).parent / "data"))
from affectnet_like import Folder, describe_machine, make_folder
from input_pipeline import PAPER, make_faces

GPU_FLOPS: Final = 1e13
"""Assumed: what small convolutions reach on a data-centre GPU in fp32, a fifth or less of its promise."""

STEP_SECONDS: Final = {1: 0.003, 8: 0.006, 32: 0.015}
"""Assumed: what a process spends on starting a step's kernels, and on waiting for so many others at each layer."""

CORES_PER_GPU: Final = 8
EPOCHS: Final = 16
BATCH: Final = 64
IMAGES: Final = (450_000, 1_000_000)
SIZES: Final = (64, 96)
NETWORKS: Final = (("vgg", 0.35), ("vgg", 1.0), ("mobilenetv3_small", 1.0))


@dataclass(frozen=True)
class Costs:
    """Of one image, in CPU seconds; bytes of its file."""

    look: float
    cut: dict[int, float]
    read: dict[int, float]
    step: dict[tuple[str, float, int], float]
    macs: dict[tuple[str, float, int], int]
    file_bytes: float


def main() -> None:
    """Measures, then prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder:
        costs = measure_costs(Path(folder), chosen.images, chosen.rounds)
    print(f"{describe_machine()}; load {os.getloadavg()[0]:.1f}\n")
    print(f"measured, images a CPU second: look {1 / costs.look:.0f} (files of {costs.file_bytes / 1000:.0f} kB)")
    for size in SIZES:
        print(f"  at {size} px: cut {1 / costs.cut[size]:.0f}, read and augment {1 / costs.read[size]:.0f}")
        for name, width in NETWORKS:
            key = (name, width, size)
            print(f"    {name} x {width:g}: {1 / costs.step[key]:.0f} trained, {costs.macs[key] / 1e6:.1f} MMACs")
    for size in SIZES:
        print_table(costs, size)


def measure_costs(root: Path, count: int, rounds: int) -> Costs:
    """The median of some rounds of each."""
    folder = make_folder(root / "originals", count)
    rows = make_rows(folder)

    def each(images: int, work: Callable[[], object]) -> float:
        work()  # warms up
        found = []
        for _ in range(rounds):
            begun = time.process_time()
            work()
            found.append((time.process_time() - begun) / images)
        return statistics.median(found)

    cut, read, step, macs = {}, {}, {}, {}
    look = each(count, lambda: probe_images(folder.source, rows, workers=1))
    for size in SIZES:
        cut[size] = each(count, lambda: cut_faces(folder.manifest, folder.source, root, size))  # noqa: B023
        (root / str(size)).mkdir()
        split = make_faces(root / str(size), 1024, size)
        read[size] = each(1024, lambda: list(train_batches(split, BATCH, PAPER, seed=7, epoch=0)))  # noqa: B023
        for name, width in NETWORKS:
            spec = NetworkSpec(name, width, size, "prototype")
            network = AffectNetwork(spec, mean=[0.5] * 3, deviation=[0.25] * 3)
            macs[name, width, size] = count_macs(network, size)
            step[name, width, size] = each(4 * BATCH, make_steps(network, size, 4))
    file_bytes = float(np.mean([(folder.source / path).stat().st_size for path in folder.paths]))
    return Costs(look, cut, read, step, macs, file_bytes)


def make_rows(folder: Folder) -> pd.DataFrame:
    """The rows that `probe_images` asks for."""
    places = {"path": folder.paths, "archive": "", "offset": 0, "length": 0, "deflated": False}
    return pd.DataFrame(places | dict(zip(BOX_COLUMNS, folder.boxes.T, strict=True)))


def cut_faces(manifest: Path, source: Path, root: Path, size: int) -> None:
    """As the stage does, with one process."""
    settings = PreprocessParams(
        image_size=size, margin=0.0, align="none", workers=1, executor="local", shard_images=2048, memory_mb=8192
    )
    write_shards(manifest, source, root / "shards", root / "work", settings)


def make_steps(network: AffectNetwork, size: int, count: int) -> Callable[[], None]:
    """So many steps of AdamW on one batch."""
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    faces = torch.rand(BATCH, 3, size, size).to(memory_format=torch.channels_last)
    truth = torch.randint(0, 8, (BATCH,))

    def work() -> None:
        for _ in range(count):
            logits, affect = network(faces)
            loss = torch.nn.functional.cross_entropy(logits, truth) + affect.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return work


def print_table(costs: Costs, size: int) -> None:
    """Hours, gigabytes and who waits for whom."""
    print(
        f"\n{size} px, {EPOCHS} epochs | looking + cutting | training: "
        + " | ".join(f"{n} x {w:g}" for n, w in NETWORKS)
    )
    for images in IMAGES:
        shards = images * size * size * 3 / 1e9
        print(f"{images:,} images: originals {images * costs.file_bytes / 1e9:.0f} GB, shards {shards:.1f} GB")
        print(line("2 cores", images, costs, size, cores=2, gpus=0))
        for name, gpus in (("1 GPU", 1), ("8 GPUs, 1 node", 8), ("32 GPUs, 4 nodes", 32)):
            print(line(name, images, costs, size, cores=gpus * CORES_PER_GPU, gpus=gpus))


def line(name: str, images: int, costs: Costs, size: int, *, cores: int, gpus: int) -> str:
    """One machine: the slower of its processes (reading, starting kernels, waiting) and its GPUs decides."""
    data = images * (costs.look + costs.cut[size]) / cores
    cells = []
    for network, width in NETWORKS:
        key = (network, width, size)
        if gpus:
            process = BATCH * costs.read[size] + STEP_SECONDS[gpus]
            compute = BATCH * 6 * costs.macs[key] / GPU_FLOPS  # forward 2 operations a MAC, backward twice as many
            rate, bound = gpus * BATCH / max(process, compute), "GPU" if compute > process else "process"
        else:
            rate, bound = 1 / (costs.step[key] + costs.read[size]), "one thread"
        cells.append(f"{format_time(images * EPOCHS / rate)} ({bound})")
    return f"  {name:<18} {format_time(data):>8} | " + " | ".join(cells)


def format_time(seconds: float) -> str:
    """Minutes or hours."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    main()
