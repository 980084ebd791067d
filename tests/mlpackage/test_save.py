"""Packages are written whole or not at all, with the same bytes for the same model."""

from __future__ import annotations

import errno
import json
import shutil

import coremltools as ct
import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage import save
from pocketaffect.mlpackage.package import package_digest, read_spec, walk_operations
from pocketaffect.mlpackage.program import load_program
from pocketaffect.mlpackage.save import renumber_names, save_package


@pytest.fixture
def model(packages):
    return ct.models.MLModel(str(packages["int8"]), skip_model_load=True)


@pytest.fixture
def copied(packages, tmp_path):
    path = tmp_path / "copy.mlpackage"
    shutil.copytree(packages["int8"], path)
    return path


def test_a_package_opens_with_coremltools_and_holds_no_date_and_no_random_identifier(packages):
    for path in packages.values():
        opened = ct.models.MLModel(str(path), skip_model_load=True)
        assert opened.author == "the authors"
        assert not any("date" in key for key in opened.user_defined_metadata)
    manifests = {(path / "Manifest.json").read_bytes() for path in packages.values()}
    assert len(manifests) == 1
    manifest = json.loads(manifests.pop())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


def test_a_save_that_fails_keeps_the_old_package_and_leaves_nothing_else(model, tmp_path, monkeypatch):
    path = tmp_path / "out" / "model.mlpackage"
    save_package(model, path)
    before = package_digest(path)

    def full(source, target):
        target.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(save.shutil, "copyfile", full)
    with pytest.raises(PocketAffectError, match="No space left"):
        save_package(model, path)
    assert package_digest(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["model.mlpackage"]
    fresh = tmp_path / "fresh.mlpackage"
    with pytest.raises(PocketAffectError):
        save_package(model, fresh)
    assert not fresh.exists()


def test_a_package_is_put_back_when_the_new_one_cannot_take_its_place(model, tmp_path, monkeypatch):
    path = tmp_path / "model.mlpackage"
    save_package(model, path)
    rename = type(path).rename

    def refuse_new(self, target):
        if ".new" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", refuse_new)
    with pytest.raises(PocketAffectError, match="Input/output"):
        save_package(model, path)
    load_program(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.mlpackage"]


def test_saving_over_an_older_package_leaves_nothing_of_it(model, copied):
    (copied / "leftover").write_bytes(b"old")
    save_package(model, copied)
    assert not (copied / "leftover").exists()
    assert [file.name for file in copied.parent.iterdir()] == [copied.name]


def test_another_suffix_is_refused(model, tmp_path):
    with pytest.raises(PocketAffectError, match="mlpackage"):
        save_package(model, tmp_path / "model.mlmodel")


def count_up(spec, step):
    """The names that another run of coremltools' counters might have given; how many values have such a name."""
    text = spec.SerializeToString(deterministic=True)
    assert b"transpose_0" in text
    for operation in walk_operations(spec.mlProgram):
        bound = [binding for argument in operation.inputs.values() for binding in argument.arguments]
        for value in (*operation.outputs, *bound):
            if value.name.startswith("transpose_0"):
                value.name = value.name.replace("transpose_0", f"transpose_{step}")
        names = operation.attributes["name"].immediateValue.tensor.strings.values
        names[:] = [name.replace("transpose_0", f"transpose_{step}") for name in names]
    return spec


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_names_of_another_count_become_the_same_bytes(packages, precision):
    expected = read_spec(packages[precision]).SerializeToString(deterministic=True)
    spec = count_up(read_spec(packages[precision]), 7)
    assert spec.SerializeToString(deterministic=True) != expected
    renumber_names(spec)
    assert spec.SerializeToString(deterministic=True) == expected


def test_names_of_the_networks_modules_stay(packages):
    spec = read_spec(packages["fp16"])
    before = [output.name for operation in walk_operations(spec.mlProgram) for output in operation.outputs]
    renumber_names(spec)
    after = [output.name for operation in walk_operations(spec.mlProgram) for output in operation.outputs]
    assert before == after
    assert any("features" in name for name in after)
