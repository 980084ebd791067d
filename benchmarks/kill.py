"""Kill -9 at random moments of `sample`, `preprocess` and `register`: repeated, each ends with the undisturbed bytes.

    python benchmarks/kill.py [--kills 12] [--seed 1]

The first two run as pipelines/*.py in a clone of this commit with a small sample. All their processes are killed at a
moment drawn evenly over an undisturbed run's length; then the stage is repeated and every output byte compared.
Registrations are `benchmarks/registry/kill.py`'s. Exits with 1 where anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.files import hash_file

HERE: Final = Path(__file__).parent
SMALL: Final = {"train_images: 2600": "train_images: 256", "validation_images: 520": "validation_images: 128"}
OUTPUTS: Final = {"sample": (paths.SAMPLE,), "preprocess": (paths.SHARDS, paths.FACES_REPORT)}


def main() -> None:
    """Runs it and prints a row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    draw, failed = random.Random(chosen.seed), False
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--shared", HERE.parent, clone], check=True)
        text = (clone / "params.yaml").read_text(encoding="utf-8")
        for old, new in SMALL.items():
            text = text.replace(old, new)
        (clone / "params.yaml").write_text(text, encoding="utf-8")
        for stage in OUTPUTS:
            failed |= kill_stage(clone, stage, chosen.kills, draw)
            if stage == "sample":
                shutil.copytree(clone / paths.SAMPLE, clone / paths.DATA)
                start(clone, "validate").wait()
    command = [sys.executable, HERE / "registry" / "kill.py", "--kills", str(2 * chosen.kills)]
    print("register and promote, in turn: ", end="", flush=True)
    sys.exit(subprocess.run(command, check=False).returncode or int(failed))


def kill_stage(clone: Path, stage: str, kills: int, draw: random.Random) -> bool:
    """Whether the bytes after a kill and a repeated run ever differ from an undisturbed run's."""
    began = time.perf_counter()
    assert start(clone, stage).wait() == 0
    length, undisturbed = time.perf_counter() - began, hash_outputs(clone, stage)
    interrupted = same = 0
    for _ in range(kills):
        for output in OUTPUTS[stage]:  # as DVC does before it runs a stage
            shutil.rmtree(clone / output)
        process = start(clone, stage)
        time.sleep(draw.uniform(0, length))
        os.killpg(process.pid, signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
        assert start(clone, stage).wait() == 0
        same += hash_outputs(clone, stage) == undisturbed
    print(
        f"{stage}: {kills} kills, {interrupted} of them before its end; {same} times the undisturbed "
        f"{len(undisturbed)} files, bit for bit"
    )
    return same < kills


def start(clone: Path, stage: str) -> subprocess.Popen[bytes]:
    """Starts a stage with its processes in a group of their own."""
    command = [sys.executable, f"pipelines/{stage}.py"]
    return subprocess.Popen(command, cwd=clone, stderr=subprocess.DEVNULL, start_new_session=True)


def hash_outputs(clone: Path, stage: str) -> dict[str, str]:
    """SHA-256 of every file below a stage's outputs."""
    files = [file for output in OUTPUTS[stage] for file in (clone / output).rglob("*") if file.is_file()]
    return {file.relative_to(clone).as_posix(): hash_file(file) for file in sorted(files)}


if __name__ == "__main__":
    main()
