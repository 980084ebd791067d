"""Audits of the sample's version from a fresh clone, beside the pipeline's own time.

    .venv/bin/python benchmarks/registry/audit.py [--quick-only] [--change NAME ...]

Clones the repository at HEAD, runs the pipeline there (seconds of `dvc repro`, as in `make repro` without set-up),
commits dvc.lock, and audits version 1: full, and quick. Then one commit for each of four changes, and an audit of
version 1 `--at` each: a changed seed, a changed training line, a changed data row, another thread count. Prints
seconds, ratio, verdict and the first stage and file that differ, and whether anything of the clone's work tree, index,
cache and store changed. About as long as seven runs of the pipeline; uses this environment and nothing from the net.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARIES = Path(sys.executable).parent


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick-only", action="store_true", help="no full audit")
    parser.add_argument("--change", choices=sorted(CHANGES), action="append", help="only these (default: all)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-audit-benchmark-") as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        pipeline = measure(clone, "dvc", "repro")[0]
        print(f"dvc repro             {pipeline:7.1f} s", flush=True)
        if run(clone, "git", "status", "--porcelain").stdout:
            commit(clone, "what the run wrote")
            run(clone, "pocketaffect", "register")
        before = digest(clone)
        if not arguments.quick_only:
            audit(clone, "full audit", pipeline)
        audit(clone, "quick audit", pipeline, "--quick")
        branch = run(clone, "git", "rev-parse", "--abbrev-ref", "HEAD").stdout.strip()
        print(f"user's files          {'untouched' if digest(clone) == before else 'CHANGED'}", flush=True)
        for name in arguments.change or ([] if arguments.quick_only else CHANGES):
            run(clone, "git", "checkout", "--quiet", "-b", name)
            CHANGES[name](clone)
            commit(clone, name)
            run(clone, "git", "checkout", "--quiet", branch)
            audit(clone, f"changed {name}", pipeline, "--at", name)


def audit(clone: Path, title: str, pipeline: float, *options: str) -> None:
    """Audits version 1 and prints a line."""
    report = clone.parent / "audit.json"
    seconds, _ = measure(
        clone, "pocketaffect", "audit", "1", "--no-record", "--json", str(report), *options, codes=range(6)
    )
    found = json.loads(report.read_text())
    first = found["first_difference"]
    place = f"; first: {first['stage']}, {first['file'] and first['file']['path']}" if first else ""
    print(f"{title:<22}{seconds:7.1f} s  x {seconds / pipeline:.2f}  {found['verdict']}{place}", flush=True)
    if first:
        print(f"{'':<22}{found['reason'][:400]}", flush=True)


def change_seed(clone: Path) -> None:
    """params.yaml: train.seed."""
    substitute(clone / "params.yaml", r"(?ms)(^train:.*?\n  seed: )\d+", r"\g<1>8")


def change_training_line(clone: Path) -> None:
    """The betas of the optimiser, in the library."""
    substitute(clone / "src/pocketaffect/training/module.py", "fused=True", "fused=True, betas=(0.9, 0.998)")


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


def measure(clone: Path, *command: str, codes: range = range(1)) -> tuple[float, str]:
    """Seconds that it takes, and what it printed."""
    start = time.monotonic()
    done = run(clone, *command, codes=codes)
    return time.monotonic() - start, done.stdout


def digest(clone: Path) -> str:
    """SHA-256 over name and content of every file of the clone but Python's caches."""
    total = hashlib.sha256()
    for file in sorted(clone.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(f"{file.relative_to(clone)}\0".encode() + file.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
