"""Conversion: one RGB image in, float32 probabilities and valence-arousal out, the same bytes every time."""

from __future__ import annotations

import copy
import dataclasses
import logging

import pytest
import torch

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import Packages
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import package_bytes, package_digest, read_metadata, read_spec
from pocketaffect.precisions import PRECISIONS


def test_the_package_takes_one_rgb_image_and_gives_two_float32_arrays(packages):
    for path in packages.values():
        description = read_spec(path).description
        (image,) = description.input
        assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", 32, 32)
        kinds = type(image.type.imageType)
        assert image.type.imageType.colorSpace == kinds.RGB
        shapes = {one.name: list(one.type.multiArrayType.shape) for one in description.output}
        assert shapes == {"probabilities": [1, 8], "valence_arousal": [1, 2]}
        assert {one.type.multiArrayType.dataType for one in description.output} == {65568}  # FLOAT32


def test_no_batch_normalisation_is_left_in_the_program(packages):
    for path in packages.values():
        block = read_spec(path).mlProgram.functions["main"].block_specializations["CoreML6"]
        kinds = {operation.type for operation in block.operations}
        assert "conv" in kinds
        assert "batch_norm" not in kinds
    assert "constexpr_affine_dequantize" in kinds


def test_smaller_precisions_give_smaller_packages(packages):
    sizes = [package_bytes(packages[precision]) for precision in ("fp32", "fp16", "int8")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.45 * sizes[0]


def test_metadata_tells_an_app_all_conventions(packages):
    metadata = read_metadata(packages["int8"])
    assert metadata["labels"].split(",") == list(EXPRESSIONS)
    assert metadata["input_color_order"] == "RGB"
    assert metadata["crop_margin"] == "0.1"
    assert metadata["valence_arousal_order"] == "valence,arousal"
    assert metadata["author"] == "the authors"
    assert metadata["licence"] == "Apache-2.0"
    assert metadata["git_commit"] == "abc"
    assert metadata["precision"] == "int8"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_converting_again_gives_the_same_bytes(network, description, packages, tmp_path, precision):
    again = Packages(network, 32, description, tmp_path / "another folder").make(PRECISIONS[precision])
    assert package_digest(again.path) == package_digest(packages[precision])


@pytest.mark.slow
def test_memory_format_and_training_mode_do_not_change_the_bytes(network, description, packages, tmp_path):
    other = copy.deepcopy(network).train().to(memory_format=torch.channels_last)
    package = Packages(other, 32, description, tmp_path).make(PRECISIONS["int8"])
    assert package_digest(package.path) == package_digest(packages["int8"])


def test_conversion_prints_nothing(network, description, tmp_path, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        Packages(network, 32, description, tmp_path).make(PRECISIONS["int8"])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_metadata_cannot_replace_a_convention(network, description, tmp_path):
    clash = dataclasses.replace(description, metadata={"labels": "a,b"})
    with pytest.raises(PocketAffectError, match="labels"):
        Packages(network, 32, clash, tmp_path).make(PRECISIONS["fp16"])
