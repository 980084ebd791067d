"""What a new user meets: a fresh clone with empty caches, and a second clone that is killed twice on its way.

    python3 benchmarks/fresh_clone.py [--keep-cache]

Clone one: minutes of `make setup` and `make repro`, seconds of a `dvc repro` with nothing to do (median of five),
whether git is clean. Clone two, with the environment of clone one: kill -9 in the middle of `preprocess` and of
`train`, then `dvc repro`. All outputs of the two clones are compared byte by byte. Takes about ten minutes and 13 GB
of disk; needs nothing but Python, git and make.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep-cache", action="store_true", help="let uv and pip use their caches")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pocketaffect-fresh-", ignore_cleanup_errors=True) as scratch:
        first, second = Path(scratch) / "first", Path(scratch) / "second"
        environment = dict(os.environ)
        if not arguments.keep_cache:
            environment |= {"UV_CACHE_DIR": f"{scratch}/uv-cache", "PIP_NO_CACHE_DIR": "1"}
        for clone in (first, second):
            subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        print(f"make setup           {measure(['make', 'setup'], first, environment):7.1f} s")
        print(f"make repro           {measure(['make', 'repro'], first, environment):7.1f} s", flush=True)
        again = [measure([".venv/bin/dvc", "repro"], first, with_binaries(first, environment)) for _ in range(5)]
        print(f"dvc repro, no change {statistics.median(again):7.2f} s (median of 5)")
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=first, capture_output=True, text=True, check=True
        ).stdout
        print(f"git after it         {status if status else 'clean'}", flush=True)
        second_environment = with_binaries(first, environment) | {"PYTHONPATH": str(second / "src")}
        for stage, reached in (("preprocess", _is_writing_shards), ("train", _has_finished_an_epoch)):
            kill_in_the_middle(second, second_environment, reached)
            print(f"killed in {stage}", flush=True)
        seconds = measure(["dvc", "repro"], second, second_environment)
        print(f"dvc repro after it   {seconds:7.1f} s")
        ours, theirs = (digest_files(clone / "out") for clone in (first, second))
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        print(f"two clones           {len(ours)} files, {differing if differing else 'bit-identical'}")


def with_binaries(clone: Path, environment: dict[str, str]) -> dict[str, str]:
    """`environment` with the programs of the clone's .venv first."""
    return environment | {"PATH": f"{clone / '.venv/bin'}:{environment['PATH']}"}


def measure(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that `command` takes; its output is shown only if it fails."""
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - start


def kill_in_the_middle(clone: Path, environment: dict[str, str], reached: Callable[[Path], bool]) -> None:
    """Starts `dvc repro` and kills its whole process group, without notice, when `reached` says so."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=clone,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not reached(clone):
        if process.poll() is not None:
            raise SystemExit("dvc repro ended before it could be killed")
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_writing_shards(clone: Path) -> bool:
    return any((clone / "out").glob(".shards.*.draft"))


def _has_finished_an_epoch(clone: Path) -> bool:
    return any((clone / ".work/train").glob("*/last.ckpt"))


def digest_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder`."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


if __name__ == "__main__":
    main()
