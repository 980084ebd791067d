"""Bytes of packages as coremltools writes them and as we do (`export/compact.py`), both executed on the same images.

    .venv/bin/python benchmarks/export/compact.py [DESIGN …]

Width 0.2, 48 pixels, random weights, four precisions; the last column says whether all answers are the same bits.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "export"))

import torch
from size_parts import describe, draw_network

from pocketaffect.export.packages import Packages
from pocketaffect.mlpackage.interpret import load_program
from pocketaffect.mlpackage.package import package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.models.reparameterize import reparameterize
from pocketaffect.precisions import find_precision

PRECISIONS = ("fp16", "int8", "palette4-grouped", "pruned50-palette4")


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3), dtype=np.uint8)
    for design in sys.argv[1:] or ["vgg", "mobilenetv3_small"]:
        spec = NetworkSpec(design, 0.2, 48, "prototype")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            packages = Packages(reparameterize(draw_network(spec)), spec.size, describe(spec), folder)
            for name in PRECISIONS:
                package = packages.make(find_precision(name))
                theirs = folder / f"theirs-{name}.mlpackage"
                package.model.save(str(theirs))
                answers = [load_program(path).predict(images) for path in (theirs, package.path)]
                same = all(np.array_equal(answers[0][key], answers[1][key]) for key in answers[0])
                long, short = package_bytes(theirs), package.bytes
                print(f"{design:24}{name:20}{long:10,}{short:10,}{1 - short / long:8.1%}  {same}", flush=True)


if __name__ == "__main__":
    main()
