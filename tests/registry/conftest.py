from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from registry_parts import Registrar, make_package

from pocketaffect.config import Params, load_params
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.store import Store, open_store
from pocketaffect.telemetry import disable_telemetry

disable_telemetry()


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture
def root(store_template, tmp_path) -> Path:
    """A repository whose store exists: a copy, since making one costs seconds."""
    root = tmp_path / "repository"
    shutil.copytree(store_template, root / "mlruns")
    return root


@pytest.fixture
def store(root) -> Store:
    return open_store(root)


@pytest.fixture
def lineage() -> Lineage:
    return Lineage(
        commit="a" * 40,
        dirty=False,
        dirty_paths=(),
        data_md5="b" * 32 + ".dir",
        data_source="sample",
        dvc_lock_sha256="c" * 64,
        params_sha256="d" * 64,
        requirements_sha256="e" * 64,
        package_version="0.1.0",
        python_version="3.11.7",
        torch_version="2.15.0",
        coremltools_version="9.0",
        platform="Linux x86_64",
        cpu="AVX2",
    )


@pytest.fixture
def package(tmp_path) -> Path:
    """Files laid out as a .mlpackage; the registry keeps bytes and does not read them."""
    return make_package(tmp_path / "affect.mlpackage", b"weights")


@pytest.fixture
def registrar(store, tmp_path, lineage) -> Registrar:
    return Registrar(store, tmp_path / "made", lineage)


@pytest.fixture(scope="session")
def shipped_params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def params(shipped_params) -> Params:
    """The shipped settings, with fewer draws: what they are good for is tested with the intervals."""
    promotion = shipped_params.promotion.model_copy(update={"resamples": 100})
    return shipped_params.model_copy(update={"promotion": promotion})
