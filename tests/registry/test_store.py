from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from registry_parts import in_processes

from pocketaffect.cli.main import main
from pocketaffect.doctor import examine
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store.database import find_problem, known_revisions
from pocketaffect.registry.store.store import open_store
from pocketaffect.stage import run_stage

REPOSITORY = Path(__file__).parents[2]


def query(root: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection, connection:
        return connection.execute(sql).fetchall()


def test_a_store_is_made_once_and_opened_again(root):
    before = (root / "mlruns" / "mlflow.db").read_bytes()
    first, second = open_store(root), open_store(root)
    assert first == second
    assert first.tracking_uri == f"sqlite:///{root}/mlruns/mlflow.db"
    assert first.artifact_root == root / "mlruns" / "artifacts"
    assert not list((root / "mlruns").glob(".mlflow.db.new*"))
    # The copied template's locations were rewritten by the first opening and by no other.
    after = (root / "mlruns" / "mlflow.db").read_bytes()
    open_store(root)
    assert after == (root / "mlruns" / "mlflow.db").read_bytes() != before


def test_the_known_schema_is_the_one_mlflow_verifies_against():
    from mlflow.store.db.utils import _get_latest_schema_revision

    known, newest = known_revisions()
    assert newest == _get_latest_schema_revision()
    assert len(known) > 60


def test_an_experiment_keeps_its_id_and_keeps_artifacts_below_mlruns(store, root):
    number = store.experiment_id("faces")
    assert store.experiment_id("faces") == number
    location = store.client().get_experiment(number).artifact_location
    assert location == (root / "mlruns" / "artifacts").as_uri()


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(store):
    number = store.experiment_id("faces")
    store.client().delete_experiment(number)
    with pytest.raises(PocketAffectError, match=f"mlflow experiments restore --experiment-id {number}"):
        store.experiment_id("faces")


@pytest.mark.slow
def test_eight_processes_that_start_at_once_make_one_sound_store(tmp_path, capfd):
    import mlflow  # noqa: F401 - once, for all processes

    def work(number: int) -> None:
        for _ in range(5):
            assert open_store(tmp_path).experiment_id("shared") == "1"

    assert in_processes(8, work) == [0] * 8, capfd.readouterr().err
    assert find_problem(tmp_path, to_write=True) is None
    assert query(tmp_path, "SELECT name FROM experiments ORDER BY experiment_id") == [("Default",), ("shared",)]
    assert "alembic" not in capfd.readouterr().err


def test_what_a_killed_creation_left_is_cleared_away(root, tmp_path):
    shutil.rmtree(root / "mlruns")
    (root / "mlruns").mkdir()
    (root / "mlruns" / ".mlflow.db.new").write_bytes(b"half")
    (root / "mlruns" / ".mlflow.db.new-journal").write_bytes(b"half")
    (root / "mlruns" / "mlflow.db").touch()  # SQLite's empty file counts as none
    assert open_store(root).experiment_id("Default") == "0"
    assert not list((root / "mlruns").glob(".mlflow.db.new*"))


@pytest.mark.parametrize("name", ["moved", "my faces (ünï) #1"])
def test_a_moved_repository_still_finds_its_artifacts(store, root, tmp_path, name):
    client = store.client()
    run = client.create_run(store.experiment_id("faces"))
    client.log_text(run.info.run_id, "content", "model/file.txt")
    client.create_registered_model("m")
    client.create_model_version("m", f"{run.info.artifact_uri}/model", run.info.run_id)
    moved = tmp_path / name
    root.rename(moved)

    client = open_store(moved).client()
    version = client.get_model_version("m", "1")
    assert version.source == f"{client.get_run(run.info.run_id).info.artifact_uri}/model"
    assert version.source.startswith((moved / "mlruns" / "artifacts").as_uri() + "/")
    downloaded = Path(client.download_artifacts(run.info.run_id, "model/file.txt"))
    assert downloaded.read_text() == "content"
    dump = "\n".join(str(row) for row in query(moved, "SELECT source, storage_location FROM model_versions"))
    assert f"{root}/" not in dump


def test_a_copy_points_at_its_own_artifacts_and_leaves_foreign_locations_alone(store, root, tmp_path):
    client = store.client()
    for name, location in (("s3", "s3://bucket/mlruns/artifacts"), ("elsewhere", "file:///data/mlruns/7")):
        client.create_experiment(name, artifact_location=location)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    opened = open_store(copy).client()
    assert opened.get_experiment("0").artifact_location == (copy / "mlruns" / "artifacts" / "0").as_uri()
    assert opened.get_experiment_by_name("s3").artifact_location == "s3://bucket/mlruns/artifacts"
    assert opened.get_experiment_by_name("elsewhere").artifact_location == "file:///data/mlruns/7"


def test_an_old_file_store_is_refused_and_the_hinted_migration_makes_it_usable(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = (tmp_path / "mlruns").as_uri()
    old = MlflowClient(tracking_uri=address, registry_uri=address)
    run = old.create_run(old.create_experiment("old"))
    old.log_text(run.info.run_id, "kept", "note.txt")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")

    with pytest.raises(PocketAffectError, match="old file format") as refused:
        open_store(tmp_path)
    hint = re.search(r"mlflow (migrate-filestore .*)", str(refused.value))
    from mlflow.store.fs2db.cli import migrate_filestore

    migrate_filestore.main([*hint[1].split()[1:], "--no-progress"], standalone_mode=False)
    client = open_store(tmp_path).client()
    assert client.get_experiment_by_name("old") is not None
    assert Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "kept"

    moved = tmp_path.parent / f"{tmp_path.name} moved"
    tmp_path.rename(moved)
    client = open_store(moved).client()
    assert Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text() == "kept"


def test_an_older_schema_is_refused_with_the_upgrade_command(root):
    query(root, "UPDATE alembic_version SET version_num = '0584bdc529eb'")
    with pytest.raises(PocketAffectError, match="older than the installed MLflow") as refused:
        open_store(root)
    assert f"mlflow db upgrade sqlite:///{root}/mlruns/mlflow.db" in str(refused.value)


def test_a_newer_schema_is_refused_and_no_upgrade_is_suggested(root):
    query(root, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(PocketAffectError, match="newer than the installed MLflow") as refused:
        open_store(root)
    assert "upgrade" not in str(refused.value)


def test_a_database_left_by_a_creation_race_is_refused(root):
    query(root, "CREATE TABLE _alembic_tmp_latest_metrics (a)")
    with pytest.raises(PocketAffectError, match="not a complete MLflow database"):
        open_store(root)


def test_another_programs_database_is_refused(tmp_path):
    (tmp_path / "mlruns").mkdir()
    query(tmp_path, "CREATE TABLE cookies (a)")
    with pytest.raises(PocketAffectError, match="not a complete MLflow database"):
        open_store(tmp_path)


def _overwrite(data: bytearray) -> bytes:
    return b"no database at all" * 100


def _truncate(data: bytearray) -> bytes:
    return bytes(data[: len(data) // 2])


def _scribble(data: bytearray) -> bytes:
    data[8192:40000] = b"\xff" * (40000 - 8192)
    return bytes(data)


@pytest.mark.parametrize("damage", [_overwrite, _truncate, _scribble])
def test_a_damaged_database_is_refused_and_left_as_it_is(root, damage):
    database = root / "mlruns" / "mlflow.db"
    database.write_bytes(damage(bytearray(database.read_bytes())))
    before = database.read_bytes()
    with pytest.raises(PocketAffectError, match="damaged"):
        open_store(root)
    assert database.read_bytes() == before


def test_a_locked_database_is_refused_to_writers_and_read_by_others(store, root, monkeypatch):
    monkeypatch.setattr("pocketaffect.registry.store.database.WAIT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PocketAffectError, match="locked for over") as refused:
            open_store(root)
        assert "mlflow ui" in str(refused.value)
        assert find_problem(root, to_write=False) is None
    assert open_store(root) == store


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_read_only_store_is_refused(root, capfd):
    if os.getuid() == 0:
        place = Path(tempfile.mkdtemp(prefix="read-only-"))  # tmp_path's parents are closed to other users

        def as_nobody(_number: int) -> None:
            assert find_problem(place / "repository", to_write=False) is None
            os.setuid(65534)
            assert "the store cannot be written" in str(find_problem(place / "repository", to_write=True))

        shutil.copytree(root, place / "repository")
        place.chmod(0o755)
        try:
            assert in_processes(1, as_nobody) == [0], capfd.readouterr().err
        finally:
            shutil.rmtree(place)
        return
    (root / "mlruns" / "mlflow.db").chmod(0o444)
    with pytest.raises(PocketAffectError, match="cannot be written"):
        open_store(root)


def test_a_users_server_wins_and_no_local_files_are_made(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        store = open_store(tmp_path)
    assert (store.tracking_uri, store.artifact_root) == (address, None)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_named_at_once(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with pytest.raises(PocketAffectError, match=f"no MLflow server answers at 127.0.0.1:{port}"):
        open_store(tmp_path)


@pytest.mark.parametrize("address", ["file:./mlruns", "./mlruns", "mlruns"])
def test_an_address_of_the_old_file_format_is_refused(tmp_path, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(PocketAffectError, match="MLFLOW_TRACKING_URI: MLflow's old file format"):
        open_store(tmp_path)


def test_the_address_of_the_local_database_means_the_local_store(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert open_store(Path()).artifact_root == root / "mlruns" / "artifacts"


@pytest.mark.parametrize(("name", "found"), [("50%20", "%"), ("a?b", "?"), (os.fsdecode(b"\xe9t\xe9"), "no UTF-8")])
def test_a_path_that_no_store_can_be_addressed_in_is_refused_by_the_first_stage_the_doctor_and_the_store(
    tmp_path, monkeypatch, capfd, name, found
):
    root = tmp_path / name
    root.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", root)
    monkeypatch.chdir(root)
    with pytest.raises(PocketAffectError, match="cannot address a store in such a path") as refused:
        open_store(root)
    assert found in str(refused.value)
    finding = next(finding for finding in examine(Path()) if finding.name == "store")
    assert (finding.status, finding.todo) == ("problem", "move the repository, or set MLFLOW_TRACKING_URI to a server")
    begun = []
    with pytest.raises(SystemExit):
        run_stage("sample", begun.append)
    assert begun == []
    assert "cannot address a store in such a path" in capfd.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    run_stage("sample", begun.append)
    assert len(begun) == 1


def test_where_nothing_is_registered_yet_the_advice_is_what_registers_it(tmp_path, store_template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    for command in (["registry"], ["promote"], ["rollback"], ["registry", "verify"], ["predict", "x", "--model", "3"]):
        said = CliRunner().invoke(main, command).output
        assert "`dvc repro`, then `pocketaffect register`" in said, command
    verification = tmp_path / "out" / "export" / "verification.json"
    verification.parent.mkdir(parents=True)
    verification.write_text("{}")  # a finished run: DVC would say "up to date" (a clone after a pull, a lost database)
    said = CliRunner().invoke(main, ["registry"]).output
    assert "dvc repro" not in said
    assert "`pocketaffect register`" in said
    shutil.copytree(store_template, tmp_path / "mlruns")  # a new server, or a database that somebody made anew
    said = CliRunner().invoke(main, ["registry"]).output
    assert said.endswith("no versions in this store yet; `pocketaffect register`\n")
    assert "or register one: `pocketaffect register`" in CliRunner().invoke(main, ["promote"]).output
