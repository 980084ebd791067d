"""The numbers of `export/size_table.py` from new conversions, to be run when coremltools or a design changes.

    nice -n 10 .venv/bin/python benchmarks/export/fit_size.py CONVERSIONS.jsonl

converts every design (two minutes of a core; CONVERSIONS.jsonl keeps what was done), and prints by how much each
number of the table has to change, least squares over all, and what misses remain.
`size.py` then measures the new table with other configurations.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "export"))

import torch
from size_parts import compare

from pocketaffect.designs import CATALOGUE
from pocketaffect.export.size import list_shapes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.precisions import COMPRESSED_ABOVE, PRECISIONS

LINE_BY_LINE: Final = ("alexnet", "vgg", "mobilenet")
"""Designs that give what a precision adds for a tensor; of the others only their own constants are wanted."""
IN_ALL: Final = ("fp16", "fp32", "int8", "palette6", "palette4-grouped", "int4-block", "pruned50-palette4")
PLAIN_HEAD: Final = ("fp16", "int8", "palette2")
ALIKE: Final = {"palette8": "palette6", "palette4": "palette6", "palette6-grouped": "palette4-grouped"}
"""Precisions to the one whose numbers they share in the table; all pruned ones share theirs too."""


def main() -> None:
    """Prints the corrections."""
    file = Path(sys.argv[1])
    file.touch()
    done = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    known = {json.dumps(row["spec"], sort_keys=True) + row["precision"] for row in done}
    torch.set_num_threads(1)
    for spec, precisions in _configurations():
        left = [name for name in precisions if json.dumps(asdict(spec), sort_keys=True) + name not in known]
        if left:
            with tempfile.TemporaryDirectory() as folder, file.open("a", encoding="utf-8") as stream:
                for name, predicted, real in compare(spec, left, Path(folder)):
                    done.append({"spec": asdict(spec), "precision": name, "miss": real - predicted})
                    stream.write(json.dumps(done[-1]) + "\n")
                    stream.flush()
    fit(done)


def _configurations() -> Iterator[tuple[NetworkSpec, tuple[str, ...]]]:
    for name in LINE_BY_LINE:
        yield NetworkSpec(name, 0.1, 32, "prototype"), IN_ALL
    yield NetworkSpec("vgg", 0.3, 64, "plain"), PLAIN_HEAD
    for name in CATALOGUE:
        if name not in LINE_BY_LINE:
            yield NetworkSpec(name, 0.1, 32, "prototype"), ("fp16",)
    yield NetworkSpec("mobilenet", 0.3, 64, "plain"), PLAIN_HEAD


def fit(rows: list[dict[str, Any]]) -> None:
    """Least squares of the misses over what the table's numbers multiply."""
    features = [dict(_features(row)) for row in rows]
    names = sorted({name for row in features for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in features])
    misses = np.array([row["miss"] for row in rows], float)
    found, _, rank, _ = np.linalg.lstsq(matrix, misses, rcond=None)
    for name, value in zip(names, found, strict=True):
        print(f"{name:40}{value:+10.1f}")
    left = misses - matrix @ found
    print(f"{len(rows)} packages, {len(names)} numbers, rank {rank}; left {left.min():.0f} to {left.max():.0f} bytes")


def _features(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    spec, precision = NetworkSpec(**row["spec"]), PRECISIONS[row["precision"]]
    shapes = list_shapes(spec)
    yield f"{spec.architecture} float16", 1.0
    if precision.bits == 32:
        yield "float32", 1.0
        yield "float32 for each kernel", float(len(shapes.kernels))
    if spec.head == "plain":
        yield "plain head", 1.0
    yield "wide dimension", float(shapes.wide)
    compressed = [kernel for kernel in shapes.kernels if kernel.numbers > COMPRESSED_ABOVE]
    if precision.kind != "float" and compressed:
        form = "pruned" if precision.sparsity else ALIKE.get(precision.name, precision.name)
        yield f"{form} fixed", 1.0
        yield f"{form} each", float(len(compressed))


if __name__ == "__main__":
    main()
