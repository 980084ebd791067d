"""What the sweep finds under three budgets, beside a width grid, random search and a recipe made by hand.

    .venv/bin/python benchmarks/sweep/search.py PATH --work DIR [--budgets 250000 …] [--trainings 10] [--faces 9000]
        [--epochs 12] [--seeds 7 8] [--instructions avx2] [--show]

PATH is FER2013 with FER+ (docs/data.md). A clone of HEAD takes it in with the recipe for photographs, sets a part of
training apart that chooses, and cuts the faces at 48 pixels; `--faces` of them are trained on. Each method may train as
many epochs as `--trainings` whole trainings have. Its best trial by the choosing part is exported, and the shipped file
answers PublicTest, which nothing was chosen on. Kill it and repeat the command: it goes on in DIR, from the epoch that
a training had reached. `--show` prints what is there, also while another process is at it.

The width grid takes the recipe through the designs, each at the widest width that fits and at four fifths of it. Random
search and the sweep (as params.yaml has it: warm start, TPE, ASHA) may also choose precision and recipe. By hand: the
row of `benchmarks/accuracy` for that budget. The recipe: what `data use` writes, at the widest width that fits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))

from rows import OUR_MODEL, OUR_TRAIN, ROWS

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.files import write_atomically, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 48
BUDGETS = (250_000, 500_000, 1_000_000)
ARCHITECTURES = ["vgg", "resnet10", "repvgg_face", "mobilenet", "mobilenetv3_small"]
WIDTHS = {"low": 0.1, "high": 1.5, "log": True}
SEARCHED: dict[str, Any] = {
    "model.architecture": ARCHITECTURES,
    "model.width": WIDTHS,
    "export.precision": ["int8", "palette6"],
    "train.learning_rate": {"low": 0.0003, "high": 0.006, "log": True},
    "train.weight_decay": {"low": 0.003, "high": 0.1, "log": True},
    "train.logit_adjustment": {"low": 0.0, "high": 1.0},
    "train.va_weight": {"low": 1.0, "high": 10.0, "log": True},
}
PLAIN: dict[str, Any] = {"sampler": "random", "pruner": "none", "warm_start": False}
GRID, BY_HAND, RECIPE = "width grid", "by hand", "the recipe"
METHODS: dict[str, dict[str, Any]] = {
    BY_HAND: PLAIN,
    RECIPE: PLAIN,
    GRID: PLAIN,
    "random search": PLAIN,
    "sweep": {"sampler": "tpe", "pruner": "asha", "warm_start": True},
}
MOST_TRIALS = 400
NARROWER = 0.8
ANSWERS, FACTS = "answers.parquet", "facts.json"


@dataclass(frozen=True)
class Case:
    """One method under one budget, by one seed, and what it may spend."""

    method: str
    budget: int
    seed: int
    trainings: int
    faces: int
    epochs: int
    instructions: str

    @property
    def folder(self) -> str:
        """Names its results."""
        name = self.method.replace(" ", "-")
        return f"{name}-{self.budget}-seed{self.seed}-{self.trainings}x{self.epochs}-of-{self.faces}"


def main() -> None:
    """Runs what is missing, then prints the table."""
    arguments = parse()
    pin_arithmetic(threads=1, instructions=arguments.instructions)
    work = arguments.work.resolve()
    root = work / f"clone-{arguments.faces}"
    cases = [
        Case(method, budget, seed, arguments.trainings, arguments.faces, arguments.epochs, arguments.instructions)
        for budget in arguments.budgets
        for seed in arguments.seeds
        for method in arguments.methods
    ]
    if not arguments.show:
        prepare_faces(root, arguments.path.resolve(), arguments.faces)
        for case in cases:
            if not (work / "results" / case.folder).is_dir():
                run_case(case, root, work / "results" / case.folder)
    show(cases, work / "results")


def prepare_faces(root: Path, data: Path, images: int) -> None:
    """A clone with manifest and shards of a part of the faces."""
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = root.with_name(f"{root.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
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
    command = [sys.executable, "pipelines/preprocess.py"]
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=sys.stderr)


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


def run_case(case: Case, root: Path, target: Path) -> None:
    """Searches, exports the best, and keeps its answers and what it took."""
    plan, rows = search(case, root)
    keep_best(plan, rows, target)


def keep_best(plan: Any, rows: list[Any], target: Path) -> None:
    """Exports the best trial; its answers, and the facts of all trials, become folder `target`."""
    from pocketaffect.sweep.results import best_first, count_epochs
    from pocketaffect.sweep.winner import PACKAGE_FOLDER, measure_winner

    winner, unfit = measure_winner(plan, rows)
    if winner is None:
        raise SystemExit(f"{target.name}: no package is fit to ship: {unfit}")
    best = next(row for row in best_first(rows) if row.number == winner.trial)
    facts = {
        "trials": len(rows),
        "trainings": sum(row.outcome == "done" for row in rows),
        "epochs": count_epochs(rows),
        "hours": sum(row.seconds or 0 for row in rows) / 3600,
        "score": winner.score,
        "bytes": winner.bytes,
        "macs": best.macs,
        "settings": dict(best.settings),
        "commit": ask_commit(),
    }
    with write_atomically(target) as draft:
        draft.mkdir(parents=True)
        shutil.copy(plan.folder / PACKAGE_FOLDER / paths.SHIPPED_PREDICTIONS.name, draft / ANSWERS)
        write_json(draft / FACTS, facts)


def search(case: Case, root: Path) -> tuple[Any, list[Any]]:
    """Trial after trial until the epochs are spent; a last one that would go beyond them is left out.

    The grid and the recipe by hand are queued points, which are trained to the end.
    """
    from pocketaffect.sweep.results import count_epochs
    from pocketaffect.sweep.worker import run_worker

    wanted = case.trainings * case.epochs
    points = list_points(case, root)
    trials = len(points)
    while trials < MOST_TRIALS:
        trials += not points
        sweep = begin(make_params(case, root, trials), root)
        if points and not sweep.study.trials:
            for point in points:
                sweep.study.enqueue_trial(point)
        run_worker(sweep.plan)
        rows = sweep.rows()
        if points:
            return sweep.plan, rows
        spent = count_epochs(rows)
        print(f"  {case.folder}: {spent} of {wanted} epochs", file=sys.stderr, flush=True)
        if spent >= wanted:
            break
    return sweep.plan, rows[:-1] if spent > wanted else rows


def list_points(case: Case, root: Path) -> list[dict[str, Any]]:
    """The grid's points: each design at its widest width that fits, and narrower; none for a method that samples."""
    from pocketaffect.sweep.budget import list_first_points
    from pocketaffect.sweep.space import read_space

    if case.method not in (GRID, BY_HAND, RECIPE):
        return []
    params = make_params(case, root, 1)
    widest = list_first_points(params, read_space(params))
    if case.method != GRID:  # the table's `precision: auto` takes the finest that fits, too
        return widest
    narrower = [point | {"model.width": round(NARROWER * point["model.width"], 4)} for point in widest]
    return [point for pair in zip(widest, narrower, strict=True) for point in pair][: case.trainings]


def find_row(budget: int) -> Any:
    """The accuracy table's recipe for the budget."""
    return next(row for row in ROWS if row.recipe == "ours" and row.budget_bytes == budget)


def make_params(case: Case, root: Path, trials: int) -> Any:
    """The clone's settings, with the case's sweep."""
    from pocketaffect.config import Params
    from pocketaffect.files import read_yaml

    content = read_yaml(root / "params.yaml")
    content["train"] |= {"seed": case.seed, "threads": 1, "instructions": case.instructions}
    content["export"] |= {"precision": "int8"}
    space: Mapping[str, Any] = SEARCHED
    if case.method == GRID:
        space = {name: SEARCHED[name] for name in ("model.architecture", "model.width")}
    elif case.method == RECIPE:
        space = {"model.architecture": [content["model"]["architecture"]], "model.width": WIDTHS}
    elif case.method == BY_HAND:
        row = find_row(case.budget)
        content["model"] |= OUR_MODEL | {"architecture": row.architecture, "width": row.width}
        content["train"] |= OUR_TRAIN | {"logit_adjustment": 0.0} | dict(row.train)
        space = {"export.precision": ["int8", "palette6", "palette4"]}
    content["sweep"] |= {
        **{"objectives": "score", "workers": 1, "executor": "local", "storage": "journal", "faces": None},
        **{"budget_bytes": case.budget, "budget_macs": None, "trials": trials, "epochs": case.epochs},
        **{"seed": case.seed, "space": dict(space)},
        **METHODS[case.method],
    }
    return Params.model_validate(content)


def begin(params: Any, root: Path) -> Any:
    """The study of these settings, or a new one: each case asks its own question."""
    from pocketaffect.sweep.run import prepare_sweep
    from pocketaffect.sweep.storage import open_storage
    from pocketaffect.sweep.study import ask_question

    names = {study.study_name for study in open_storage("journal", root / paths.SWEEP).get_all_studies()}
    return prepare_sweep(params, root, new=ask_question(params, root).name not in names)


def show(cases: list[Case], results: Path) -> None:
    """Prints what is there: each case's best, and its shipped file beside those of no search, face by face."""
    print(f"commit {ask_commit()}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    titles = ("budget", "seed", "method", "trainings, epochs", "hours", "found", "bytes", "MMACs", "score")
    print("| " + " | ".join([*titles, "balanced accuracy", "minus by hand", "minus the recipe"]) + " |")
    print("|---" * (len(titles) + 3) + "|")
    for case in cases:
        folder = results / case.folder
        if folder.is_dir():
            print(describe(case, folder, results), flush=True)
        else:
            print(f"| {case.budget:,} | {case.seed} | {case.method} | not run |" + " |" * 8)


def describe(case: Case, folder: Path, results: Path) -> str:
    """One row of the table."""
    import json
    from dataclasses import replace

    from pocketaffect.evaluation.intervals import bootstrap_metrics, compare_predictions
    from pocketaffect.evaluation.prediction_table import read_predictions
    from pocketaffect.sweep.table import describe_settings

    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    answers = read_predictions(folder / ANSWERS)
    own = bootstrap_metrics(answers.predictions, answers.labels)["balanced_accuracy"]
    beside = []
    for reference in (BY_HAND, RECIPE):
        other = results / replace(case, method=reference).folder
        if case.method in (BY_HAND, reference) or not other.is_dir():
            beside.append("")
            continue
        theirs = read_predictions(other / ANSWERS)
        assert theirs.paths == answers.paths
        one = compare_predictions(answers.predictions, theirs.predictions, answers.labels)["balanced_accuracy"]
        beside.append(f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})")
    cells = [
        f"{case.budget:,}",
        str(case.seed),
        case.method,
        f"{facts['trainings']}, {facts['epochs']}",
        f"{facts['hours']:.2f}",
        describe_settings(facts["settings"]),
        f"{facts['bytes']:,}",
        f"{facts['macs'] / 1e6:.2f}",
        f"{facts['score']:.4f}",
        f"{own.value:.3f} ({own.low:.3f} to {own.high:.3f})",
        *beside,
    ]
    return "| " + " | ".join(cells) + " |"


def ask_commit() -> str:
    """The commit of the code that runs."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--budgets", type=int, nargs="*", default=BUDGETS, choices=BUDGETS)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--trainings", type=int, default=10, help="whole trainings that each method may spend")
    parser.add_argument("--faces", type=int, default=9000, help="training faces")
    parser.add_argument("--epochs", type=int, default=12, help="of a whole training")
    parser.add_argument("--seeds", type=int, nargs="*", default=[7, 8])
    parser.add_argument("--instructions", default="avx2", choices=["avx2", "native"], help="as train.instructions")
    parser.add_argument("--show", action="store_true", help="print what is there, train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
