from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from pocketaffect import provenance
from pocketaffect.config import load_params
from pocketaffect.files import read_yaml

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A copy of the package's sources to change."""
    copy = tmp_path / "pocketaffect"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    return copy


def test_the_hash_is_sha256_over_names_and_contents(sources):
    expected = hashlib.sha256()
    for name in ("labels.py", "training/fit.py"):
        expected.update(name.encode() + b"\0" + (sources / name).read_bytes() + b"\0")
    assert provenance.hash_sources("labels.py", "training/fit.py") == expected.hexdigest()


def test_the_hash_sees_a_changed_an_added_and_a_renamed_file(sources):
    hashes = [provenance.hash_sources("models")]
    (sources / "models" / "paper.py").write_text("# other\n")
    hashes.append(provenance.hash_sources("models"))
    (sources / "models" / "more.py").write_text("")
    hashes.append(provenance.hash_sources("models"))
    (sources / "models" / "more.py").rename(sources / "models" / "less.py")
    hashes.append(provenance.hash_sources("models"))
    assert len(set(hashes)) == 4


def test_the_hash_ignores_caches_and_other_folders(sources):
    before = provenance.hash_sources("models")
    (sources / "models" / "__pycache__").mkdir()
    (sources / "models" / "__pycache__" / "paper.cpython-311.pyc").write_bytes(b"x")
    (sources / "data" / "batches.py").write_text("# other\n")
    assert provenance.hash_sources("models") == before


def test_every_deciding_source_and_setting_exists():
    assert all((provenance.PACKAGE / name).exists() for name in provenance.DECIDING_SOURCES)
    assert set(provenance.DECIDING_PARAMS) <= set(read_yaml(ROOT / "params.yaml"))


def test_a_file_that_does_not_exist_is_no_empty_hash(sources):
    with pytest.raises(FileNotFoundError):
        provenance.hash_sources("nowhere.py")


def write_repository(folder: Path, *, data_md5: str = "d1.dir", locked_md5: str | None = "d2.dir") -> None:
    (folder / "data.dvc").write_text(f"outs:\n- path: data\n  md5: {data_md5}\n")
    if locked_md5:
        stage = f"  validate:\n    deps:\n    - path: data\n      md5: {locked_md5}\n"
        (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  sample:\n    outs:\n    - path: data\n{stage}")


def test_the_data_hash_is_what_the_stages_read(tmp_path):
    write_repository(tmp_path)
    assert provenance.read_data_hash(tmp_path) == "d2.dir"


def test_before_a_first_run_the_data_hash_is_data_dvcs(tmp_path):
    write_repository(tmp_path, locked_md5=None)
    assert provenance.read_data_hash(tmp_path) == "d1.dir"


@pytest.mark.parametrize("content", [None, "deps:\n- path: sample\nouts:\n- path: data\n"])
def test_data_that_was_never_imported_has_no_hash(content, tmp_path):
    if content:
        (tmp_path / "data.dvc").write_text(content)
    assert provenance.read_data_hash(tmp_path) == "none"


def test_the_origin_changes_with_data_settings_and_sources_alone(tmp_path, monkeypatch, sources):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path)
    first = provenance.describe_origin(PARAMS)
    assert first == provenance.describe_origin(load_params(ROOT / "params.yaml"))

    write_repository(tmp_path, locked_md5="d3.dir")
    other_data = provenance.describe_origin(PARAMS)
    assert {name for name in first if first[name] != other_data[name]} == {"origin_data_md5"}
    write_repository(tmp_path)

    settings = PARAMS.model_dump(by_alias=True)
    settings["train"]["seed"] += 1
    other_params = provenance.describe_origin(type(PARAMS).model_validate(settings))
    assert {name for name in first if first[name] != other_params[name]} == {"origin_params_sha256"}

    settings = PARAMS.model_dump(by_alias=True)
    settings["register"]["experiment"] = "other"
    settings["sample"]["seed"] += 1  # seen by its data
    assert provenance.describe_origin(type(PARAMS).model_validate(settings)) == first

    (sources / "labels.py").write_text("# other\n")
    other_sources = provenance.describe_origin(PARAMS)
    assert {name for name in first if first[name] != other_sources[name]} == {"origin_sources_sha256"}
