"""Packages as files: every byte counts, damage is named, and the same model is written whole, as the same bytes."""

from __future__ import annotations

import errno
import json
import shutil

import coremltools as ct
import numpy as np
import pytest
from coremltools.models.neural_network import NeuralNetworkBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage import package
from pocketaffect.mlpackage.package import (
    package_bytes,
    package_digest,
    read_metadata,
    read_spec,
    renumber_names,
    save_package,
    walk_operations,
)
from pocketaffect.mlpackage.program import load_program

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MODEL = "Data/com.apple.CoreML/model.mlmodel"


@pytest.fixture
def model(packages):
    return ct.models.MLModel(str(packages["int8"]), skip_model_load=True)


@pytest.fixture
def copied(packages, tmp_path):
    path = tmp_path / "copy.mlpackage"
    shutil.copytree(packages["int8"], path)
    return path


def test_bytes_and_digest_cover_every_file(copied):
    files = [file for file in copied.rglob("*") if file.is_file()]
    assert package_bytes(copied) == sum(len(file.read_bytes()) for file in files)
    before = package_digest(copied)
    (copied / "extra").write_bytes(b"")
    assert package_digest(copied) != before
    (copied / "extra").unlink()
    assert package_digest(copied) == before
    (copied / "Manifest.json").rename(copied / "manifest.json")
    assert package_digest(copied) != before


def remove(name):
    return lambda path: (path / name).unlink()


def cut(name, keep):
    def apply(path):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(len(content) * keep)])

    return apply


def write(name, content):
    return lambda path: (path / name).write_bytes(content)


DAMAGE = {
    "no manifest": (remove("Manifest.json"), "without Manifest.json"),
    "a manifest that is no JSON": (write("Manifest.json", b"{"), "does not name its model"),
    "a manifest without a root": (write("Manifest.json", b"{}"), "does not name its model"),
    "no specification": (remove(MODEL), "no Data/com.apple.CoreML/model.mlmodel"),
    "a specification of other bytes": (write(MODEL, b"not a protobuf at all"), "damaged"),
    "an empty specification": (write(MODEL, b""), "no model"),
    "a cut specification": (cut(MODEL, 0.5), "model.mlmodel"),
    "no weight file": (remove(WEIGHTS), "weight file is missing"),
    "an empty weight file": (write(WEIGHTS, b""), "weight file is cut short"),
    "half a weight file": (cut(WEIGHTS, 0.5), "weight file is cut short"),
    "a weight file without its last bytes": (cut(WEIGHTS, 0.9999), "weight file is cut short"),
    "a weight file of zeros": (lambda path: (path / WEIGHTS).write_bytes(bytes(60_000)), "cut short or damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(copied, name):
    damage, message = DAMAGE[name]
    damage(copied)
    with pytest.raises(PocketAffectError, match=message) as raised:
        load_program(copied)
    assert str(copied) in str(raised.value)


@given(keep=st.floats(0, 0.999))
@settings(max_examples=25)
def test_a_weight_file_cut_anywhere_is_refused(packages, tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("cut") / "cut.mlpackage"
    shutil.copytree(packages["int8"], path)
    cut(WEIGHTS, keep)(path)
    with pytest.raises(PocketAffectError, match="cut short"):
        read_spec(path)


def test_what_is_no_package_is_refused(tmp_path):
    (tmp_path / "folder.mlpackage").mkdir()
    (tmp_path / "empty.mlpackage").write_bytes(b"")
    for name, message in {
        "folder.mlpackage": "without Manifest.json",
        "empty.mlpackage": "a file of 0 bytes",
        "absent.mlpackage": "no such file",
    }.items():
        with pytest.raises(PocketAffectError, match=message):
            read_metadata(tmp_path / name)
    with pytest.raises(PocketAffectError, match="no such file"):
        package_bytes(tmp_path / "absent.mlpackage")


def test_a_neural_network_model_is_refused_as_such(tmp_path):
    builder = NeuralNetworkBuilder(
        [("x", ct.models.datatypes.Array(3))], [("y", None)], disable_rank5_shape_mapping=True
    )
    builder.add_inner_product("dense", np.eye(3), None, 3, 3, False, "x", "y")
    path = tmp_path / "old.mlmodel"
    ct.models.MLModel(builder.spec, skip_model_load=True).save(str(path))
    with pytest.raises(PocketAffectError, match="neuralNetwork") as raised:
        load_program(path)
    assert "mlProgram" in str(raised.value)


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

    monkeypatch.setattr(package.shutil, "copyfile", full)
    with pytest.raises(PocketAffectError, match="disk full"):
        save_package(model, path)
    assert package_digest(path) == before
    assert [file.name for file in path.parent.iterdir()] == ["model.mlpackage"]
    fresh = tmp_path / "fresh.mlpackage"
    with pytest.raises(PocketAffectError):
        save_package(model, fresh)
    assert not fresh.exists()


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
