"""Workers of a sweep: none of 200 trials lost or doubled by 8 processes, two workers beside one, a size's price.

    .venv/bin/python benchmarks/sweep/workers.py [--trials 200] [--processes 8] [--trainings 8]

The first part's trials take no time and the second's train a small network on drawn colours, one thread each. Beside
the second stands what a second bare process adds on this machine, training the same network without any sweep: two
threads of one core are not two cores. Needs no data. benchmarks/LABBOOK.md holds the results.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "sweep"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "training"))

from sweep_parts import begin, make_params, make_root, note_training
from training_parts import write_separable_shards

from pocketaffect import paths
from pocketaffect.arithmetic import pinned_children
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.sweep.objective import train_trial
from pocketaffect.sweep.results import count_epochs
from pocketaffect.sweep.run import run_trials

BUDGET = 110_000
GUESSES = 2000
STEPS = 400
WARM_STEPS = 20


def main() -> None:
    """Prints the figures, each with what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--trainings", type=int, default=8)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        count_instant_trials(Path(folder) / "instant", arguments.trials, arguments.processes)
        compare_workers(Path(folder), arguments.trainings)
    time_prediction()
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def count_instant_trials(root: Path, trials: int, processes: int) -> None:
    """Every trial leaves a note when it trains, so that lost and doubled ones show."""
    sweep = begin(make_root(root), note_training, trials=trials, workers=processes, budget_bytes=BUDGET, sampler="tpe")
    start = time.monotonic()
    rows = run_trials(sweep)
    seconds = time.monotonic() - start
    notes = collections.Counter(note.parent.name for note in root.glob(".work/sweep/*/trials/*/*.note"))
    trained = [row for row in rows if row.outcome == "done" and not row.remark]
    over = [row for row in rows if row.outcome == "over budget"]
    lost = trials - len(rows) + sum(f"{row.first:05d}" not in notes for row in trained)
    doubled = sum(count > 1 for count in notes.values())
    wrong = sum(f"{row.first:05d}" in notes for row in over)
    workers = {trial.user_attrs["worker"] for trial in sweep.study.trials}
    print(
        f"{trials} instant trials by {len(workers)} processes in {seconds:.1f} s: {lost} lost, {doubled} doubled "
        f"(wanted 0, 0); {len(over)} over the budget, of which {wrong} trained (wanted 0)"
    )


def compare_workers(folder: Path, trainings: int) -> None:
    """The same trials by one worker and by two, in turns: one, two, two, one."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn, workers in enumerate((1, 2, 2, 1)):
        root = make_root(folder / f"turn{turn}")
        shutil.rmtree(root / paths.SHARDS)
        write_separable_shards(root / paths.SHARDS, train=1600, validation=160)
        sweep = begin(root, train_trial, trials=trainings, workers=workers, space={"train.learning_rate": RATES})
        start = time.monotonic()
        rows = run_trials(sweep)
        hours = (time.monotonic() - start) / 3600
        assert count_epochs(rows) == sweep.plan.params.sweep.epochs * trainings
        rates[workers].append(trainings / hours)
        print(f"{workers} worker(s): {trainings / hours:.0f} trials an hour, their start included", flush=True)
    one, two = (sum(values) / len(values) for values in rates.values())
    print(f"two workers against one: {two / one:.2f} times (wanted 1.7)")
    bare = [rate_processes(count) for count in (1, 2, 2, 1)]
    print(
        f"two bare processes against one: {(bare[1] + bare[2]) / (bare[0] + bare[3]):.2f} times, which is the machine's"
    )


def rate_processes(count: int) -> float:
    """Training steps a second of all processes together, their start apart."""
    context = multiprocessing.get_context("spawn")
    ready, ended = context.Barrier(count + 1), context.Barrier(count + 1)
    with pinned_children(threads=1, instructions="avx2"):
        processes = [context.Process(target=take_steps, args=(ready, ended)) for _ in range(count)]
        for process in processes:
            process.start()
    ready.wait()
    start = time.monotonic()
    ended.wait()
    seconds = time.monotonic() - start
    for process in processes:
        process.join()
    return count * STEPS / seconds


def take_steps(ready: Any, ended: Any) -> None:
    """Steps of the network that the trials train, on noise."""
    import torch

    from pocketaffect.models.network import AffectNetwork, NetworkSpec

    torch.set_num_threads(1)
    params = make_params()
    network = (
        AffectNetwork(NetworkSpec.from_params(params.model, params.preprocess.image_size))
        .to(memory_format=torch.channels_last)
        .train()
    )
    optimizer = torch.optim.AdamW(network.parameters())
    size = params.preprocess.image_size
    images = torch.rand(params.train.batch_size, 3, size, size).to(memory_format=torch.channels_last)
    for step in range(WARM_STEPS + STEPS):
        if step == WARM_STEPS:
            ready.wait()
        logits, valence_arousal = network(images)
        optimizer.zero_grad()
        (logits.square().mean() + valence_arousal.square().mean()).backward()
        optimizer.step()
    ended.wait()


def time_prediction() -> None:
    """A guess with known shapes, and one of a network that was not seen before."""
    from pocketaffect.models.network import NetworkSpec

    params = make_params()
    spec = NetworkSpec.from_params(params.model, params.preprocess.image_size)
    start = time.perf_counter()
    shapes = list_shapes(spec)
    fresh = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(GUESSES):
        predict_package_bytes(shapes, "int8")
    each = (time.perf_counter() - start) / GUESSES
    print(f"a size prediction: {each * 1e6:.0f} microseconds; of a network not seen before {fresh * 1e3:.0f} ms")


RATES = {"low": 0.001, "high": 0.01}

if __name__ == "__main__":
    main()
