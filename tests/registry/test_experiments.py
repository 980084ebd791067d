"""What `dvc exp run` registers, in a real DVC repository with a real store: `-m slow`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import get_version, search_versions

pytestmark = pytest.mark.slow

SCRIPT = """
from pathlib import Path
from registry_parts import Registrar
from pocketaffect.registry.lineage.lineage import collect_lineage
from pocketaffect.registry.store.store import open_store

content = Path("params.yaml").read_bytes()
version = Registrar(open_store(Path()), Path(".work"), collect_lineage(Path()))(content)
Path("registered").write_text(version.digest)
"""
PIPELINE = """
stages:
  register:
    cmd: python register.py
    deps: [register.py]
    params: [seed]
    outs: [registered]
"""


@pytest.fixture
def repository(root) -> Path:
    """A committed DVC repository whose one stage registers what its settings say, and has run."""
    (root / "register.py").write_text(SCRIPT)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("seed: 1\n")
    (root / ".gitignore").write_text("/mlruns\n/.work\n/registered\n")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (
        (*git, "init", "-q"),
        ("dvc", "init", "-q"),
        ("dvc", "repro", "-q"),
        (*git, "add", "-A"),
        (*git, "commit", "-q", "-m", "all"),
    ):
        run(root, *command)
    return root


def run(root: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": places, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("way", ["--queue", "--temp", "workspace"])
def test_an_experiment_registers_in_its_parents_store_and_a_commit_of_it_becomes_candidate(repository, way):
    options = [] if way == "workspace" else [way]
    run(repository, "dvc", "exp", "run", *options, "--name", "q8", "-S", "seed=8")
    if way == "--queue":
        run(repository, "dvc", "exp", "run", "--run-all")
    store = open_store(repository)
    made = get_version(store, "pocketaffect", 2)
    assert made.tags["dvc.experiment"] == "q8"
    assert get_version(store, "pocketaffect", "candidate").version == 1

    run(repository, "dvc", "exp", "branch", "q8", "seed-8")
    run(repository, "git", "stash", "-q", "--include-untracked")
    run(repository, "git", "checkout", "-q", "seed-8")
    run(repository, "python", "register.py")
    candidate = get_version(store, "pocketaffect", "candidate")
    assert (candidate.version, candidate.tags["git.dirty"]) == (2, "false")
    assert "dvc.experiment" not in candidate.tags
    assert len(list(search_versions(store.client(), "name = 'pocketaffect'"))) == 2
