from __future__ import annotations

import sys

import pytest

from pocketaffect.telemetry import disable_telemetry

disable_telemetry()


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture(autouse=True)
def _no_remembered_places():
    """MLflow remembers, as long as a process lives, where a run's artifacts are: here copies of a store are."""
    if "mlflow" in sys.modules:
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()
