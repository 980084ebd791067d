from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from registry_parts import Registrar, make_package

from pocketaffect.checkout import ask_git
from pocketaffect.config import Params, load_params
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.store import Store, open_store
from pocketaffect.telemetry import disable_telemetry

disable_telemetry()

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture(scope="session")
def committed(tmp_path_factory) -> Path:
    """A git repository with the shipped settings, but for fewer draws: what they are good for is tested elsewhere."""
    folder = tmp_path_factory.mktemp("committed")
    text = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
    promotion = text.index("\npromotion:")
    fewer = re.sub(r"resamples: \d+", "resamples: 100", text[promotion:], count=1)
    (folder / "params.yaml").write_text(text[:promotion] + fewer, encoding="utf-8")
    (folder / ".gitignore").write_text("/mlruns\n")
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "settings")):
        subprocess.run([*GIT, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture
def root(store_template, committed, tmp_path, monkeypatch) -> Path:
    """A repository whose store exists: a copy, since making one costs seconds."""
    root = Path(shutil.copytree(committed, tmp_path / "repository"))
    root.chmod(0o755)  # pytest keeps its folders to one user
    shutil.copytree(store_template, root / "mlruns")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def store(root) -> Store:
    return open_store(root)


@pytest.fixture
def lineage(root) -> Lineage:
    return Lineage(
        commit=str(ask_git(root, "rev-parse", "HEAD")),
        dirty_paths=(),
        data_md5="b" * 32 + ".dir",
        data_source="sample",
        sha256={"dvc_lock": "c" * 64, "params": "d" * 64, "requirements": "e" * 64},
        versions={"pocketaffect": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "coremltools": "9.0"},
        machine={"platform": "Linux x86_64", "cpu": "AVX2"},
    )


@pytest.fixture
def package(tmp_path) -> Path:
    """Files laid out as a .mlpackage; the registry keeps bytes and does not read them."""
    return make_package(tmp_path / "affect.mlpackage", b"weights")


@pytest.fixture
def registrar(store, tmp_path, lineage) -> Registrar:
    return Registrar(store, tmp_path / "made", lineage)


@pytest.fixture
def params(committed) -> Params:
    return load_params(committed / "params.yaml")
