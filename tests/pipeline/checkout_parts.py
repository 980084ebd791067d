"""A small checkout: this repository's sources, its stage scripts, and a stage that says whose sources run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROBE = """
import own_sources  # noqa: F401

import multiprocessing
import subprocess
import sys
from pathlib import Path

from pocketaffect import errors
from pocketaffect.stage import run_stage


def say(file):
    Path(file).write_text(errors.__file__ + errors.__doc__)


def main(params):
    say("here")
    process = multiprocessing.get_context("spawn").Process(target=say, args=("spawned",))
    process.start()
    process.join()
    code = "from pocketaffect import errors; print(errors.__file__ + errors.__doc__, end='')"
    Path("started").write_text(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)


if __name__ == "__main__":
    run_stage("probe", main)
"""
PIPELINE = """
stages:
  probe:
    cmd: python pipelines/probe.py
    deps: [pipelines, src]
    params: [train]
    outs: [here, spawned, started]
"""


def make_checkout(folder: Path) -> Path:
    """Copies sources, scripts and settings; the new stage `probe` writes whose sources each of its processes runs."""
    for name in ("src", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "pipelines" / "probe.py").write_text(PROBE)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".gitignore").write_text("__pycache__/\n/here\n/spawned\n/started\n")
    return folder


def edit_sources(checkout: Path, text: str) -> None:
    """Changes what `probe` writes."""
    file = checkout / "src" / "pocketaffect" / "errors.py"
    file.write_text(file.read_text().replace('"""', f'"""{text} ', 1))


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with this environment's programs, which import the sources of another checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("DVC_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=checkout, env=kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}, capture_output=True, text=True
    )
