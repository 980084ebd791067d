"""Accuracy against time: the design for small faces beside others, trained alike on the same faces.

    .venv/bin/python benchmarks/sweep/designs.py PATH --work DIR [--faces 9000] [--epochs 12] [--seed 7]
        [--instructions avx2] [--designs repvgg_face …]

PATH and DIR are `search.py`'s. Each design is trained by the recipe that `data use` writes for photographs, from
random weights (pretrained ones would have to be downloaded), shipped in an 8-bit palette, and answers PublicTest; the
first row is the accuracy table's recipe by hand for 500,000 bytes, in int8. Twins are timed in turns, one image, one
thread, beside the paper's networks at the paper's 128 pixels and at 64. Kill it and repeat the command: what is there
is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Final

from search import (
    ANSWERS,
    BY_HAND,
    FACTS,
    RECIPE,
    SIZE,
    Case,
    ask_commit,
    begin,
    find_row,
    keep_best,
    make_params,
    prepare_faces,
    run_case,
)

from pocketaffect.arithmetic import pin_arithmetic

HAND_BUDGET: Final = 500_000
PRECISION: Final = "palette8"
"""After twelve epochs, int8 kept .938 of repvgg_face's classes, where .97 is asked for."""
ROOM: Final = 20_000_000
"""Bytes: none of them is held to a budget here."""
DESIGNS: Final = ("repvgg_face", "mobilenetv3_small", "efficientnet_lite0")
PAPER: Final = ("alexnet", "vgg", "mobilenet")
PAPER_SIZES: Final = (128, 64)


def main() -> None:
    """Trains what is missing, times all, prints the table."""
    arguments = parse()
    pin_arithmetic(threads=1, instructions=arguments.instructions)
    work = arguments.work.resolve()
    root, results = work / f"clone-{arguments.faces}", work / "results"
    prepare_faces(root, arguments.path.resolve(), arguments.faces)
    asked = (arguments.seed, 1, arguments.faces, arguments.epochs, arguments.instructions)
    hand = Case(BY_HAND, HAND_BUDGET, *asked)
    hand_folder = next(results.glob(f"by-hand-{HAND_BUDGET}-seed{hand.seed}-*x{hand.epochs}-of-{hand.faces}"), None)
    if hand_folder is None:
        hand_folder = results / hand.folder
        run_case(hand, root, hand_folder)
    folders = [hand_folder]
    for design in arguments.designs:
        case = Case(RECIPE, ROOM, *asked)
        folders.append(results / f"{design}-{case.folder}")
        if not folders[-1].is_dir():
            train_design(design, case, root, folders[-1])
    row = find_row(HAND_BUDGET)
    show([(row.architecture, row.width), *((design, 1.0) for design in arguments.designs)], folders)


def train_design(design: str, case: Case, root: Path, target: Path) -> None:
    """Trains one network of full width to the end, by a sweep of one trial."""
    from pocketaffect.sweep.worker import run_worker

    params = make_params(case, root, trials=1)
    space = {"model.architecture": [design], "model.width": [1.0], "export.precision": [PRECISION]}
    one = begin(params.model_copy(update={"sweep": params.sweep.model_copy(update={"space": space})}), root)
    run_worker(one.plan)
    keep_best(one.plan, one.rows(), target)


def show(designs: list[tuple[str, float]], folders: list[Path]) -> None:
    """Prints time and accuracy of each, and the paper's times."""
    from pocketaffect.evaluation.intervals import bootstrap_metrics
    from pocketaffect.evaluation.prediction_table import read_predictions
    from pocketaffect.export.latency import ROUNDS, time_twins
    from pocketaffect.models.network import NetworkSpec

    paper = {size: [NetworkSpec(name, 1.0, size, "plain") for name in PAPER] for size in PAPER_SIZES}
    ours = [NetworkSpec(name, width, SIZE, "prototype") for name, width in designs]  # type: ignore[arg-type]
    times = time_twins([*(spec for specs in paper.values() for spec in specs), *ours])
    fastest = {size: min(specs, key=lambda spec: times[spec]) for size, specs in paper.items()}
    print(f"commit {ask_commit()}; load {os.getloadavg()[0]:.1f}; median of {ROUNDS} alternating rounds")
    for size, spec in fastest.items():
        print(f"the paper's fastest at {size} px: {spec.architecture}, {times[spec]:.3f} ms")
    shares = "".join(f" of the paper's at {size} px |" for size in PAPER_SIZES)
    print(f"\n| network at {SIZE} px | bytes | MMACs | ms |{shares} accuracy | balanced accuracy | CCC V / A |")
    print("|---" * (7 + len(PAPER_SIZES)) + "|")
    for spec, folder in zip(ours, folders, strict=True):
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        answers = read_predictions(folder / ANSWERS)
        found = bootstrap_metrics(answers.predictions, answers.labels)
        cells = [f"{spec.architecture} x {spec.width:g}", f"{facts['bytes']:,}", f"{facts['macs'] / 1e6:.2f}"]
        cells.append(f"{times[spec]:.3f}")
        cells += [f"{times[spec] / times[fastest[size]]:.3f}" for size in PAPER_SIZES]
        cells += [
            f"{found[name].value:.3f} ({found[name].low:.3f} to {found[name].high:.3f})"
            for name in ("accuracy", "balanced_accuracy")
        ]
        cells.append(f"{found['ccc_valence'].value:.3f} / {found['ccc_arousal'].value:.3f}")
        print("| " + " | ".join(cells) + " |")


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=9000, help="training faces")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--designs", nargs="*", default=DESIGNS)
    parser.add_argument("--instructions", default="avx2", choices=["avx2", "native"], help="as train.instructions")
    return parser.parse_args()


if __name__ == "__main__":
    main()
