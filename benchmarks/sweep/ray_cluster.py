"""A two-node Ray cluster on this machine against its own processes: same shards, same trials, same network.

    python benchmarks/sweep/ray_cluster.py [--images 160] [--trials 8]

Cuts the sample's faces, runs a sweep of random configurations, trains with two processes, each once locally and once on
the cluster; then repeats the sweep and kills a node amid it. Exits with 1 where anything differs or is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from two_nodes import run_two_nodes

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import PARAMS_FILE, Params, load_params
from pocketaffect.executor.interface import find_executor
from pocketaffect.sweep.results import TrialRow
from pocketaffect.training.launch import run_ranks, train_here

TOLERANCE = 0.05
"""Of losses and metrics: two processes add in another order, and the network grows that from step to step."""

CLOCK: dict[str, float] = {}


def main() -> None:
    """Runs it all and prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--trials", type=int, default=8)
    chosen = parser.parse_args()
    pin_arithmetic(threads=1, instructions="avx2")
    params = choose_params(chosen.images, chosen.trials)
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder, contextlib.chdir(folder):
        prepare_data(params)
        faults += cut(params, "local")
        local = sweep(params, "local")
        one, two = train(params, "local", 1), train(params, "local", 2)
        faults += compare_histories("two processes", one, two, limit=TOLERANCE)
        with timed("start of the cluster"), contextlib.ExitStack() as stack:
            cluster = stack.enter_context(run_two_nodes())
            stay = stack.pop_all()
        with stay:
            faults += cut(params, "ray")
            faults += compare_histories("two processes on ray", two, train(params, "ray", 2), limit=0.0)
            faults += compare("sweep on ray", local, sweep(params, "ray"))
            faults += compare("sweep with a killed node", local, sweep(params, "ray", NodeKiller(cluster)))
    print("\n".join(f"{name:<32} {seconds:7.1f} s" for name, seconds in CLOCK.items()))
    print("\n".join(faults) or "equal everywhere; a killed node cost the trial that ran on it, which was repeated")
    sys.exit(1 if faults else 0)


def choose_params(images: int, trials: int) -> Params:
    """The shipped settings with a small sample and a space of small networks."""
    content = load_params(Path(__file__).parents[2] / PARAMS_FILE).model_dump(by_alias=True)
    content["sample"] |= {"train_images": images, "validation_images": max(64, images // 4)}
    content["preprocess"] |= {"image_size": 32, "workers": 2, "shard_images": 64, "memory_mb": 8192}
    content["model"] |= {"architecture": "alexnet", "width": 0.2}
    content["train"] |= {"epochs": 2, "batch_size": 16}
    content["sweep"] |= {
        **{"trials": trials, "epochs": 3, "workers": 2, "sampler": "random", "pruner": "none"},
        "space": {
            "model.width": {"low": 0.1, "high": 0.6},
            "train.learning_rate": {"low": 0.0003, "high": 0.006, "log": True},
        },
    }
    return Params.model_validate(content)


def prepare_data(params: Params) -> None:
    """data/ and out/manifest/, as the stages `sample` and `validate` make them."""
    from pocketaffect.data.contract.check import check_contract, write_result
    from pocketaffect.data.faces.probe import probe_images
    from pocketaffect.data.release.folder import DataFolder
    from pocketaffect.data.release.layouts import read_annotations
    from pocketaffect.data.sample.generate import generate_sample

    generate_sample(paths.DATA, params.sample)
    annotations = read_annotations(DataFolder.open(paths.DATA))
    probes = probe_images(paths.DATA, annotations.rows, workers=1)
    limits = params.validate_.model_copy(update={"near_duplicate_distance": -1})
    result = check_contract(annotations, probes, limits, None)
    write_result(result, paths.MANIFEST)


def cut(params: Params, executor: str) -> list[str]:
    """Writes the shards; what differs from those that are there."""
    from pocketaffect.data.shards.write import write_shards

    target = paths.SHARDS if executor == "local" else paths.OUTPUTS / "shards-again"
    place = find_executor(executor)
    place.require_shared_folder("preprocess")
    with timed(f"preprocess, {executor}"):
        write_shards(
            paths.MANIFEST_TABLE,
            paths.DATA,
            target,
            paths.SHARD_DRAFTS,
            params.preprocess,
            executor=place,
        )
    here, there = hash_files(paths.SHARDS), hash_files(target)
    print(f"preprocess, {executor}: {len(there)} files, {len(here.items() - there.items())} differ")
    return [] if here == there else [f"preprocess on {executor}: other bytes"]


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 of each file below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def train(params: Params, executor: str, processes: int) -> list[dict[str, float]]:
    """The history of a training by so many processes."""
    alone = params.train.model_copy(update={"devices": 1, "nodes": processes})
    call = partial(train_here, params.model_copy(update={"train": alone}), progress=False)
    with timed(f"training, {executor}, {processes} process(es)"):
        run_ranks(find_executor(executor), call, ranks=processes, accelerator="cpu", work=paths.RANKS)
    lines = (paths.MODEL / "history.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), map(float, line.split(",")), strict=True)) for line in lines[1:]]


def compare_histories(
    name: str, one: Sequence[dict[str, float]], other: Sequence[dict[str, float]], *, limit: float
) -> list[str]:
    """Prints the largest difference of any number of any epoch; a fault where it is over the limit."""
    differences = [abs(a[key] - b[key]) for a, b in zip(one, other, strict=True) for key in a]
    print(f"{name}: losses and metrics differ by {max(differences):.2g} at most over {len(one)} epochs")
    return [f"{name}: differ by {max(differences)}, allowed {limit}"] if max(differences) > limit else []


class NodeKiller:
    """Kills the second node once, when a trial has ended and two are at work."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.killed = False

    def update(self, rows: Sequence[TrialRow]) -> None:
        """Looks at the trials."""
        outcomes = [row.outcome for row in rows]
        if not self.killed and "done" in outcomes and outcomes.count("running") == 2:
            self.cluster.remove_node(next(iter(self.cluster.worker_nodes)), allow_graceful=False)
            self.killed = True


def sweep(params: Params, executor: str, killer: NodeKiller | None = None) -> list[TrialRow]:
    """The trials of a new study; the local one has a single worker, so that nothing runs beside it."""
    from pocketaffect.sweep.run import prepare_sweep, run_trials

    changes = {"executor": executor, "workers": 1 if executor == "local" else 2}
    chosen = params.model_copy(update={"sweep": params.sweep.model_copy(update=changes)})
    name = f"sweep, {executor}" + (", a node killed" if killer else "")
    with timed(name):
        rows = run_trials(prepare_sweep(chosen, new=True), [] if killer is None else [killer])
    repeated = [row.first for row in rows if row.number != row.first]
    print(f"{name}: {len(rows)} trials, repeated after a loss: {repeated or 'none'}")
    if killer is not None and not killer.killed:
        raise SystemExit("the sweep ended before a node could be killed: give it more --trials")
    return rows


def compare(name: str, one: Sequence[TrialRow], other: Sequence[TrialRow]) -> list[str]:
    """What differs between two sweeps in settings, outcomes and scores; more than one lost trial."""
    first, second = describe(one), describe(other)
    faults = [f"{name}: {len(other)} trials, {len(one)} wanted"] if len(one) != len(other) else []
    faults += [f"{name}: {key}: {first.get(key)}, {value}" for key, value in second.items() if first.get(key) != value]
    lost = [row.number for row in other if row.number != row.first]
    return [*faults, f"{name}: trials {lost} were lost"] if len(lost) > 1 else faults


def describe(rows: Sequence[TrialRow]) -> dict[tuple[tuple[str, Any], ...], tuple[str, float | None]]:
    """Outcome and score by settings."""
    return {tuple(sorted(row.settings.items())): (row.outcome, row.score) for row in rows}


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Notes the seconds that the block takes."""
    begun = time.perf_counter()
    yield
    CLOCK[name] = time.perf_counter() - begun


if __name__ == "__main__":
    main()
