"""Measures how long a design's programs are, and writes it into `export/program_bytes.json`.

    nice -n 10 .venv/bin/python benchmarks/export/fit_size.py [DESIGN …]

to be run for a new design, and for all of them (the default, some minutes of a core) when coremltools changes. One
network of each design is converted in every precision; what depends on widths (`export.size.Shapes.program_bytes`) is
subtracted from its program's bytes. `size.py` beside it holds predictions to other networks.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "export"))

import torch
from size_parts import make_packages

from pocketaffect.designs import CATALOGUE
from pocketaffect.export.convert import Packages
from pocketaffect.export.size import MEASURED, list_shapes
from pocketaffect.files import write_json
from pocketaffect.mlpackage.package import read_spec
from pocketaffect.mlpackage.quiet import import_coremltools
from pocketaffect.models.network import NetworkSpec
from pocketaffect.precisions import PRECISIONS, Precision

SCRATCH: Final = tempfile.TemporaryDirectory(prefix="pocketaffect-size-")
SPEC: Final = NetworkSpec("", 0.5, 64, "prototype")
FLOATS: Final = {"fp32": PRECISIONS["fp32"]} | {
    target: Precision("fp16", target, 16, "float16 in the newest format of a system", "float")
    for target in sorted({one.target for one in PRECISIONS.values()})
}


def main() -> None:
    """Writes an entry for each design."""
    torch.set_num_threads(1)
    content = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {"designs": {}}
    for name in sys.argv[1:] or CATALOGUE:
        content["designs"][name] = measure(name)
        content["coremltools"] = import_coremltools().__version__
        write_json(MEASURED, content)
        print(name, json.dumps(content["designs"][name], sort_keys=True), flush=True)


def measure(design: str) -> dict[str, Any]:
    """Bytes of the programs without compression, of what all compression changes, and of each compressed tensor."""
    spec = replace(SPEC, architecture=design)
    shapes = list_shapes(spec)
    programs = {name: _program_bytes(spec, precision) for name, precision in FLOATS.items()}
    compressed = -_count_attributes(spec)
    each = {
        one.name: (_program_bytes(spec, one) - programs[one.target] - compressed) / shapes.compressed
        for one in PRECISIONS.values()
        if one.kind != "float"
    }
    return {
        "programs": {name: round(size) for name, size in programs.items()},
        "plain_head": round(_program_bytes(replace(spec, head="plain"), FLOATS["iOS16"]) - programs["iOS16"]),
        "compressed": compressed,
        "each": {name: round(size, 1) for name, size in each.items()},
    }


@cache
def _packages(spec: NetworkSpec, _kind: str) -> Packages:
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    return make_packages(spec, folder)


def _program_bytes(spec: NetworkSpec, precision: Precision) -> float:
    """Without what depends on widths."""
    packages = _packages(spec, precision.target if precision.kind == "float" else "")
    program: int = read_spec(packages.make(precision).path).ByteSize()
    return program - list_shapes(spec).program_bytes(precision.name)


def _count_attributes(spec: NetworkSpec) -> int:
    """Bytes of what a program says of its conversion, which coremltools' compression leaves out."""
    model = read_spec(_packages(spec, "iOS16").make(FLOATS["iOS16"]).path)
    before: int = model.ByteSize()
    model.mlProgram.attributes.clear()
    return before - int(model.ByteSize())


if __name__ == "__main__":
    main()
