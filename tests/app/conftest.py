"""Fixtures of the app's tests."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app_parts import ROOT, make_twin, open_services
from fastapi.testclient import TestClient

from pocketaffect import paths
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.server.api import Services
from pocketaffect.app.server.runtime import DETECTOR, LOCK_FILE, RUNTIME, is_installed
from pocketaffect.app.server.server import create_app


@pytest.fixture(scope="session")
def twin() -> bytes:
    return make_twin()


@pytest.fixture(scope="session")
def small_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the runtime's form, for tests in which no browser runs what lies in it."""
    folder = tmp_path_factory.mktemp("web")
    for name in (*RUNTIME, DETECTOR):
        (folder / name).write_bytes(name.encode())
        (folder / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
        (folder / f"{name}.br").write_bytes(b"brotli")  # no client of these tests unpacks it
    shutil.copy(LOCK_FILE, folder / "package-lock.json")
    return folder


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The real one."""
    folder = ROOT / paths.WEB
    if not is_installed(folder):
        pytest.skip("the page's runtime is not there: make web")
    return folder


@pytest.fixture(scope="session")
def curated() -> Catalogue:
    return Catalogue.load(None)


@pytest.fixture
def services(tmp_path: Path, twin: bytes, curated: Catalogue) -> Iterator[Services]:
    with open_services(tmp_path, twin, curated) as opened:
        yield opened


@pytest.fixture
def client(services: Services, small_runtime: Path) -> TestClient:
    """Asks the application as a page of its own would."""
    return TestClient(create_app(services, small_runtime), base_url="http://127.0.0.1")


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model and what its verification said."""

    def write(content: bytes, verification: object = None) -> Path:
        folder = tmp_path_factory.mktemp("export")
        (folder / paths.TWIN.name).write_bytes(content)
        if verification is not None:
            text = verification if isinstance(verification, str) else json.dumps(verification)
            (folder / paths.VERIFICATION.name).write_text(text)
        return folder / paths.TWIN.name

    return write
