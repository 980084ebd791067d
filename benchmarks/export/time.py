"""Seconds to convert, compress, execute and verify one model as the export stage does, and the interpreter's speed.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/export/time.py [REPOSITORY]

takes out/model and out/shards of a repository (default: here) after `dvc repro train`, and params.yaml as it is. The
first row is the whole of `export_network`: both packages, the ONNX twin, all of them executed over the whole validation
split, every check, every file. Clock and CPU seconds, since the clock depends on who else computes. coremltools and
onnx, which take some seconds to import, are imported before.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic

ROUNDS: Final = 30
BATCH: Final = 32


def main() -> None:
    """Prints both tables."""
    pin_arithmetic(threads=1, instructions="avx2")
    import numpy as np
    import torch

    from pocketaffect.config import load_params
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.export.convert import PackageDescription, Packages
    from pocketaffect.export.export import export_network
    from pocketaffect.export.layers import reparameterize
    from pocketaffect.mlpackage.program import load_program
    from pocketaffect.mlpackage.quiet import import_coremltools
    from pocketaffect.models.network import load_network
    from pocketaffect.precisions import find_precision

    import_coremltools("coremltools.optimize.coreml")
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    params = load_params(root / "params.yaml")
    network, split = load_network(root / paths.MODEL), open_split(root / paths.SHARDS, "validation")
    spec = network.spec
    print(f"{spec.architecture} x {spec.width:g}, {spec.size} px, {params.export.precision}, {len(split)} faces")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packages = Packages(reparameterize(network), spec.size, PackageDescription("", "", "", ""), folder)
        _clock("convert to fp16", lambda: packages.make(find_precision("fp16")))
        if (precision := params.export.precision) != "auto":
            _clock(f"compress to {precision}", lambda: packages.make(find_precision(precision)))
        _clock(
            "all of the export stage",
            lambda: export_network(
                network,
                open_split(root / paths.SHARDS, "train"),
                split,
                split,
                export=params.export,
                train=params.train,
                margin=params.preprocess.margin,
                lineage={},
                target=folder / "export",
                rejects=folder,
            ),
        )
        program = load_program(folder / "export" / paths.PACKAGE.name)
        _clock("open the package", lambda: load_program(folder / "export" / paths.PACKAGE.name))

    def answer(faces: Any) -> None:
        with torch.inference_mode():
            network(torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255)

    for count in (1, BATCH):
        faces = np.array(split.images()[:count])
        runs: dict[str, Callable[[], Any]] = {
            "interpreter": lambda faces=faces: program.predict(faces),
            "PyTorch": lambda faces=faces: answer(faces),
        }
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.process_time()
                run()
                spent[name].append((time.process_time() - start) * 1e3 / count)
        ours, theirs = (statistics.median(spent[name]) for name in runs)
        print(f"batch {count:2}: interpreter {ours:.2f} CPU ms an image, PyTorch {theirs:.2f}: {ours / theirs:.1f} x")


def _clock(what: str, run: Callable[[], object]) -> None:
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    print(f"{what:28}{time.perf_counter() - clock:8.2f} s{time.process_time() - cpu:8.2f} CPU s", flush=True)


if __name__ == "__main__":
    main()
