"""What starting costs: processor seconds and peak memory of a command, a worker, and a `dvc repro` with nothing to do.

    python benchmarks/start.py [--rounds 5] [--repro FOLDER]

A worker is a fresh process that imports what its job is found in, as a spawned one does before the job begins.
FOLDER is a repository in which nothing is left to do. `PYTHONPATH=OTHER/src` measures another checkout. Medians;
processor seconds, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "pocketaffect --help": "import sys; sys.argv[1:] = ['--help']; from pocketaffect.cli.main import main; main()",
    "worker of preprocess": "import cv2, pocketaffect.data.shards.writer",
    "worker of a sweep": "import pocketaffect.sweep.worker",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repro", type=Path)
    arguments = parser.parse_args()
    commands = {name: ([sys.executable, "-c", program], Path()) for name, program in PROGRAMS.items()}
    if arguments.repro is not None:
        commands["dvc repro, nothing to do"] = ([sys.executable, "-m", "dvc", "repro", "--quiet"], arguments.repro)
    print(f"{f'medians of {arguments.rounds}':<28}{'processor s':>12}{'peak MB':>9}")
    for name, (command, folder) in commands.items():
        _measure(command, folder)  # files come into the system's cache, bytecode is written
        seconds, megabytes = zip(*(_measure(command, folder) for _ in range(arguments.rounds)), strict=True)
        print(f"{name:<28}{statistics.median(seconds):>12.2f}{statistics.median(megabytes):>9.0f}")


def _measure(command: list[str], folder: Path) -> tuple[float, float]:
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
