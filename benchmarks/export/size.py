"""Predicted bytes against those of real conversions, with random weights, one line for each.

    .venv/bin/python benchmarks/export/size.py [ROUNDS]

In each round (default one) every design gets a width, a size, a head and five precisions by lot: 45 packages, which are
converted and whose errors are printed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "export"))

from size_parts import compare

from pocketaffect.designs import CATALOGUE
from pocketaffect.export.size import list_shapes, predict_package_bytes
from pocketaffect.models.network import NetworkSpec
from pocketaffect.precisions import PRECISIONS


def main() -> None:
    """Prints the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    rng = np.random.default_rng(2026)
    errors: list[tuple[int, int]] = []
    for architecture in [*CATALOGUE] * rounds:
        spec = NetworkSpec(
            architecture,
            round(float(rng.uniform(0.08, 0.5)), 2),
            int(rng.choice([32, 48, 64])),
            str(rng.choice(["prototype", "plain"])),
        )
        with tempfile.TemporaryDirectory() as folder:
            for name, predicted, real in compare(spec, rng.choice(list(PRECISIONS), 5, replace=False), Path(folder)):
                error = predicted - real
                errors.append((error, real))
                print(
                    f"{spec.architecture:24}{spec.width:6}{spec.size:4} {spec.head:10}{name:18}"
                    f"{real:10,}{predicted:10,}{error:6}",
                    flush=True,
                )
    over = np.array([error for error, _ in errors])
    share = np.array([abs(error) / real for error, real in errors])
    print(
        f"{len(errors)} packages: error {over.min()} to {over.max()} bytes, "
        f"mean share {share.mean():.3%}, worst {share.max():.3%}"
    )
    shapes = list_shapes(NetworkSpec("vgg", 0.35, 64, "prototype"))
    start = time.perf_counter()
    for _ in range(1000):
        predict_package_bytes(shapes, "int8")
    print(f"a guess with known shapes: {(time.perf_counter() - start) * 1000:.0f} microseconds")


if __name__ == "__main__":
    main()
