"""Settings of every test process, before any numeric library is imported."""

import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

# Neither examples nor their drawing are timed: on a busy machine any of them may take seconds.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

# Two test processes on two cores: more threads only take turns.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from pocketaffect.telemetry import disable_telemetry  # noqa: E402  it sets variables, too

disable_telemetry()

# A shell's `command &` leaves Ctrl-C ignored, and so would every process that a test starts and means to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = ("pipeline", "audit", "data", "training", "export", "registry", "models", "predict", "sweep")
"""Folders in the order of their tests' time: begun last, a long one would run alone while the other process waits."""

SHARED = ("data", "training", "export", "registry", "models", "predict")
"""Folders whose files need the same fixtures and libraries: in one process, each is made and imported once."""


def pytest_collection_modifyitems(items):
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


class FolderScheduling(LoadFileScheduling):
    """xdist's distribution by file, but for some folders, which stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in SHARED else file


def pytest_xdist_make_scheduler(config, log):
    """Distributes a run of all folders; one of some files is left to xdist."""
    return FolderScheduling(config, log) if config.args_source is config.ArgsSource.TESTPATHS else None


@pytest.fixture(autouse=True)
def log_level():
    """A sweep makes its process quiet for good; the tests after it want to read the log."""
    yield
    logging.getLogger("pocketaffect").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def mount_small(tmp_path_factory):
    """Mounts file systems of a few megabytes; doing so takes root's rights."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        place = tmp_path_factory.mktemp("small")
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a small file system")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def store_template(tmp_path_factory) -> Path:
    """An empty MLflow store to copy: the sixty migrations that make one take seconds, so all processes share it."""
    from filelock import FileLock

    from pocketaffect.registry.store.store import open_store

    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with FileLock(place / "store-template.lock"), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(place / "store-template")
    return place / "store-template" / "mlruns"
