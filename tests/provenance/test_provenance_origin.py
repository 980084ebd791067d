from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pocketaffect import paths
from pocketaffect.config import load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.provenance import code, origin

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A copy of the package's sources to change."""
    shutil.copytree(
        code.SOURCE / "pocketaffect", tmp_path / "pocketaffect", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / paths.PIPELINES, tmp_path / paths.PIPELINES)
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    return tmp_path / "pocketaffect"


def test_every_deciding_stage_and_setting_exists():
    assert all((ROOT / paths.PIPELINES / f"{stage}.py").is_file() for stage in origin.DECIDING_STAGES)
    assert set(origin.DECIDING_PARAMS) <= set(read_yaml(ROOT / "params.yaml"))


def write_repository(folder: Path, *, data_md5: str = "d1.dir", locked_md5: str | None = "d2.dir") -> None:
    (folder / "data.dvc").write_text(f"outs:\n- path: data\n  md5: {data_md5}\n")
    if locked_md5:
        stage = f"  validate:\n    deps:\n    - path: data\n      md5: {locked_md5}\n"
        (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  sample:\n    outs:\n    - path: data\n{stage}")


def test_the_data_hash_is_what_the_stages_read(tmp_path):
    write_repository(tmp_path)
    assert origin.read_data_hash(tmp_path) == "d2.dir"


def test_before_a_first_run_the_data_hash_is_data_dvcs(tmp_path):
    write_repository(tmp_path, locked_md5=None)
    assert origin.read_data_hash(tmp_path) == "d1.dir"


@pytest.mark.parametrize("content", [None, "deps:\n- path: sample\nouts:\n- path: data\n"])
def test_data_that_was_never_imported_has_no_hash(content, tmp_path):
    if content:
        (tmp_path / "data.dvc").write_text(content)
    assert origin.read_data_hash(tmp_path) == "none"


def test_the_origin_changes_with_data_settings_and_sources_alone(tmp_path, monkeypatch, sources):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path)
    first = origin.describe_origin(PARAMS)
    assert first == origin.describe_origin(load_params(ROOT / "params.yaml"))

    write_repository(tmp_path, locked_md5="d3.dir")
    other_data = origin.describe_origin(PARAMS)
    assert {name for name in first if first[name] != other_data[name]} == {"origin_data_md5"}
    write_repository(tmp_path)

    settings = PARAMS.model_dump(by_alias=True)
    settings["train"]["seed"] += 1
    other_params = origin.describe_origin(type(PARAMS).model_validate(settings))
    assert {name for name in first if first[name] != other_params[name]} == {"origin_params_sha256"}

    settings = PARAMS.model_dump(by_alias=True)
    settings["register"]["experiment"] = "other"
    settings["sample"]["seed"] += 1  # seen by its data
    assert origin.describe_origin(type(PARAMS).model_validate(settings)) == first

    for file, text in (("labels.py", "X = 1\n"), ("../pipelines/train.py", "X = 1\n")):
        with (sources / file).open("a") as stream:
            stream.write(text)
        other_sources = origin.describe_origin(PARAMS)
        assert {name for name in first if first[name] != other_sources[name]} == {"origin_sources_sha256"}
        first = other_sources
    (sources / "page.css").write_text("other")
    with (sources / "training" / "fit.py").open("a") as stream:
        stream.write("# only a comment\n")
    assert origin.describe_origin(PARAMS) == first


def test_a_repository_without_the_stages_is_refused(tmp_path):
    write_repository(tmp_path)
    with pytest.raises(PocketAffectError, match=r"pipelines/\w+\.py: no such file"):
        origin.describe_origin(PARAMS, tmp_path)


@pytest.mark.parametrize(("drawn", "said"), [("d2.dir", "drawings"), ("d9.dir", "photographs"), (None, "photographs")])
def test_a_package_says_whether_it_was_made_from_the_drawn_sample(drawn, said, tmp_path, sources, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = f"  sample:\n    outs:\n    - path: sample\n      md5: {drawn}\n" if drawn else ""
    stages += "  validate:\n    deps:\n    - path: data\n      md5: d2.dir\n"
    (tmp_path / "dvc.lock").write_text(f"stages:\n{stages}")
    assert origin.describe_origin(PARAMS)["trained_on"] == said
