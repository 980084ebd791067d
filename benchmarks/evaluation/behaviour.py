"""What the changes of `evaluate`'s behaviour table cost a shipped file: every one of them on any labelled faces.

    .venv/bin/python benchmarks/evaluation/behaviour.py PATH [--split validation] [--model FILE]

PATH is a data folder in any layout that `data use` reads. Its faces are cut by the given box, as
`pocketaffect score` cuts them, and changed as crops, whose border pixels go on; those without one of the eight
expressions count for the classes that change alone. FILE is what
`pocketaffect predict --model` takes; without it, the ONNX twin of the network that comes with the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pocketaffect import paths
from pocketaffect.data.faces.crop import FaceBox, crop_face
from pocketaffect.data.faces.images import decode_image
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.evaluation.behaviour import CHANGES, compare_movement
from pocketaffect.labels import BOX_COLUMNS, EXPRESSIONS, NO_EXPRESSION, PLACE_COLUMNS
from pocketaffect.predict.models import open_model
from pocketaffect.shipped.network import FOLDER
from pocketaffect.tables import render_table


def main() -> None:
    """Prints the table: a row for each change."""
    arguments = _parse()
    model = open_model(arguments.model)
    rows = read_annotations(DataFolder.open(arguments.path)).rows
    kept = rows["expression"].isin(range(len(EXPRESSIONS) + 1))  # AffectNet's 8: a face that shows none of them
    if arguments.split != "all":
        kept &= rows["split"] == arguments.split
    rows = rows[kept]
    faces = []
    places, boxes = rows[list(PLACE_COLUMNS)].itertuples(index=False), rows[list(BOX_COLUMNS)].to_numpy(np.float64)
    for place, box in zip(places, boxes, strict=True):
        picture = decode_image(read_place(arguments.path, Place(*place))).pixels
        given = FaceBox(*box.tolist()) if np.isfinite(box).all() else None
        faces.append(crop_face(picture, given, margin=model.margin, size=model.size))
    crops, codes = np.stack(faces), rows["expression"].to_numpy(np.int64)
    expression = np.where(codes < len(EXPRESSIONS), codes, NO_EXPRESSION)
    known = expression != NO_EXPRESSION
    untouched = model.predict(crops)
    right = float((untouched.expression == expression)[known].mean())
    print(f"{len(crops):,} faces, {known.sum():,} with a label; {model.title}; accuracy {right:.3f}\n")
    table = [["change", "accuracy lost", "classes changed", "probability moved", "survived"]]
    for name, change in CHANGES.items():
        moved = compare_movement(name, untouched, model.predict(change(crops)), expression)
        numbers = f"{moved.accuracy_lost:+.3f}", f"{moved.classes_changed:.1%}", f"{moved.probability_moved:.3f}"
        table.append([name, *numbers, "yes" if moved.survived else "no"])
    print(render_table(table, "lr"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default=str(FOLDER / paths.TWIN.name))
    parser.add_argument("--split", choices=["train", "validation", "all"], default="validation")
    return parser.parse_args()


if __name__ == "__main__":
    main()
