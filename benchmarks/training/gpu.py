"""Images a second of our `fit` on a GPU, beside a plain loop, and how much of the time the device worked.

    .venv/bin/python benchmarks/training/gpu.py [--images 65536] [--batch 256] [--precision fp32] [--rounds 3]

- ours: `AffectModule` and `FaceData` under Lightning's trainer, as `train_network` builds them: bytes from pinned
  memory, the next batch made in a thread, no look at the device within an epoch;
- plain: a bare PyTorch loop over the same batches, made in turns with the steps.

One epoch each in turns, to the end of its last step, with the device waited for. The device's share is the time of its
kernels, as PyTorch's profiler counts it over one more epoch, of that epoch's. `waits` are the operations in that epoch
that made the program wait for the device (torch.cuda.set_sync_debug_mode). Random pixels and labels, the paper's
augmentation. Without a device all of it runs on the CPU, to show that it starts; the first line then says so.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from pocketaffect.config import TrainParams, load_params
from pocketaffect.data.shards.batches import train_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.training.checks import find_device
from pocketaffect.training.inputs import FaceData
from pocketaffect.training.module import AffectModule
from pocketaffect.training.objective import Objective
from pocketaffect.training.optimizer import build_optimizer
from pocketaffect.training.trainer import build_trainer

SETTINGS = Path(__file__).resolve().parents[2] / "params.yaml"


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    change = {"accelerator": "auto", "epochs": 1, "batch_size": arguments.batch, "precision": arguments.precision}
    params = load_params(SETTINGS).train.model_copy(update={**change, "instructions": "native"})
    device = find_device(params)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(f"device: {name}" if device != "cpu" else "NO GPU was there: all of this ran on the CPU")
    images = arguments.images // arguments.batch * arguments.batch
    print(
        f"{images} faces of {arguments.size} px, batches of {arguments.batch}, {arguments.precision}, "
        f"{arguments.architecture} x {arguments.width}"
    )
    split = make_split(arguments.images, arguments.size)
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: train_ours(params, split, network(arguments)),
        "plain": lambda: train_plain(params, split, network(arguments), device),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds + 1):  # the first one warms up
        for way, train in ways.items():
            seconds[way].append(train())
    print("\n| way | images a second, median | all rounds | device's share | waits |\n|---|---|---|---|---|")
    for way, train in ways.items():
        rates = [images / one for one in seconds[way][1:]]
        share, waits = watch(train, device)
        rounds = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(f"| {way} | {statistics.median(rates):,.0f} | {rounds} | {share} | {waits} |")


def network(arguments: argparse.Namespace) -> AffectNetwork:
    """A new network."""
    torch.manual_seed(1)
    return AffectNetwork(NetworkSpec(arguments.architecture, arguments.width, arguments.size, "prototype"))


def make_split(images: int, size: int) -> Split:
    """Random faces, one in four without valence and arousal."""
    generator = np.random.default_rng(1)
    affect = generator.uniform(-1, 1, (images, 2)).astype(np.float32)
    affect[::4] = np.nan
    pixels = generator.integers(0, 256, (images, size, size, 3), np.uint8)
    paths = tuple(f"{row}.jpg" for row in range(images))
    return Split((pixels,), np.array([0]), paths, np.arange(images) % 8, affect)


class EpochClock(pl.Callback):
    """Seconds from the start of the epoch to the end of its last step."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002, D102
        synchronize(pl_module.device.type)
        self.begun = time.perf_counter()

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        if batch_idx == int(trainer.num_training_batches) - 1:
            synchronize(pl_module.device.type)
            self.seconds = time.perf_counter() - self.begun


def train_ours(params: TrainParams, split: Split, model: AffectNetwork) -> float:
    """Seconds of an epoch."""
    clock = EpochClock()
    few = Split(
        tuple(shard[:8] for shard in split.shards),
        split.starts,
        split.paths[:8],
        split.expression[:8],
        split.valence_arousal[:8],
    )
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
        module = AffectModule(model, Objective(params, split.expression), params, split.paths)
        build_trainer(params, Path(scratch), [clock]).fit(module, datamodule=FaceData(split, few, params))
    return clock.seconds


def train_plain(params: TrainParams, split: Split, model: AffectNetwork, device: str) -> float:
    """Seconds of an epoch."""
    model = model.to(device, memory_format=torch.channels_last).train()
    objective = Objective(params, split.expression).to(device)
    batches = train_batches(split, params.batch_size, params.augment, seed=params.seed, epoch=0)
    optimizer, schedule = build_optimizer(model.parameters(), params, len(batches))
    mixed = torch.autocast(device, torch.bfloat16, enabled=params.precision == "bf16")
    synchronize(device)
    begun = time.perf_counter()
    for batch in batches:
        there = batch.to(torch.device(device))
        optimizer.zero_grad()
        with mixed:
            logits, affect = model(there.images)
        objective((logits.float(), affect.float()), there).total.backward()
        optimizer.step()
        schedule.step()
    synchronize(device)
    return time.perf_counter() - begun


def watch(train: Callable[[], float], device: str) -> tuple[str, str]:
    """The device's share of an epoch's time, and how often the program waited for it."""
    if device != "cuda":
        return "no GPU", "no GPU"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds = train()
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train()
    torch.cuda.set_sync_debug_mode("default")
    return f"{busy / seconds:.0%}", str(sum("synchronizing" in str(one.message) for one in caught))


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=65536)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--architecture", default="vgg")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
