"""Packages as files: every byte counts, and damage is named."""

from __future__ import annotations

import shutil

import coremltools as ct
import numpy as np
import pytest
from coremltools.models.neural_network import NeuralNetworkBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_bytes, package_digest, read_metadata, read_spec
from pocketaffect.mlpackage.program import load_program

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MODEL = "Data/com.apple.CoreML/model.mlmodel"


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
@settings(max_examples=25, deadline=None)
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
