"""The paper's recipe beside ours on the same faces: one table, with intervals, and our 500 KB file against the pairs.

    nice .venv/bin/python benchmarks/accuracy/accuracy.py PATH --work FOLDER [--rows NAME …] [--seeds 7 8 9]

clones this repository's HEAD into FOLDER, points the clone at PATH (AffectNet's CSV layout), runs `dvc repro
preprocess` there, and makes each row of `rows.py` on these shards. The paper's rows are two networks each, judged as
PyTorch computes them, their bytes those of two packages with 32-bit weights. Ours are one file each, compressed
by `export.precision: auto` under its budget, and judged by what the file answers in the interpreter. Every row is
judged on all validation faces, whose split both recipes also chose their epoch by, as the paper did.

FOLDER keeps every finished row: a run that was stopped goes on where it was, and `--show` only prints. The minutes of
a row that was stopped are those after the last stop: they stand as "more than".
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_faces import COLUMNS, REPOSITORY, fit_baseline, run_pipeline
from rows import OUR_MODEL, OUR_TRAIN, PAPER_BATCH, PAPER_PRECISION, ROWS, Row

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic

if TYPE_CHECKING:
    from pocketaffect.config import Params
    from pocketaffect.evaluation.prediction_table import PredictionTable
    from pocketaffect.evaluation.tables import Predictions

ANSWERS: Final = "answers.parquet"
FACTS: Final = "facts.json"
OURS: Final = "ours, 500 KB"
COMPARED: Final = COLUMNS[1:]
MACHINE: Final = {"threads": 1, "instructions": "native", "accelerator": "cpu"}
BF16: Final = ("vgg", "alexnet")
"""Wide networks of full convolutions, which this processor trains half as fast again with bf16 products."""


def main() -> None:
    """Makes the rows that are missing, then prints the tables."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    pin_arithmetic(threads=1, instructions="native")  # nothing here has to repeat on another processor
    work: Path = arguments.work.resolve()
    if not arguments.show:
        clone = work / "clone"
        if not (clone / paths.SHARDS).is_dir():
            settings = {"preprocess.image_size": arguments.image_size}
            run_pipeline(clone, arguments.path.resolve(), settings, until="preprocess")
        for seed in arguments.seeds:
            for row in ROWS:
                if row.name in (arguments.rows or [row.name]):
                    make_row(row, seed, clone, work)
    show(work, arguments.seeds)


def make_row(row: Row, seed: int, clone: Path, work: Path) -> None:
    """Trains and judges one row, unless its folder is there."""
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
    from pocketaffect.evaluation.tables import Labels
    from pocketaffect.files import write_atomically, write_json

    folder = row_folder(work, row, seed)
    if folder.is_dir():
        return
    validation = open_split(clone / paths.SHARDS, "validation")
    labels = Labels(validation.expression, validation.valence_arousal)
    start, processor = time.monotonic(), time.process_time()
    made = work / "made" / folder.name
    resumed = made.is_dir()
    make = {"baseline": _fit_baseline, "paper": _train_paper_pair, "ours": _train_ours}[row.recipe]
    predictions, size = make(row, seed, clone, made)
    facts = {
        "bytes": size,
        "minutes": (time.monotonic() - start) / 60,
        "processor_minutes": (time.process_time() - processor) / 60,
        "resumed": resumed,
        "commit": _commit(),
    }
    with write_atomically(folder) as draft:
        draft.mkdir()
        write_predictions(draft / ANSWERS, PredictionTable(tuple(validation.paths), predictions, labels))
        write_json(draft / FACTS, facts)


def _fit_baseline(row: Row, seed: int, clone: Path, made: Path) -> tuple[Predictions, None]:  # noqa: ARG001
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.tables import Labels

    train, validation = (open_split(clone / paths.SHARDS, split) for split in ("train", "validation"))
    return fit_baseline(train, Labels(train.expression, train.valence_arousal), validation), None


def _train_paper_pair(row: Row, seed: int, clone: Path, made: Path) -> tuple[Predictions, int]:
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.behaviour import predict_split
    from pocketaffect.evaluation.tables import Predictions
    from pocketaffect.models.network import load_network
    from pocketaffect.training.presets import train_paper_pair

    classifier, regressor = train_paper_pair(
        clone / paths.SHARDS,
        row.architecture,
        row.width,
        seed,
        made / "checkpoints",
        made / "networks",
        batch_size=PAPER_BATCH,
        machine=_machine(row),
        progress=False,
    )
    validation = open_split(clone / paths.SHARDS, "validation")
    networks = [load_network(folder) for folder in (classifier, regressor)]
    by_class, by_affect = (predict_split(network, validation, batch_size=256) for network in networks)
    size = sum(_package_bytes(network) for network in networks)
    return Predictions(by_class.probabilities, by_affect.valence_arousal), size


def _machine(row: Row) -> dict[str, Any]:
    return MACHINE | ({"precision": "bf16"} if row.architecture in BF16 and row.width >= 0.7 else {})


def _package_bytes(network: Any) -> int:
    from pocketaffect.export.convert import PackageDescription, Packages
    from pocketaffect.precisions import find_precision

    words = PackageDescription("the authors", "Apache-2.0", "0", "A network of the paper's recipe.", {})
    with tempfile.TemporaryDirectory() as scratch:
        packages = Packages(network, network.spec.size, words, Path(scratch))
        return packages.make(find_precision(PAPER_PRECISION)).bytes


def _train_ours(row: Row, seed: int, clone: Path, made: Path) -> tuple[Predictions, int]:
    from pocketaffect.data.shards.split import open_choosing, open_split
    from pocketaffect.evaluation.prediction_table import read_predictions
    from pocketaffect.export.export import export_network
    from pocketaffect.mlpackage.package import package_bytes
    from pocketaffect.models.network import load_network
    from pocketaffect.training.fit import train_network

    params = _our_params(row, seed, clone)
    target, exported = made / "model", made / "export"
    if not target.is_dir():
        train_network(
            clone / paths.SHARDS, params.model, params.train, work=made / "checkpoints", target=target, progress=False
        )
    export_network(
        load_network(target),
        open_split(clone / paths.SHARDS, "train"),
        open_choosing(clone / paths.SHARDS),
        open_split(clone / paths.SHARDS, "validation"),
        export=params.export,
        train=params.train,
        margin=params.preprocess.margin,
        lineage={},
        target=exported,
        rejects=made / "rejected",
    )
    answers = read_predictions(exported / paths.SHIPPED_PREDICTIONS.name)
    return answers.predictions, package_bytes(exported / paths.PACKAGE.name)


def _our_params(row: Row, seed: int, clone: Path) -> Params:
    from pocketaffect.config import load_params

    shipped = load_params(clone / "params.yaml")
    model = {**OUR_MODEL, "architecture": row.architecture, "width": row.width}
    train = {**OUR_TRAIN, **_machine(row), "seed": seed, **row.train}
    export = {"precision": "auto", "budget_bytes": row.budget_bytes}
    return type(shipped).model_validate(
        {
            **shipped.model_dump(by_alias=True),
            "model": {**shipped.model.model_dump(), **model},
            "train": {**shipped.train.model_dump(), **train},
            "export": {**shipped.export.model_dump(), **export},
        }
    )


def show(work: Path, seeds: Sequence[int]) -> None:
    """Prints what is there: every row with its intervals, then our file against each pair, face by face."""
    print(f"\ncommit {_commit()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread\n")
    print("| row | seed | bytes | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " | minutes |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for row in ROWS:
        found = [(seed, folder) for seed in seeds if (folder := row_folder(work, row, seed)).is_dir()]
        for seed, folder in found:
            print(_line(row, str(seed), folder))
        if len(found) > 1:
            print(_mean_line(row, [folder for _, folder in found]))
    for seed in seeds:
        _compare(work, seed)


def _line(row: Row, seed: str, folder: Path) -> str:
    from pocketaffect.evaluation.intervals import bootstrap_metrics

    answers, facts = read_row(folder)
    found = bootstrap_metrics(answers.predictions, answers.labels)
    cells = [f"{found[name].value:.3f} ({found[name].low:.3f} to {found[name].high:.3f})" for name in COLUMNS]
    size = f"{facts['bytes']:,}" if facts["bytes"] else ""
    minutes = ("> " if facts.get("resumed") else "") + f"{facts['processor_minutes']:.1f}"
    return f"| {row.name} | {seed} | {size} | " + " | ".join(cells) + f" | {minutes} |"


def _mean_line(row: Row, folders: Sequence[Path]) -> str:
    from pocketaffect.evaluation.metrics import expression_metrics, valence_arousal_metrics

    found = []
    for folder in folders:
        answers, _ = read_row(folder)
        said, true = answers.predictions, answers.labels
        found.append(
            expression_metrics(said.probabilities, true.expression)
            | valence_arousal_metrics(said.valence_arousal, true.valence_arousal)
        )
    values = [[metrics[name] for metrics in found] for name in COLUMNS]
    cells = [f"{statistics.mean(each):.3f} ± {statistics.stdev(each):.3f}" for each in values]
    return f"| {row.name} | mean ± sd | | " + " | ".join(cells) + " | |"


def _compare(work: Path, seed: int) -> None:
    from pocketaffect.evaluation.intervals import compare_predictions

    ours = next(row_folder(work, row, seed) for row in ROWS if row.name == OURS)
    pairs = [row for row in ROWS if row.recipe == "paper" and row_folder(work, row, seed).is_dir()]
    if not ours.is_dir() or not pairs:
        return
    (answers, facts), labels = read_row(ours), read_row(ours)[0].labels
    print(f"\n{OURS} (seed {seed}) minus each pair, with the paired 95 % interval; RMSE: less is better\n")
    print("| pair | its bytes / ours | " + " | ".join(name.replace("_", " ") for name in COMPARED) + " |")
    print("|---" * (len(COMPARED) + 2) + "|")
    for row in pairs:
        theirs, their_facts = read_row(row_folder(work, row, seed))
        found = compare_predictions(answers.predictions, theirs.predictions, labels)
        cells = [
            f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f}), {one.verdict}"
            for one in (found[name] for name in COMPARED)
        ]
        print(f"| {row.name} | {their_facts['bytes'] / facts['bytes']:.0f} | " + " | ".join(cells) + " |")


def read_row(folder: Path) -> tuple[PredictionTable, dict[str, Any]]:
    """Answers and facts of a finished row."""
    from pocketaffect.evaluation.prediction_table import read_predictions

    return read_predictions(folder / ANSWERS), json.loads((folder / FACTS).read_text(encoding="utf-8"))


def row_folder(work: Path, row: Row, seed: int) -> Path:
    """Where a row's results are, or will be."""
    name = "-".join("".join(one if one.isalnum() else " " for one in row.name).split())
    return work / "rows" / f"{name}-{seed}"


def _commit() -> str:
    said = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--seeds", type=int, nargs="*", default=[7])
    parser.add_argument("--rows", nargs="*", choices=[row.name for row in ROWS])
    parser.add_argument("--show", action="store_true", help="print what is there, make nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
