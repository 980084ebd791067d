"""A small copy of this repository to run the whole pipeline in."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]

# Few images, one shallow network, two epochs: what is tested is the road, not the model.
SMALL: dict[str, dict[str, Any]] = {
    "sample": {"train_images": 320, "validation_images": 128},
    "validate": {"min_validation_per_class": 1},
    "preprocess": {"image_size": 32, "workers": 2, "shard_images": 64},
    "model": {"architecture": "alexnet", "width": 0.1},
    "train": {"epochs": 2, "batch_size": 32},
    "evaluate": {"resamples": 100, "behaviour_images": 40},
    "promotion": {"resamples": 100},
    "export": {
        "max_mean_probability_difference": 0.05,
        "min_agreement": 0.5,
        "max_accuracy_drop": 0.5,
        "max_rmse_rise": 0.5,
    },
}


class RepositoryCopy:
    """A clone-like copy: the files that git knows or would take, with `SMALL` settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path) -> RepositoryCopy:
        """Copies the work tree and commits it in a git repository of its own."""
        listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        copy = cls(folder)
        copy.edit_params(SMALL)
        git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
        for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "copy")):
            subprocess.run([*git, *arguments], cwd=folder, check=True)
        return copy

    def clone(self, folder: Path) -> RepositoryCopy:
        """What `git clone` gives: nothing that was made, and no cache."""
        subprocess.run(["git", "clone", "-q", str(self.folder), str(folder)], check=True)
        return RepositoryCopy(folder)

    def duplicate(self, folder: Path) -> RepositoryCopy:
        """The same repository elsewhere, with everything that was made in it."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return RepositoryCopy(folder)

    def edit_params(self, changes: dict[str, dict[str, Any]]) -> None:
        """Writes the changed settings into params.yaml."""
        yaml = YAML()
        file = self.folder / "params.yaml"
        params = yaml.load(file)
        for section, values in changes.items():
            params[section].update(values)
        yaml.dump(params, file)

    def environment(self) -> dict[str, str]:
        """This interpreter's, importing the copy's own sources."""
        binaries = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST"))}
        return kept | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment in the copy."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=900
        )

    def repro(self, *arguments: str) -> str:
        """`dvc repro`, which must work; what it printed."""
        done = self.run("dvc", "repro", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repro_and_kill(self, when: Callable[[], bool]) -> None:
        """Kills a `dvc repro`, its stage and the stage's workers at once, as soon as `when` holds."""
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 600
        while not when():
            assert process.poll() is None, "dvc repro ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def found(self, pattern: str) -> bool:
        """Whether something in the copy has such a path."""
        return next(self.folder.glob(pattern), None) is not None

    def hashes(self, *parts: str) -> dict[str, str]:
        """sha256 of every file below these parts of the copy."""
        files: list[Path] = []
        for part in parts:
            place = self.folder / part
            files += [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        return {str(file.relative_to(self.folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
