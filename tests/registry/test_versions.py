from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_parts import in_processes, make_package

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import find_version, get_version, package_path


@pytest.fixture
def register(store, package, lineage):
    """register_package with everything filled in; keywords replace a part."""

    def call(**changes):
        arguments = {
            "model_name": "affect",
            "experiment": "faces",
            "package": package,
            "params": {"train.epochs": 2, "model.width": 0.35},
            "history": [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}],
            "metrics": {"accuracy": 0.5},
            "artifacts": [],
            "lineage": lineage,
            "description": "a test",
        }
        return register_package(store, **(arguments | changes))

    return call


def runs(store) -> list:
    return store.client().search_runs([store.experiment_id("faces")])


def test_a_package_becomes_version_1_under_the_alias_candidate(store, register, package, lineage):
    version = register()
    assert (version.version, version.created, version.aliases) == (1, True, ("candidate",))
    assert version.digest == package_digest(package)
    assert version.tags["package.sha256"] == version.digest
    assert lineage.to_tags().items() <= version.tags.items()
    assert dataclasses.replace(version, created=False) == get_version(store, "affect", "candidate")
    assert find_version(store, "affect", version.digest) == get_version(store, "affect", 1)
    assert find_version(store, "affect", "0" * 64) is None
    assert find_version(store, "another", version.digest) is None


def test_the_run_holds_parameters_curves_metrics_files_and_lineage(store, register, package, tmp_path, lineage):
    report = tmp_path / "report"
    report.mkdir()
    (report / "index.html").write_text("page")
    metrics_file = tmp_path / "metrics.json"
    metrics_file.write_text("{}")
    version = register(artifacts=[report, metrics_file])

    client = store.client()
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.epochs": "2", "model.width": "0.35"}
    assert run.data.metrics == {"loss": 1.0, "accuracy": 0.5}
    assert [(m.step, m.value) for m in client.get_metric_history(version.run_id, "loss")] == [(0, 2.0), (1, 1.0)]
    assert [m.step for m in client.get_metric_history(version.run_id, "accuracy")] == [1]
    assert lineage.to_tags().items() <= run.data.tags.items()
    assert {file.path for file in client.list_artifacts(version.run_id)} == {
        "report",
        "metrics.json",
        "model",
        "contents.json",
    }
    assert [file.path for file in client.list_artifacts(version.run_id, "report")] == ["report/index.html"]
    model = {file.path for file in client.list_artifacts(version.run_id, "model")}
    assert {f"model/{package.name}", "model/MLmodel"} <= model  # and what mlflow.pyfunc needs


def test_more_values_than_one_call_takes_are_all_logged(store, register):
    history = [{"epoch": epoch, **{f"m{i}": epoch + i for i in range(11)}} for epoch in range(200)]
    version = register(params={f"p{i}": i for i in range(230)}, history=history)
    assert len(store.client().get_run(version.run_id).data.params) == 230
    last = store.client().get_metric_history(version.run_id, "m10")
    assert [metric.value for metric in last] == [epoch + 10 for epoch in range(200)]


def test_a_metric_that_is_not_finite_is_left_out_and_named(store, register):
    history = [{"epoch": 0, "ccc": math.nan, "loss": 1.0}, {"epoch": 1, "ccc": 0.5, "loss": math.inf}]
    version = register(history=history, metrics={"rmse": -math.inf, "accuracy": 0.25})
    data = store.client().get_run(version.run_id).data
    assert data.metrics == {"loss": 1.0, "ccc": 0.5, "accuracy": 0.25}
    assert data.tags["metrics.not_finite"] == "ccc, loss, rmse"


def test_the_same_bytes_again_give_the_same_version_and_no_run(store, register, package, tmp_path):
    first = register()
    again = register(package=Path(shutil.copytree(package, tmp_path / "elsewhere" / "copy.mlpackage")))
    assert again == dataclasses.replace(first, created=False)
    assert len(runs(store)) == 1


def test_other_bytes_give_version_2_and_the_old_bytes_take_candidate_back(store, register, tmp_path):
    register()
    second = register(package=make_package(tmp_path / "other" / "affect.mlpackage", b"other"))
    assert (second.version, second.aliases) == (2, ("candidate",))
    assert get_version(store, "affect", 1).aliases == ()
    assert register().version == 1
    assert get_version(store, "affect", "candidate").version == 1
    assert get_version(store, "affect", "@candidate").version == 1


def test_processes_registering_three_packages_at_once_make_three_versions(store, register, tmp_path, capfd):
    packages = [make_package(tmp_path / str(i) / "affect.mlpackage", bytes([i])) for i in range(3)]

    def work(number: int) -> None:
        for turn in range(2):
            register(package=packages[(number + turn) % 3])

    assert in_processes(4, work) == [0] * 4, capfd.readouterr().err
    digests = {package_digest(package) for package in packages}
    versions = [get_version(store, "affect", number) for number in (1, 2, 3)]
    assert {version.digest for version in versions} == digests
    assert sum("candidate" in version.aliases for version in versions) == 1
    assert [run.info.status for run in runs(store)] == ["FINISHED"] * 3
    with pytest.raises(PocketAffectError, match="versions 1, 2, 3"):
        get_version(store, "affect", 4)


STEPS = (
    "create_run",
    "log_batch",
    "log_artifacts",
    "create_registered_model",
    "create_model_version",
    "set_terminated",
    "set_registered_model_alias",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_the_same_call_completes_it_and_makes_one_version(store, register, step):
    real = getattr(MlflowClient, step)

    def killed(self, *args, **kwargs):
        real(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    def work(_number: int) -> None:
        setattr(MlflowClient, step, killed)  # in the forked process only
        register()

    assert in_processes(1, work) == [-signal.SIGKILL]
    version = register()
    assert (version.version, version.aliases) == (1, ("candidate",))
    assert package_path(store, version).is_dir()
    statuses = {run.info.run_id: run.info.status for run in runs(store)}
    assert statuses.pop(version.run_id) == "FINISHED"
    assert set(statuses.values()) <= {"FAILED"}
    with pytest.raises(PocketAffectError, match="no version '2'"):
        get_version(store, "affect", 2)


def test_a_failure_marks_the_run_failed_and_names_the_disk(store, register, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifacts", full)
    with pytest.raises(PocketAffectError, match="free disk space"):
        register()
    assert [run.info.status for run in runs(store)] == ["FAILED"]
    assert find_version(store, "affect", "0" * 64) is None
    monkeypatch.undo()
    assert register().version == 1


def test_missing_files_are_refused_before_a_run_is_made(store, register, tmp_path):
    with pytest.raises(PocketAffectError, match=r"gone\.json"):
        register(artifacts=[tmp_path / "gone.json"])
    with pytest.raises(PocketAffectError, match=r"gone\.mlpackage"):
        register(package=tmp_path / "gone.mlpackage")
    assert runs(store) == []


def _change(package: Path) -> None:
    (package / "Manifest.json").write_text("changed")


def _add(package: Path) -> None:
    (package / "new").write_text("file")


@pytest.mark.parametrize("damage", [_change, _add, shutil.rmtree])
def test_a_package_that_changed_in_the_store_is_refused_everywhere(store, register, damage):
    version = register()
    damage(package_path(store, version))
    with pytest.raises(PocketAffectError, match=r"its package is (gone|not the one)"):
        package_path(store, version)
    with pytest.raises(PocketAffectError, match=r"its package is (gone|not the one)"):
        register()


def test_a_copy_of_the_package_has_the_registered_bytes(store, register, tmp_path):
    version = register()
    copy = package_path(store, version, tmp_path / "out")
    assert copy == tmp_path / "out" / "affect.mlpackage"
    assert package_digest(copy) == version.digest


def test_a_moved_repository_answers_a_version_with_its_package(store, register, root, tmp_path):
    register()
    root.rename(tmp_path / "moved")
    moved = open_store(tmp_path / "moved")
    assert package_path(moved, get_version(moved, "affect", "candidate")).is_relative_to(tmp_path / "moved")


def test_unknown_versions_and_aliases_are_refused_with_those_that_exist(store, register):
    with pytest.raises(PocketAffectError, match="nothing is registered under this name yet"):
        get_version(store, "affect", "candidate")
    register()
    with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
        get_version(store, "affect", "champion")
    with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
        get_version(store, "affect", 7)


def test_a_version_made_by_other_means_is_refused(store, tmp_path):
    store.client().create_registered_model("foreign")
    store.client().create_model_version("foreign", tmp_path.as_uri())
    with pytest.raises(PocketAffectError, match="not registered by pocketaffect"):
        package_path(store, get_version(store, "foreign", 1))


def test_another_machine_that_registered_first_on_a_shared_store_keeps_its_version(
    store_template, tmp_path, package, lineage, monkeypatch
):
    # Two machines share a database but no lock file: each side of this test locks its own.
    shutil.copytree(store_template, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server/mlflow.db")
    monkeypatch.chdir(tmp_path)
    arguments = {"params": {}, "history": [], "metrics": {}, "artifacts": [], "description": ""}
    ours = dataclasses.replace(open_store(tmp_path), lock_file=tmp_path / "ours")
    theirs = dataclasses.replace(ours, lock_file=tmp_path / "theirs")
    real, versions = MlflowClient.create_model_version, []

    def overtaken(self, *args, **kwargs):
        monkeypatch.setattr(MlflowClient, "create_model_version", real)
        versions.append(
            register_package(theirs, model_name="affect", experiment="b", package=package, lineage=lineage, **arguments)
        )
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", overtaken)
    version = register_package(ours, model_name="affect", experiment="a", package=package, lineage=lineage, **arguments)
    assert version == dataclasses.replace(versions[0], created=False)
    assert len(ours.client().search_model_versions("name = 'affect'")) == 1
    assert package_digest(package_path(ours, version)) == version.digest


def test_stages_are_never_written(store, register, root):
    register()
    with contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection:
        assert connection.execute("SELECT DISTINCT current_stage FROM model_versions").fetchall() == [("None",)]


@pytest.mark.slow
def test_a_real_server_keeps_versions_and_gives_packages_back(tmp_path, package, lineage, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    database = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    files = ["--artifacts-destination", str(tmp_path / "files")]
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen([*command, *database, *files], stdout=log, stderr=log, start_new_session=True)
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        for _ in range(120):
            with contextlib.suppress(PocketAffectError):
                store = open_store(tmp_path / "repository")
                break
            time.sleep(0.5)
        values = {"params": {"a": 1}, "history": [], "metrics": {"m": 1.0}, "artifacts": [], "description": ""}
        names = {"model_name": "affect", "experiment": "faces"}
        versions = [register_package(store, **names, package=package, lineage=lineage, **values) for _ in range(2)]
        assert [(version.version, version.created) for version in versions] == [(1, True), (1, False)]
        assert versions[1].aliases == ("candidate",)
        assert versions[1].source.startswith("mlflow-artifacts:")
        assert package_digest(package_path(store, versions[1])) == package_digest(package)
        with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
            get_version(store, "affect", "champion")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()
