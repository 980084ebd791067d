"""What the sweep finds under three budgets, beside a width grid and random search at as many trained epochs.

    .venv/bin/python benchmarks/sweep/search.py PATH [--images 3000] [--epochs 6] [--work DIR]

PATH is a folder in AffectNet's CSV layout. A clone of HEAD validates it and cuts the faces at 32 pixels; a part of them
is trained on. The grid takes the shipped recipe through architectures and widths. Random search and the sweep (as
params.yaml has it: warm start, TPE, ASHA) may also choose precision and recipe, and stop when they have trained as many
epochs as the grid's networks within the budget did. Kill it and repeat the command: it goes on in DIR.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 32
BUDGETS = (250_000, 500_000, 1_000_000)
ARCHITECTURES = ["vgg", "mobilenet"]
WIDTHS = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7]
SEARCHED: dict[str, Any] = {
    "model.architecture": ARCHITECTURES,
    "model.width": {"low": min(WIDTHS), "high": max(WIDTHS), "log": True},
    "export.precision": ["int8", "palette6"],
    "train.learning_rate": {"low": 0.0003, "high": 0.006, "log": True},
    "train.weight_decay": {"low": 0.003, "high": 0.1, "log": True},
    "train.class_weights": ["none", "balanced", "effective"],
    "train.va_weight": {"low": 1.0, "high": 10.0, "log": True},
}
METHODS: dict[str, dict[str, Any]] = {
    "random search": {"sampler": "random", "pruner": "none", "warm_start": False},
    "sweep": {"sampler": "tpe", "pruner": "asha", "warm_start": True},
}
MOST_TRIALS = 400
ENOUGH = 0.95


def main() -> None:
    """Prints one row for each budget and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--images", type=int, default=3000, help="training images")
    parser.add_argument("--epochs", type=int, default=6, help="of a whole training")
    parser.add_argument("--seed", type=int, default=2018)
    parser.add_argument("--work", type=Path, default=REPOSITORY / ".work" / "benchmark-sweep")
    arguments = parser.parse_args()
    from pocketaffect.arithmetic import pin_arithmetic

    pin_arithmetic(threads=1, instructions="avx2")
    root = arguments.work.resolve()
    prepare_faces(root, arguments.path.resolve(), arguments.images)

    grid = search_grid(root, arguments.epochs, arguments.seed)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {arguments.images} training images of {SIZE} px")
    print(
        "| budget | method | epochs | best score | bytes | epochs to 95 % of the grid's best | over budget, trained |"
    )
    print("|---|---|---|---|---|---|---|")
    for budget in BUDGETS:
        fitting = [row for row in grid if row.bytes <= budget]
        epochs = sum(row.epochs for row in fitting)
        goal = ENOUGH * max(row.score for row in fitting)
        print_row(budget, "width grid", fitting, goal)
        for name, method in METHODS.items():
            rows = search(root, budget, epochs, arguments.epochs, arguments.seed, method)
            print_row(budget, name, rows, goal)


def prepare_faces(root: Path, data: Path, images: int) -> None:
    """A clone with manifest and shards of a part of the faces."""
    from pocketaffect import paths

    if not root.exists():
        draft = root.with_name(f"{root.name}.draft")
        subprocess.run(["rm", "-rf", str(draft)], check=True)
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(draft)], check=True)
        draft.rename(root)
    if (root / paths.SHARDS).exists():
        return
    settings = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(settings.replace("image_size: 64 ", f"image_size: {SIZE} "), encoding="utf-8")
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PATH": f"{binaries}:{os.environ['PATH']}"}
    for command in (["pocketaffect", "data", "use", str(data)], ["dvc", "repro", "validate"]):
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=sys.stderr)
    thin_out(root / paths.MANIFEST_TABLE, images)
    subprocess.run(
        [sys.executable, "pipelines/preprocess.py"], cwd=root, env=environment, check=True, stdout=sys.stderr
    )


def thin_out(manifest: Path, images: int) -> None:
    """Leaves every n-th training face."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(manifest)
    training = pc.equal(table["split"].cast(pa.string()), "train")
    train = table.filter(training)
    step = max(1, len(train) // images)
    kept = train.take(pa.array(range(0, len(train), step)[:images]))
    pq.write_table(pa.concat_tables([kept, table.filter(pc.invert(training))]), manifest)


def make_params(root: Path, **sweep: Any) -> Any:
    """The clone's settings with another sweep."""
    from pocketaffect.config import Params
    from pocketaffect.files import read_yaml

    content = read_yaml(root / "params.yaml")
    content["sweep"] |= {"objectives": "score", "workers": 1, "executor": "local", "storage": "journal"} | sweep
    return Params.model_validate(content)


def search_grid(root: Path, epochs: int, seed: int) -> list[Any]:
    """Every architecture at every width, trained to the end."""
    from pocketaffect.sweep.run import prepare_sweep
    from pocketaffect.sweep.worker import run_worker

    points = [
        {"model.architecture": name, "model.width": width} for name, width in itertools.product(ARCHITECTURES, WIDTHS)
    ]
    params = make_params(
        root,
        budget_bytes=10**9,
        trials=len(points),
        epochs=epochs,
        sampler="random",
        pruner="none",
        warm_start=False,
        seed=seed,
        space={"model.architecture": ARCHITECTURES, "model.width": WIDTHS},
    )
    sweep = begin(prepare_sweep, params, root)
    if not sweep.study.trials:
        for point in points:
            sweep.study.enqueue_trial(point)
    run_worker(sweep.plan)
    return [row for row in sweep.rows() if row.outcome == "done"]


def search(root: Path, budget: int, wanted: int, epochs: int, seed: int, method: dict[str, Any]) -> list[Any]:
    """Trial after trial until as many epochs were trained as wanted; the last one may go beyond and is left out."""
    from pocketaffect.sweep.results import count_epochs
    from pocketaffect.sweep.run import prepare_sweep
    from pocketaffect.sweep.worker import run_worker

    trials = 0
    while trials < MOST_TRIALS:
        trials += 1
        params = make_params(
            root, budget_bytes=budget, trials=trials, epochs=epochs, seed=seed, space=SEARCHED, **method
        )
        sweep = begin(prepare_sweep, params, root)
        run_worker(sweep.plan)
        rows = sweep.rows()
        if count_epochs(rows) >= wanted:
            return rows[:-1] if count_epochs(rows) > wanted else rows
        print(f"  {budget:,} {method['sampler']}: {count_epochs(rows)} of {wanted} epochs", file=sys.stderr, flush=True)
    return rows


def begin(prepare_sweep: Any, params: Any, root: Path) -> Any:
    """The study of these settings, or a new one: each method and budget asks its own question."""
    from pocketaffect import paths
    from pocketaffect.sweep.storage import open_storage
    from pocketaffect.sweep.study import ask_question

    names = {study.study_name for study in open_storage("journal", root / paths.SWEEP).get_all_studies()}
    return prepare_sweep(params, root, new=ask_question(params, root).name not in names)


def print_row(budget: int, name: str, rows: list[Any], goal: float) -> None:
    """The method's best within the budget, and what it took to come near the grid's."""
    from pocketaffect.sweep.results import best_first, count_epochs

    spent, reached = 0, "not reached"
    for row in rows:
        spent += row.epochs
        if row.outcome == "done" and row.score >= goal:
            reached = str(spent)
            break
    best = best_first(rows)[0]
    trained = sum(row.bytes > budget and row.epochs > 0 for row in rows if row.bytes)
    print(
        f"| {budget:,} | {name} | {count_epochs(rows)} | {best.score:.4f} | {best.bytes:,} | {reached} | {trained} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
