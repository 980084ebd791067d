from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow.pyfunc
import pytest
from mlflow import MlflowClient
from registry_parts import in_processes, make_package

from pocketaffect.config import RegisterParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.promotion.policy import find_gaps
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import RunRecord, login_name
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import find_version, get_version, package_path

NAMES = RegisterParams(model_name="affect", experiment="faces", allow_dirty=True)


@pytest.fixture
def record(package, lineage) -> RunRecord:
    """A small run of everything that is registered."""
    return RunRecord(
        package,
        lineage,
        params={"train.epochs": 2, "model.width": 0.35},
        history=[{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}],
        metrics={"accuracy": 0.5},
        description="a test",
    )


@pytest.fixture
def register(store, record):
    """register_package of the record; keywords replace a part of it."""
    return lambda **changes: register_package(store, NAMES, dataclasses.replace(record, **changes))


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


def test_mlflow_s_pages_show_data_user_source_model_description_and_the_training_s_time(store, register, lineage):
    version = register(trained=(1_700_000_000.0, 1_700_000_090.5), faces=2550)
    client = store.client()
    run = client.get_run(version.run_id)
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_090_500)
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == (lineage.data_source, lineage.data_md5)
    assert json.loads(data.dataset.profile) == {"num_rows": 2550}
    shown = {name.removeprefix("mlflow."): value for name, value in run.data.tags.items()}
    assert (shown["user"], shown["source.name"], shown["note.content"]) == (login_name(), "dvc repro", "a test")
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.status, model.name, output.step) == ("READY", "affect", 1)
    assert {metric.key: metric.value for metric in model.metrics} == {"accuracy": 0.5}
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "affect", "version": version.version}]
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert "valence" in client.get_registered_model("affect").description


def test_more_values_than_one_call_takes_are_all_logged(store, register):
    history = [{"epoch": epoch, **{f"m{i}": epoch + i for i in range(11)}} for epoch in range(200)]
    version = register(params={f"p{i}": i for i in range(230)}, history=history)
    assert len(store.client().get_run(version.run_id).data.params) == 230
    last = store.client().get_metric_history(version.run_id, "m10")
    assert [metric.value for metric in last] == [epoch + 10 for epoch in range(200)]


def test_a_metric_that_is_not_a_number_is_kept_as_such(store, register):
    history = [{"epoch": 0, "ccc": math.nan, "loss": 1.0}, {"epoch": 1, "ccc": 0.5, "loss": 0.9}]
    version = register(history=history, metrics={"rmse": math.nan, "accuracy": 0.25})
    data = store.client().get_run(version.run_id).data
    assert math.isnan(data.metrics.pop("rmse"))
    assert data.metrics == {"loss": 0.9, "ccc": 0.5, "accuracy": 0.25}


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


def test_an_experiments_version_is_no_candidate_until_a_commit_on_a_branch_makes_it(
    store, register, record, lineage, package, tmp_path
):
    register(package=make_package(tmp_path / "other.mlpackage", b"other"))
    experiment = dataclasses.replace(lineage, experiment="q8", dirty_paths=("params.yaml",))
    made = register(lineage=experiment)
    assert (made.version, made.aliases, made.tags["dvc.experiment"]) == (2, (), "q8")
    assert any("only the DVC experiment q8 made it" in gap for gap in find_gaps(made, package, tmp_path))
    for still in (
        experiment,
        dataclasses.replace(experiment, dirty_paths=()),
        dataclasses.replace(lineage, dirty_paths=("code.py",)),
    ):
        assert register(lineage=still).tags["dvc.experiment"] == "q8"

    git = ("git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (
        ("init", "-q", "-b", "gone"),
        ("commit", "-q", "--allow-empty", "-m", "x"),
        ("checkout", "-q", "--detach"),  # as an experiment's commit, which no branch holds
        ("branch", "-q", "-D", "gone"),
    ):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    record = dataclasses.replace(record, lineage=dataclasses.replace(lineage, commit=commit))
    assert register_package(store, NAMES, record, root=tmp_path).tags["dvc.experiment"] == "q8"
    subprocess.run([*git, "branch", "mine"], check=True)
    cleared = register_package(store, NAMES, record, root=tmp_path)
    assert (cleared.version, cleared.aliases, cleared.tags["git.commit"]) == (2, ("candidate",), commit)
    assert cleared.tags["git.first_commit"] == f"{lineage.commit} with changes, DVC experiment q8"
    tags = store.client().get_run(cleared.run_id).data.tags
    assert "dvc.experiment" not in tags.keys() | cleared.tags.keys()
    assert not any("made it" in gap for gap in find_gaps(cleared, package, tmp_path))
    assert "dvc.experiment" not in register(lineage=experiment).tags  # the bytes have their commit


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
    "create_logged_model",
    "create_registered_model",
    "create_model_version",
    "set_terminated",
    "set_registered_model_alias",
)
FAST_STEPS = ("create_run", "log_artifacts", "create_model_version")
"""One before the files are there, one before the version is, and one after it."""


@pytest.mark.parametrize(
    "step", [step if step in FAST_STEPS else pytest.param(step, marks=pytest.mark.slow) for step in STEPS]
)
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


def files_of_runs(store) -> list[Path]:
    return [path for path in store.artifact_root.rglob("*") if path.is_file()]


def test_a_disk_that_fills_up_leaves_no_partial_copy_so_that_freeing_what_was_asked_for_is_enough(
    mount_small, store_template, package, record
):
    small_disk = mount_small(megabytes=8)
    root = small_disk / "repository"
    shutil.copytree(store_template, root / "mlruns")
    store = open_store(root)
    weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.write_bytes(os.urandom(shutil.disk_usage(small_disk).free // 2))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free * 3 // 4))
    before = shutil.disk_usage(small_disk).free
    for _ in range(3):
        with pytest.raises(PocketAffectError, match="disk full"):
            register_package(store, NAMES, record)
        assert files_of_runs(store) == []
        assert shutil.disk_usage(small_disk).free > before * 0.9
    assert {run.info.status for run in runs(store)} == {"FAILED"}
    filler.unlink()
    assert register_package(store, NAMES, record).version == 1


def test_what_a_killed_registration_copied_is_removed_by_the_next(store, register, tmp_path):
    def work(_number: int) -> None:
        MlflowClient.create_registered_model = lambda *_a, **_k: os.kill(os.getpid(), signal.SIGKILL)
        register(package=make_package(tmp_path / "other" / "affect.mlpackage", bytes(1_000_000)))

    assert in_processes(1, work) == [-signal.SIGKILL]
    assert any(file.stat().st_size == 1_000_000 for file in files_of_runs(store))
    version = register()
    assert all(file.is_relative_to(package_path(store, version).parent.parent) for file in files_of_runs(store))


def test_a_version_whose_process_was_killed_before_its_run_ended_keeps_its_files(store, register, tmp_path):
    real = MlflowClient.create_model_version

    def work(_number: int) -> None:
        def killed(self, *args, **kwargs):
            real(self, *args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        MlflowClient.create_model_version = killed  # in the forked process only
        register()

    assert in_processes(1, work) == [-signal.SIGKILL]
    register(package=make_package(tmp_path / "other" / "affect.mlpackage", b"other"))
    first = get_version(store, "affect", 1)
    assert package_path(store, first).is_dir()
    assert store.client().get_run(first.run_id).info.status == "FINISHED"


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
    with pytest.raises(PocketAffectError, match=r"affect\.mlpackage is (gone|not what)"):
        package_path(store, version)
    with pytest.raises(PocketAffectError, match=r"affect\.mlpackage is (gone|not what)"):
        register()


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
    store_template, tmp_path, record, monkeypatch
):
    # Two machines share a database but no lock file: each side of this test locks its own.
    shutil.copytree(store_template, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server/mlflow.db")
    monkeypatch.chdir(tmp_path)
    ours = dataclasses.replace(open_store(tmp_path), lock_file=tmp_path / "ours")
    theirs = dataclasses.replace(ours, lock_file=tmp_path / "theirs")
    real, versions = MlflowClient.create_model_version, []

    def overtaken(self, *args, **kwargs):
        monkeypatch.setattr(MlflowClient, "create_model_version", real)
        versions.append(register_package(theirs, NAMES.model_copy(update={"experiment": "b"}), record))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", overtaken)
    version = register_package(ours, NAMES, record)
    assert version == dataclasses.replace(versions[0], created=False)
    assert len(ours.client().search_model_versions("name = 'affect'")) == 1
    assert package_digest(package_path(ours, version)) == version.digest == record.digest


@pytest.fixture
def address(store, monkeypatch) -> str:
    """What MLflow loads a registered version by."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    return "models:/affect@candidate"


def test_a_byte_that_changed_in_what_mlflow_reads_first_is_refused_by_name(store, register, address):
    version = register()
    file = package_path(store, version).with_name("MLmodel")
    content = file.read_bytes()
    assert Path(mlflow.artifacts.download_artifacts(address)) == file.parent
    for place in range(0, len(content), 40):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(PocketAffectError, match="MLmodel: not the file that was registered"):
            mlflow.pyfunc.load_model(address)


READ = """
import os, sys, warnings
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from pocketaffect.registry.promotion.log import survey
from pocketaffect.registry.store.store import find_store
from pocketaffect.registry.store.versions import get_version, package_path
root = Path(sys.argv[1])
os.chdir(root)
os.setuid(65534)
store = find_store(root)
print(survey(store, "affect"))
print(package_path(store, get_version(store, "affect", 1)))
os.environ["MLFLOW_TRACKING_URI"] = store.tracking_uri
if not store.moved:  # MLflow looks where the database says
    print(mlflow.artifacts.download_artifacts("models:/affect@candidate"))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="gives up root's rights, which takes root")
@pytest.mark.parametrize("moved", [False, True], ids=["in place", "moved before"])
def test_a_read_only_store_is_read_by_us_and_by_mlflow(store_template, record, moved):
    place = Path(tempfile.mkdtemp(prefix="read-only-"))  # tmp_path's parents are closed to other users
    root = place / "repository"
    try:
        place.chmod(0o755)
        shutil.copytree(store_template, root / "mlruns")
        register_package(open_store(root), NAMES, record)
        if moved:
            root = root.rename(place / "moved")
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run([sys.executable, "-c", READ, str(root)], capture_output=True, text=True, timeout=300)
    finally:
        shutil.rmtree(place)
    assert "candidate" in done.stdout, done.stderr
    ours, *mlflows = done.stdout.partition("pocketaffect promote`\n")[2].splitlines()
    assert Path(ours).is_relative_to(root / "mlruns")
    assert len(mlflows) == (not moved), done.stderr
    assert not any(Path(copy).is_relative_to(root) for copy in mlflows)


def test_stages_are_never_written(store, register, root):
    register()
    with contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection:
        assert connection.execute("SELECT DISTINCT current_stage FROM model_versions").fetchall() == [("None",)]


@pytest.mark.slow
def test_a_real_server_keeps_versions_and_gives_packages_back(tmp_path, record, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    database = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    files = ["--artifacts-destination", str(tmp_path / "files")]
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen([*command, *database, *files], stdout=log, stderr=log, start_new_session=True)
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        for _ in range(600):  # of a busy machine
            with contextlib.suppress(PocketAffectError):
                store = open_store(tmp_path / "repository")
                break
            time.sleep(0.5)
        versions = [register_package(store, NAMES, record) for _ in range(2)]
        assert [(version.version, version.created) for version in versions] == [(1, True), (1, False)]
        assert versions[1].aliases == ("candidate",)
        assert versions[1].source.startswith("mlflow-artifacts:")
        assert package_digest(package_path(store, versions[1])) == record.digest
        with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
            get_version(store, "affect", "champion")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(300)
        log.close()
