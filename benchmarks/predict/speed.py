"""`pocketaffect predict` on photographs, beside another checkout's: pictures a second, in alternating rounds.

    git worktree add BEFORE 2c92cd1
    .venv/bin/python benchmarks/predict/speed.py FACES BEFORE [--pictures 1000] [--rounds 2]

FACES is `real_faces` as the lab book has it, BEFORE a checkout whose `src/` the second command runs, in this
environment and with the same network: the ONNX twin that comes with pocketaffect. The photographs are LFW's (200 px)
and OASIS's (500 x 400), a tenth of all the latter enlarged to 5 megapixels. Each command reads all of them from its
start to its end, one thread. Printed are the processor's seconds, and how many pictures' first faces get one class.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from pocketaffect import paths
from pocketaffect.shipped.network import FOLDER

REPOSITORY = Path(__file__).resolve().parents[2]
LARGE = (2500, 2000)
COMMAND = "import sys; from pocketaffect.cli.main import main; sys.exit(main())"


def main() -> None:
    """Prints a row for each checkout."""
    arguments = _parse()
    checkouts = {"now": REPOSITORY, "before": arguments.before.resolve()}
    processor: dict[str, list[float]] = {name: [] for name in checkouts}
    clock: dict[str, list[float]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as scratch:
        pictures, answers = Path(scratch) / "pictures", Path(scratch) / "answers"
        answers.mkdir()
        count = write_pictures(arguments.faces / "Manually_Annotated_Images", pictures, arguments.pictures)
        for number in range(arguments.rounds):
            for name in list(checkouts)[:: 1 if number % 2 == 0 else -1]:
                spent, lasted = run(checkouts[name], pictures, answers / name)
                processor[name].append(spent)
                clock[name].append(lasted)
        found = {name: read_answers(answers / name) for name in checkouts}
    print(f"{count} photographs, {arguments.rounds} rounds in turns, load {os.getloadavg()[1]:.1f}\n")
    print("| checkout | pictures with a face | processor s | pictures a processor second | pictures a second |")
    print("|---|---|---|---|---|")
    for name in checkouts:
        spent, lasted = statistics.median(processor[name]), statistics.median(clock[name])
        rounds = ", ".join(f"{one:.1f}" for one in processor[name])
        print(f"| {name} | {len(found[name])} | {rounds} | {count / spent:.1f} | {count / lasted:.1f} |")
    ratio = statistics.median(processor["before"]) / statistics.median(processor["now"])
    shared = found["now"].keys() & found["before"].keys()
    same = sum(found["now"][one] == found["before"][one] for one in shared)
    print(f"\n{ratio:.2f} x as many pictures a processor second as before; of {len(shared)} largest faces that both")
    print(f"find, {same / max(1, len(shared)):.1%} have the same class")


def write_pictures(faces: Path, folder: Path, count: int) -> int:
    """Writes `count` photographs, under names of their own."""
    folder.mkdir()
    portraits = sorted((faces / "oasis").iterdir()) + sorted((faces / "oasis_nonface").iterdir())
    small = itertools.cycle([*portraits, *sorted((faces / "lfw").iterdir())[: count - count // 10 - len(portraits)]])
    large = itertools.cycle(portraits)
    for number in range(count):
        target = folder / f"{number:05d}.jpg"
        if number % 10 == 9:
            Image.open(next(large)).convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(target, quality=90)
        else:
            target.write_bytes(next(small).read_bytes())
    return count


def run(checkout: Path, pictures: Path, output: Path) -> tuple[float, float]:
    """Seconds of the processor and of the clock that a command takes, from its start."""
    command = [sys.executable, "-c", COMMAND, "predict", str(pictures), "--output", str(output)]
    command += ["--model", str(FOLDER / paths.TWIN.name)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=checkout, env=environment, check=False, capture_output=True, text=True)
    if not output.is_file():
        raise SystemExit(f"{checkout}: predict ended with {done.returncode}:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.monotonic() - began


def read_answers(file: Path) -> dict[str, str]:
    """The expression of each picture's first face."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {Path(row["input"]).name: row["expression"] for row in reversed(rows) if row["faces"]}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
