"""A small repository with a DVC pipeline of its own, whose stages take a blink, and a version registered from it.

The stages have the names, places and kinds of files of the real pipeline, and real arithmetic: `train` fits a line by
gradient descent in float32, and adds up in as many parts as `train.threads` says, which rounds otherwise.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from pocketaffect.audit.audit import Case
from pocketaffect.config import RegisterParams
from pocketaffect.registry.lineage.lineage import collect_lineage
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import RunRecord
from pocketaffect.registry.store.store import Store, open_store
from pocketaffect.registry.store.versions import RegisteredVersion

DVC_YAML = """
stages:
  sample:
    cmd: python pipelines/sample.py
    deps: [pipelines/sample.py]
    params: [sample]
    outs: [sample]
  validate:
    cmd: python pipelines/validate.py
    deps: [data, pipelines/validate.py]
    outs: [out/manifest]
  train:
    cmd: python pipelines/train.py
    deps: [out/manifest, pipelines/train.py]
    params: [train]
    outs: [out/model]
  evaluate:
    cmd: python pipelines/evaluate.py
    deps: [out/manifest, out/model, pipelines/evaluate.py]
    outs: [out/evaluation]
  export:
    cmd: python pipelines/export.py
    deps: [out/model, pipelines/export.py]
    outs: [out/export]
"""
PARAMS = """
sample: {seed: 1, rows: 400}
train: {seed: 7, threads: 1, steps: 40}
"""
SAMPLE = """
import random, yaml_params
from pathlib import Path
draw = random.Random(yaml_params.read("sample", "seed"))
lines = ["x,y"]
for _ in range(int(yaml_params.read("sample", "rows"))):
    x = draw.uniform(-1, 1)
    lines.append(f"{x:.6f},{0.6 * x + draw.gauss(0, 0.1):.6f}")
Path("sample").mkdir(exist_ok=True)
Path("sample/training.csv").write_text("\\n".join(lines) + "\\n")
"""
VALIDATE = """
import shutil
from pathlib import Path
Path("out/manifest").mkdir(parents=True)
shutil.copy("data/training.csv", "out/manifest/rows.csv")
"""
TRAIN = """
import csv, json, random, yaml_params
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
rows = np.array([[float(x), float(y)] for x, y in list(csv.reader(open("out/manifest/rows.csv")))[1:]], np.float32)
parts = int(yaml_params.read("train", "threads"))
weight = np.float32(random.Random(int(yaml_params.read("train", "seed"))).uniform(-1, 1))
rate = np.float32(0.05)
for _ in range(int(yaml_params.read("train", "steps"))):
    slope = (weight * rows[:, 0] - rows[:, 1]) * rows[:, 0]
    total = np.float32(0)
    for part in np.array_split(slope, parts):
        own = np.float32(0)
        for value in part:
            own += value
        total += own
    weight = np.float32(weight - rate * total / np.float32(len(rows)))
Path("out/model").mkdir(parents=True)
save_file({"line.weight": np.array([weight])}, "out/model/model.safetensors")
"""
EVALUATE = """
import csv, json
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file
rows = np.array([[float(x), float(y)] for x, y in list(csv.reader(open("out/manifest/rows.csv")))[1:]])
error = float(load_file("out/model/model.safetensors")["line.weight"][0]) * rows[:, 0] - rows[:, 1]
Path("out/evaluation").mkdir(parents=True)
Path("out/evaluation/metrics.json").write_text(json.dumps({"rmse_valence": float(np.sqrt((error ** 2).mean()))}))
"""
EXPORT = """
import json, shutil
from pathlib import Path
package = Path("out/export/PocketAffect.mlpackage")
package.mkdir(parents=True)
shutil.copy("out/model/model.safetensors", package / "weight.bin")
size = (package / "weight.bin").stat().st_size
Path("out/export/verification.json").write_text(json.dumps({"package_bytes": size, "passed": True}))
"""
YAML_PARAMS = """
import re
def read(section, key):
    line = next(line for line in open("params.yaml") if line.startswith(section + ":"))
    return float(re.search(rf"\\b{key}: ([0-9.]+)", line)[1])
"""
SCRIPTS = {
    "sample": SAMPLE,
    "validate": VALIDATE,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "export": EXPORT,
    "yaml_params": YAML_PARAMS,
}
LOCKED = ("numpy", "safetensors")


class SmallRepository:
    """The repository, its DVC cache, and its store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def make(cls, root: Path) -> SmallRepository:
        """Writes and commits it; nothing has run yet."""
        repository = cls(root)
        for name, content in SCRIPTS.items():
            repository.write(f"pipelines/{name}.py", content)
        repository.write("dvc.yaml", DVC_YAML)
        repository.write("params.yaml", PARAMS)
        repository.write("data.dvc", "deps:\n- path: sample\nouts:\n- path: data\n")
        repository.write("requirements.lock", "".join(f"{name}=={installed_version(name)}\n" for name in LOCKED))
        repository.write(".dvc/config", "[core]\n    analytics = false\n")
        repository.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        repository.write(".gitignore", "/sample\n/data\n/out\n/mlruns\n__pycache__\n")
        repository.git("init", "--quiet", "--initial-branch=main")
        repository.commit("first")
        return repository

    def duplicate(self, root: Path) -> SmallRepository:
        """The same elsewhere, with cache and store."""
        shutil.copytree(self.root, root, symlinks=True)
        return SmallRepository(root)

    def write(self, name: str, content: str) -> None:
        """Writes a file of it."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content.lstrip("\n"))

    def replace(self, name: str, old: str, new: str) -> None:
        """Changes one place of a file."""
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def git(self, *arguments: str) -> str:
        """Runs git; what it printed."""
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        """Commits everything; the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str, changes: dict[str, tuple[str, str]]) -> str:
        """A commit beside main with these changes: file -> old and new text; main stays checked out."""
        self.git("checkout", "--quiet", "-b", name)
        for file, (old, new) in changes.items():
            self.replace(file, old, new)
        commit = self.commit(name)
        self.git("checkout", "--quiet", "main")
        return commit

    def dvc(self, *arguments: str) -> None:
        """Runs DVC with an own state; it must work."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc-state"),
            "DVC_NO_ANALYTICS": "1",
        }
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def register(self) -> RegisteredVersion:
        """Registers what lies in out/."""
        kept = ("out/evaluation", "out/export/verification.json", "params.yaml", "dvc.lock")
        record = RunRecord(
            self.root / "out/export/PocketAffect.mlpackage",
            collect_lineage(self.root),
            artifacts=[self.root / name for name in kept],
            description="a line",
        )
        names = RegisterParams(model_name="small", experiment="small", allow_dirty=True)
        return register_package(self.store(), names, record)

    def store(self) -> Store:
        """Its store."""
        return open_store(self.root)

    def case(self, version: RegisteredVersion, place: Path) -> Case:
        """An audit of it to begin."""
        return Case(self.root, self.store(), version, place)


def hash_tree(root: Path, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256, mode and link target of everything below `root`."""
    content = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.startswith(without):
            continue
        if path.is_symlink():
            content[name] = f"-> {path.readlink()}"
        elif path.is_file():
            content[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        else:
            content[name] = f"{path.stat().st_mode:o}"
    return content
