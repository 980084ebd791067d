"""MLflow's store in a real PostgreSQL server, which the tests start; skipped where there is none to start."""

from __future__ import annotations

import tempfile

import pytest
from registry_parts import Registrar, in_processes
from sqlalchemy import create_engine, text

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.promotion.log import look, read_log
from pocketaffect.registry.promotion.promote import promote
from pocketaffect.registry.store.postgresql import hide_password, is_postgresql
from pocketaffect.registry.store.runs import DIGEST_TAG
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import package_path, search_versions
from postgresql_server import run_server

NAME = "pocketaffect"


@pytest.fixture(scope="module")
def make_database():
    with run_server() as make:
        yield make


@pytest.mark.slow
def test_two_machines_that_begin_at_once_lose_and_double_nothing(
    make_database, tmp_path, monkeypatch, lineage, params, capfd
):
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - once, for both processes

    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_database("mlflow"))
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", str(tmp_path / "shared"))

    def work(number: int) -> None:
        here = tmp_path / f"machine{number}"
        here.mkdir()
        tempfile.tempdir = str(here)  # two machines share no lock file
        registrar = Registrar(open_store(here), here / "made", lineage)
        for content in (b"both", b"mine%d" % number):
            version = registrar(content)
        try:
            promote(registrar.store, params, version.version)
        except PocketAffectError as error:
            if "another promotion came first" not in str(error):
                raise

    assert in_processes(2, work) == [0, 0], capfd.readouterr().err
    store = open_store(tmp_path)
    found = search_versions(store.client(), f"name = '{NAME}'")
    digests = {version.tags[DIGEST_TAG] for version in found}
    assert len(found) == len(digests) == 3
    log, champion, remark = look(store, NAME)
    assert remark == ""
    assert champion is not None
    assert champion.version == log.champion
    assert package_path(store, champion).is_dir()
    assert all(entry.applied for entry in read_log(store, NAME).entries)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    with pytest.raises(PocketAffectError, match="MLFLOW_DEFAULT_ARTIFACT_ROOT: where files go"):
        store.experiment_id("another")


@pytest.mark.slow
def test_a_database_of_optuna_s_or_of_another_mlflow_is_refused(make_database, tmp_path, monkeypatch):
    address = make_database("optuna")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE studies (study_id int)"))
    with pytest.raises(PocketAffectError, match="already holds Optuna's studies"):
        open_store(tmp_path)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE studies RENAME TO others"))
    with pytest.raises(PocketAffectError, match="not a complete MLflow database"):
        open_store(tmp_path)
    with engine.begin() as connection:
        for table in ("experiments", "runs", "model_versions"):
            connection.execute(text(f"CREATE TABLE {table} (number int)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('ffffffffffff')"))
    with pytest.raises(PocketAffectError, match="newer than the installed MLflow"):
        open_store(tmp_path)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '451aebb31d03'"))
    with pytest.raises(PocketAffectError, match="older than the installed MLflow"):
        open_store(tmp_path)
    engine.dispose()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://me:secret@127.0.0.1:1/mlflow", "cannot be used"),
        ("postgres://me:secret@127.0.0.1/mlflow", "not an address"),
        ("postgresql://me:p@secret@127.0.0.1/mlflow", "an @ stands in the password"),
        ("postgresql://me:p@ss/secret@127.0.0.1/mlflow", "an @ stands in the password"),
        ("postgresql+nothing://me:secret@127.0.0.1/mlflow", "not an address"),
    ],
)
def test_an_address_that_leads_nowhere_is_named_at_once_and_without_its_password(tmp_path, monkeypatch, address, says):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(PocketAffectError, match=says) as caught:
        open_store(tmp_path)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_passwords_are_hidden_wherever_an_address_holds_them():
    assert hide_password("postgresql://me:a%40b@host:5/x?password=other") == "postgresql://me:***@host:5/x"
    assert "secret" not in hide_password("postgresql://me:secret@host:port/x")
    assert is_postgresql("postgresql+psycopg://host/x")
    assert not is_postgresql("http://postgresql/x")
