"""Audits of the sample's version from a fresh clone, beside the pipeline's own time.

    .venv/bin/python benchmarks/registry/audit.py [--small] [--quick-only | --full-only | --change NAME ...]

Clones the repository at HEAD, runs the pipeline there (`dvc repro`, as in `make repro` without set-up), and audits
version 1: full, and quick. Then one commit for each of four changes, and an audit of version 1 `--at` each: a changed
seed, a changed training line, a changed data row, another thread count. Prints seconds of the clock and of the
processor, the ratio of the latter (which other jobs on the machine hardly change), verdict, first stage and file that
differ, and whether anything of the clone's work tree, index, cache and store changed. Exits with 1 where a verdict or
a stage is not the right one.

About as long as seven runs of the pipeline. `--small` commits small settings first: fewer faces, a shallow network, two
epochs. Uses this environment and nothing from the net.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]
BINARIES = Path(sys.executable).parent


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small settings, committed first")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--quick-only", action="store_true", help="no full audit")
    parts.add_argument("--full-only", action="store_true", help="no changes")
    parts.add_argument("--change", choices=sorted(CHANGES), action="append", help="only these (default: all)")
    chosen = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="pocketaffect-audit-benchmark-") as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        if chosen.small:
            make_small(clone)
        pipeline = measure(clone, "dvc", "repro")
        print(f"{'dvc repro':<22}{pipeline.clock:7.1f} s {pipeline.processor:7.1f} CPU s", flush=True)
        if run(clone, "git", "status", "--porcelain").stdout:
            commit(clone, "what the run wrote")
            run(clone, "pocketaffect", "register")
        before = digest(clone)
        if not chosen.quick_only and not chosen.change:
            wrong += audit(clone, "full audit", pipeline, RIGHT["none"])
        wrong += audit(clone, "quick audit", pipeline, RIGHT["none"], "--quick")
        state = "untouched" if digest(clone) == before else "CHANGED"
        wrong += state == "CHANGED"
        print(f"{'files of the user':<22}{state}", flush=True)
        branch = run(clone, "git", "rev-parse", "--abbrev-ref", "HEAD").stdout.strip()
        for name in chosen.change or ([] if chosen.quick_only or chosen.full_only else CHANGES):
            run(clone, "git", "checkout", "--quiet", "-b", name)
            CHANGES[name](clone)
            commit(clone, name)
            run(clone, "git", "checkout", "--quiet", branch)
            wrong += audit(clone, f"changed {name}", pipeline, RIGHT[name], "--at", name)
    print("every verdict and stage is the right one" if not wrong else f"{wrong} WRONG")
    sys.exit(1 if wrong else 0)


@dataclass(frozen=True)
class Seconds:
    """What a command took."""

    clock: float
    processor: float


def audit(clone: Path, title: str, pipeline: Seconds, right: tuple[str, str | None], *options: str) -> bool:
    """Audits version 1 and prints a line; whether verdict or stage is wrong."""
    report = clone.parent / "audit.json"
    command = ("pocketaffect", "audit", "1", "--no-record", "--json", str(report), *options)
    took = measure(clone, *command, codes=range(6))
    found = json.loads(report.read_text())
    first = found["first_difference"]
    place = f"; first: {first['stage']}, {first['file'] and first['file']['path']}" if first else ""
    verdict = (found["verdict"], first and first["stage"])
    print(
        f"{title:<22}{took.clock:7.1f} s {took.processor:7.1f} CPU s  x {took.processor / pipeline.processor:.2f}  "
        f"{found['verdict']}{place}{'' if verdict == right else f'  WRONG, expected {right}'}",
        flush=True,
    )
    if first or verdict != right:
        print(f"{'':<22}{found['reason'][:400]}", flush=True)
    return verdict != right


def make_small(clone: Path) -> None:
    """Commits settings with which the pipeline takes a fraction: what is measured is the road, not the model."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    for section, values in SMALL.items():
        params[section].update(values)
    yaml.dump(params, clone / "params.yaml")
    commit(clone, "small settings")


def change_seed(clone: Path) -> None:
    """params.yaml: train.seed."""
    substitute(clone / "params.yaml", r"(?ms)(^train:.*?\n  seed: )\d+", r"\g<1>8")


def change_training_line(clone: Path) -> None:
    """The betas of the optimiser, in the library."""
    substitute(clone / "src/pocketaffect/training/optimizer.py", "fused=True", "fused=True, betas=(0.9, 0.998)")


def change_data_row(clone: Path) -> None:
    """One row of the training list, in a data set of the user's own."""
    mine = clone.parent / "mine"
    shutil.copytree(clone / "sample", mine)
    for file in mine.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    rows = (mine / "training.csv").read_text().splitlines(keepends=True)
    fields = rows[100].rstrip("\n").split(",")
    fields[6] = str((int(fields[6]) + 1) % 8)
    rows[100] = ",".join(fields) + "\n"
    (mine / "training.csv").write_text("".join(rows))
    run(clone, "pocketaffect", "data", "use", str(mine))
    measure(clone, "dvc", "repro", "data.dvc")


def change_threads(clone: Path) -> None:
    """params.yaml: train.threads."""
    substitute(clone / "params.yaml", r"(?m)^  threads: 1", "  threads: 2")


CHANGES: dict[str, Callable[[Path], None]] = {
    "seed": change_seed,
    "training-line": change_training_line,
    "data-row": change_data_row,
    "threads": change_threads,
}
RIGHT: dict[str, tuple[str, str | None]] = {
    "none": ("bit-identical", None),
    "seed": ("differs", "train"),
    "training-line": ("differs", "train"),
    "data-row": ("differs", "data"),
    "threads": ("equal within tolerance", "train"),
}
SMALL = {
    "sample": {"train_images": 320, "validation_images": 128},
    "validate": {"min_validation_per_class": 1},
    "preprocess": {"image_size": 32},
    "model": {"architecture": "alexnet", "width": 0.1},
    "train": {"epochs": 2},
    "evaluate": {"resamples": 100, "behaviour_images": 32},
    "export": {
        "max_mean_probability_difference": 0.05,
        "min_agreement": 0.5,
        "max_accuracy_drop": 0.5,
        "max_rmse_rise": 0.5,
    },
    "promotion": {"resamples": 100},
}


def substitute(file: Path, pattern: str, replacement: str) -> None:
    """Changes one place of a file, which must be there."""
    text, count = re.subn(pattern, replacement, file.read_text(), count=1)
    if not count:
        raise SystemExit(f"{file}: nothing like {pattern}")
    file.write_text(text)


def commit(clone: Path, message: str) -> None:
    """Commits everything."""
    run(clone, "git", "add", "--all")
    run(clone, "git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "--quiet", "-m", message)


def run(clone: Path, *command: str, codes: range = range(1)) -> subprocess.CompletedProcess[str]:
    """Runs a command of this environment on the clone's sources; it must end with one of `codes`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))
    }
    environment |= {
        "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone / "src"),
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def measure(clone: Path, *command: str, codes: range = range(1)) -> Seconds:
    """Runs a command; what it and its children took."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run(clone, *command, codes=codes)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.monotonic() - start, used)


def digest(clone: Path) -> str:
    """SHA-256 over name and content of every file of the clone but Python's caches."""
    total = hashlib.sha256()
    for file in sorted(clone.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(f"{file.relative_to(clone)}\0".encode() + file.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
