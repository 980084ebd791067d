"""The network that comes with the package beside HOG, the paper's best pair and face-api's network, on the same faces.

    nice .venv/bin/python benchmarks/accuracy/outside.py PATH --work FOLDER [--pair] [--model FILE]

FOLDER is `accuracy.py`'s, for the same PATH: its clone has the shards, and its rows for HOG and the paper's VGG pair,
where they are finished, are taken over; HOG's is made where it is missing, the pair's (hours) with `--pair`. All are
judged on the validation split (FER2013's PublicTest), by which none chose anything: the trained rows saw the rest of
training's faces but a tenth, by which the pair chose its epochs.
Our file is judged by `pocketaffect score`. face-api's network is fetched from npm; it gets the whole pictures, framed
as they are, closer and farther by 15 %: the framing that serves it best is the one that counts.

It knows seven classes: in the first table contempt has probability 0 with it, so that these faces count against it;
the second table leaves the faces of contempt out, for every row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from accuracy import make_row, read_row, row_folder
from real_faces import run_pipeline
from rows import ROWS

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.shipped.network import find_shipped

if TYPE_CHECKING:
    from pocketaffect.data.faces.images import RGB
    from pocketaffect.evaluation.prediction_table import PredictionTable

COLUMNS: Final = ("accuracy", "balanced_accuracy", "macro_f1")
PAIR: Final = "paper, VGG variant"
SEED: Final = 7
FRAMINGS: Final = {"as they are": 1.0, "closer by 15 %": 1.15, "farther by 15 %": 0.85}
CHECKED: Final = 8
"""Faces by which face-api's network is compared with the package's own code."""


def main() -> None:
    """Prints both tables, and our file against each of the others."""
    arguments = _parse()
    pin_arithmetic(threads=1, instructions="native")
    work: Path = arguments.work.resolve()
    clone = work / "clone"
    if not (clone / paths.SHARDS).is_dir():
        run_pipeline(clone, arguments.path.resolve(), {"preprocess.image_size": 48}, until="preprocess")
    made = [_score_ours(arguments.model, arguments.path, work), *_read_rows(clone, work, train=arguments.pair)]
    made.append(_ask_face_api(clone, work))
    _print_tables(made)


def _score_ours(model: str | None, data: Path, work: Path) -> tuple[str, int, PredictionTable]:
    from pocketaffect.mlpackage.package import package_bytes
    from pocketaffect.predict.score import GIVEN, score_model

    package = Path(model) if model else (find_shipped() or paths.EXPORT) / paths.PACKAGE.name
    report = score_model(str(package), data, split="validation", ways=(GIVEN,), target=work / "score", resamples=2)
    return f"ours, {package.name}", package_bytes(package), report.scores[0].table


def _read_rows(clone: Path, work: Path, *, train: bool) -> list[tuple[str, int | None, PredictionTable]]:
    found = []
    for row in ROWS:
        folder = row_folder(work, row, SEED)
        if row.recipe == "baseline" or (row.name == PAIR and (train or folder.is_dir())):
            make_row(row, SEED, clone, work)
            table, facts = read_row(folder)
            found.append((row.name, facts["bytes"], table))
    return found


def _ask_face_api(clone: Path, work: Path) -> tuple[str, int, PredictionTable]:
    from face_api import FaceApi

    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.behaviour import reframe
    from pocketaffect.evaluation.prediction_table import PredictionTable
    from pocketaffect.evaluation.tables import Labels, Predictions

    validation = open_split(clone / paths.SHARDS, "validation")
    faces: RGB = np.stack(list(validation.images()))
    network = FaceApi(work / "face-api")
    difference = network.check(faces[:CHECKED])
    print(f"\nface-api: our form of its network differs from its own code's answers by at most {difference:.1g}")
    labels = Labels(validation.expression, validation.valence_arousal)
    framed = {name: network.predict(reframe(faces, factor, factor)) for name, factor in FRAMINGS.items()}
    right = {name: float((said.argmax(1) == labels.expression).mean()) for name, said in framed.items()}
    print("face-api: accuracy by framing: " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()))
    best = max(right, key=lambda name: right[name])
    said = Predictions(framed[best], np.zeros((len(faces), 2), np.float32))
    return f"face-api, faces {best}", network.bytes, PredictionTable(tuple(validation.paths), said, labels)


def _print_tables(made: Sequence[tuple[str, int | None, PredictionTable]]) -> None:
    from pocketaffect.evaluation.intervals import bootstrap_metrics, compare_predictions
    from pocketaffect.evaluation.prediction_table import match_rows
    from pocketaffect.evaluation.tables import Labels, Predictions

    names, sizes, tables = zip(*made, strict=True)
    tables = match_rows(dict(zip(names, tables, strict=True)))
    contempt = EXPRESSIONS.index("contempt")
    every = tables[0].labels.expression
    for title, kept in (
        ("All faces", every >= 0),
        ("Without the faces of contempt", (every >= 0) & (every != contempt)),
    ):
        labels = Labels(every[kept], tables[0].labels.valence_arousal[kept])
        said = [
            Predictions(table.predictions.probabilities[kept], table.predictions.valence_arousal[kept])
            for table in tables
        ]
        print(f"\n{title}: {kept.sum():,}; 95 % intervals over faces; last: ours minus the row, balanced accuracy\n")
        print("| row | bytes | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " | ours minus it |")
        print("|---" * (len(COLUMNS) + 3) + "|")
        for name, size, predictions in zip(names, sizes, said, strict=True):
            found = bootstrap_metrics(predictions, labels)
            cells = [f"{found[one].value:.3f} ({found[one].low:.3f} to {found[one].high:.3f})" for one in COLUMNS]
            against = ""
            if predictions is not said[0]:
                one = compare_predictions(said[0], predictions, labels)["balanced_accuracy"]
                against = f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
            print(f"| {name} | {f'{size:,}' if size else ''} | " + " | ".join(cells) + f" | {against} |")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pair", action="store_true", help="train the paper's pair where it is not there")
    parser.add_argument("--model", help="a package in place of the one that comes with pocketaffect")
    return parser.parse_args()


if __name__ == "__main__":
    main()
