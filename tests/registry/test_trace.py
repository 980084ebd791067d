from __future__ import annotations

import pytest
from click.testing import CliRunner
from registry_parts import SPEC_PLACE, make_stamped_package

from pocketaffect.cli.main import main
from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.lineage.lineage import digest_file, read_file_metadata
from pocketaffect.registry.lineage.trace import find_trial, trace
from pocketaffect.registry.store.store import find_store
from pocketaffect.registry.store.versions import package_path

NAME = "pocketaffect"


def test_a_file_says_its_own_origin_when_the_store_is_gone(tmp_path):
    package = make_stamped_package(tmp_path / "a.mlpackage", b"x", origin_data_md5="d" * 32)
    (found,) = trace(None, NAME, str(package))
    assert ("data", "d" * 32) in found.file
    assert found.version is None
    assert "does not know it" in found.to_text()
    with pytest.raises(PocketAffectError, match="there is no store"):
        trace(None, NAME, "candidate")


def test_file_version_run_and_data_lead_to_each_other(store, registrar, lineage):
    first = registrar(b"a")
    registrar(b"b", data_md5="9" * 32 + ".dir")
    third = registrar(b"c")
    file = str(package_path(store, first))
    for asked in (file, "1", first.run_id):
        (found,) = trace(store, NAME, asked)
        assert (found.version.version, found.disagreements) == (1, ())
        assert lineage.commit in found.to_text()
    assert [found.version.version for found in trace(store, NAME, lineage.data_md5)] == [1, 3]
    assert [found.version.version for found in trace(store, NAME, "999999")] == [2]
    assert trace(store, NAME, "candidate")[0].version.version == third.version


def test_file_and_store_that_disagree_are_told_apart(store, registrar, tmp_path):
    registrar(b"a", says_data="f" * 32 + ".dir")
    (found,) = trace(store, NAME, "1")
    assert "data: the file says ffff" in found.disagreements[0]
    copy = make_stamped_package(tmp_path / "changed.mlpackage", b"other weights", origin_data_md5="b" * 32 + ".dir")
    registrar(b"b")
    (changed,) = trace(store, NAME, str(copy))
    assert changed.version is None
    assert "whose package has sha256" in changed.to_text()


@pytest.mark.slow
def test_unknown_things_are_refused_with_what_there_is(store, registrar):
    registrar(b"a")
    for asked in ("2", "champion", "0" * 32, "abcdef"):
        with pytest.raises(PocketAffectError, match="aliases candidate; versions 1"):
            trace(store, NAME, asked)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xff\xff\xff"])
def test_what_is_no_model_file_is_refused(tmp_path, content):
    package = tmp_path / "a.mlpackage"
    if content is None:
        package.mkdir()
    else:
        make_stamped_package(package, b"x")
        (package / SPEC_PLACE).write_bytes(content)
        (tmp_path / "a.onnx").write_bytes(content or b"x")
        with pytest.raises(PocketAffectError, match=r"a.onnx: damaged"):
            read_file_metadata(tmp_path / "a.onnx")
    with pytest.raises(PocketAffectError, match=r"not a Core ML package|damaged|cannot be read"):
        read_file_metadata(package)
    with pytest.raises(PocketAffectError, match=r"a .mlpackage folder or a .onnx file"):
        read_file_metadata(tmp_path)


def test_a_packages_digest_is_the_registrys(package, tmp_path):
    assert digest_file(package) == package_digest(package)


def test_reading_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_store(tmp_path) is None
    package = make_stamped_package(tmp_path / "a.mlpackage", b"x", origin_data_md5="d" * 32)
    done = CliRunner().invoke(main, ["lineage", str(package)])
    assert done.exit_code == 0, done.output
    assert "d" * 32 in done.output
    assert not (tmp_path / "mlruns").exists()


SETTINGS = {
    "model.width": 0.35,
    "train.optimizer": "adamw",
    "train.warmup_epochs": 2.0,
    "train.epochs": 16,
    "export.budget_bytes": 500_000,
    "model.full_resolution_stem": False,
}


def test_a_version_says_the_best_trial_of_its_settings_and_no_other(store):
    client = store.client()
    assert find_trial(client, "faces", SETTINGS) == {}
    experiment = store.experiment_id("faces-sweeps")

    def log(tags: dict, params: dict, score: float | None = None) -> str:
        run = client.create_run(experiment, tags=tags).info.run_id
        for name, value in params.items():
            client.log_param(run, name, value)
        if score is not None:
            client.log_metric(run, "score", score)
        return run

    def log_trial(parent: str, number: int, score: float, outcome: str = "done", **changes) -> None:
        tags = {"sweep.study": f"study of {parent}", "sweep.trial": str(number), "sweep.outcome": outcome}
        settings = {"model.width": 0.35, "train.optimizer": "adamw", "train.warmup_epochs": 2} | changes
        log(tags | {"mlflow.parentRunId": parent}, settings, score)

    studies = [log({"sweep.trial": "all"}, {"epochs": epochs, "budget_bytes": 500_000}) for epochs in (16, 4)]
    log_trial(studies[0], 1, 0.9, **{"model.width": 0.5})
    log_trial(studies[0], 2, 0.9, outcome="stopped early")
    log_trial(studies[1], 3, 0.9)  # of 4 epochs: what was adopted from it would say so
    assert find_trial(client, "faces", SETTINGS) == {}
    log_trial(studies[0], 4, 0.6)
    log_trial(studies[0], 5, 0.7)
    log_trial(studies[0], 6, 0.65)
    assert find_trial(client, "faces", SETTINGS) == {"sweep.study": f"study of {studies[0]}", "sweep.trial": "5"}
    assert find_trial(client, "faces", SETTINGS | {"train.optimizer": "adam"}) == {}
