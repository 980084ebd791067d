"""Peak memory of preprocessing 10 thousand and 100 thousand images, in one run: flat.

    .venv/bin/python benchmarks/data/memory.py [--images 10000 100000] [--workers 2] [--memory-mb 512]

draws a few hundred images and gives each many names (hard links), so that the disk stays small (they are small as
well, to be done in minutes: what grows with their number does not depend on their size); runs `write_shards`
in a process of its own for each number of images and samples /proc every 50 ms: the sum of the proportional set sizes
(PSS: shared pages count once) of that process and its workers, at its highest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from affectnet_like import describe_machine, make_folder

DRAWN = 200
SAMPLE_SECONDS = 0.05
PROGRAM = """
import sys
from pathlib import Path
from pocketaffect.config import PreprocessParams
from pocketaffect.data.shards.write import write_shards
if __name__ == "__main__":
    root, workers, memory_mb, size = Path(sys.argv[1]), *map(int, sys.argv[2:])
    settings = PreprocessParams(
        image_size=size, margin=0.0, align="none", workers=workers, executor="local", shard_images=2048,
        memory_mb=memory_mb,
    )
    write_shards(root / "manifest.parquet", root / "data", root / "out", root / "work", settings)
"""


def main() -> None:
    """Prints the table."""
    arguments = _parse()
    print(f"{describe_machine()}; workers: {arguments.workers}, preprocess.memory_mb: {arguments.memory_mb}\n")
    print("| images | peak MB, all processes | its parent alone | seconds | load |")
    print("|---|---|---|---|---|")
    peaks = []
    for count in arguments.images:
        with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
            root = Path(scratch)
            make_folder(root, DRAWN, least=arguments.side, most=2 * arguments.side, repeat=-(-count // DRAWN))
            (root / "program.py").write_text(PROGRAM, encoding="utf-8")
            settings = [str(value) for value in (arguments.workers, arguments.memory_mb, arguments.size)]
            start = time.perf_counter()
            process = subprocess.Popen([sys.executable, str(root / "program.py"), scratch, *settings])
            peak, parent = sample_peak(process)
            seconds = time.perf_counter() - start
            if process.returncode:
                raise SystemExit(f"preprocessing {count} images failed")
        peaks.append(peak)
        print(
            f"| {count:,} | {peak / 1e6:.0f} | {parent / 1e6:.0f} | {seconds:.0f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )
    print(f"\nthe last takes {peaks[-1] / peaks[0]:.2f} times the memory of the first")


def sample_peak(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Bytes at the highest moment: of the process with all below it, and of itself."""
    peak = parent = 0
    while process.poll() is None:
        sizes = [read_pss(number) for number in list_family(process.pid)]
        peak, parent = max(peak, sum(sizes)), max(parent, sizes[0])
        time.sleep(SAMPLE_SECONDS)
    return peak, parent


def list_family(number: int) -> list[int]:
    """The process and all below it."""
    family = [number]
    for member in family:
        try:
            family += [int(child) for child in Path(f"/proc/{member}/task/{member}/children").read_text().split()]
        except OSError:  # it has ended
            continue
    return family


def read_pss(number: int) -> int:
    """Bytes, 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--side", type=int, default=100, help="pixels of the smallest image; of the largest, twice that"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
