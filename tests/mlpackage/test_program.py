"""The interpreter computes what PyTorch computes, from the file alone, and refuses what it does not know."""

from __future__ import annotations

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters import mil

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import save_package
from pocketaffect.mlpackage.program import load_program


def reference(network, images):
    with torch.no_grad():
        scores, pair = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    return {"scores": scores.numpy(), "pair": pair.numpy()}


def test_the_float32_package_equals_pytorch(network, packages, images):
    ours = load_program(packages["fp32"]).predict(images)
    for name, expected in reference(network, images).items():
        assert ours[name].dtype == np.float32
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-4)
        assert np.abs(ours[name] - expected).max() < 2e-5


def test_the_float16_package_differs_by_rounding_only(network, packages, images):
    ours = load_program(packages["fp16"]).predict(images)
    for name, expected in reference(network, images).items():
        difference = np.abs(ours[name] - expected)
        assert 1e-6 < difference.mean() < 2e-3
        np.testing.assert_array_equal(ours[name], ours[name].astype(np.float16))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_many_images_at_once_give_what_single_images_give(packages, images, precision):
    program = load_program(packages[precision])
    together = program.predict(images[:70])
    for name, values in together.items():
        alone = np.concatenate([program.predict(image[None])[name] for image in images[:70]])
        # Sums are ordered by batch shape; a float16 step at a rounding border is all that may follow.
        np.testing.assert_allclose(values, alone, rtol=0, atol=1e-6 if precision == "fp32" else 2e-3)
        assert np.abs(values - alone).mean() < 1e-4


def test_no_images_give_empty_results(packages):
    results = load_program(packages["fp16"]).predict(np.zeros((0, 32, 32, 3), np.uint8))
    assert {name: values.shape for name, values in results.items()} == {
        "scores": (0, 8),
        "pair": (0, 2),
    }


def test_the_order_of_colours_in_the_file_is_obeyed(packages, images, tmp_path):
    opened = ct.models.MLModel(str(packages["fp32"]), skip_model_load=True)
    spec = opened.get_spec()
    spec.description.input[0].type.imageType.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.BGR
    path = tmp_path / "bgr.mlpackage"
    save_package(ct.models.MLModel(spec, weights_dir=opened.weights_dir, skip_model_load=True), path)
    swapped = load_program(path).predict(images[..., ::-1])
    straight = load_program(packages["fp32"]).predict(images)
    np.testing.assert_array_equal(swapped["scores"], straight["scores"])


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
    ],
)
def test_images_that_do_not_fit_are_refused(packages, images):
    with pytest.raises(PocketAffectError, match=r"uint8 \[n, 32, 32, 3\]"):
        load_program(packages["fp16"]).predict(images)


def changed_operation(path, target, kind, change):
    """Saves a copy of a package with its first operation of a type renamed or altered."""
    opened = ct.models.MLModel(str(path), skip_model_load=True)
    spec = opened.get_spec()
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    change(next(operation for operation in block.operations if operation.type == kind))
    save_package(ct.models.MLModel(spec, weights_dir=opened.weights_dir, skip_model_load=True), target)
    return target


@pytest.mark.parametrize("kind", ["relu", "constexpr_affine_dequantize"])
def test_an_unknown_operation_or_weight_form_is_refused_on_loading(packages, tmp_path, kind):
    unknown = f"{kind}_of_tomorrow"
    path = changed_operation(
        packages["int8"], tmp_path / "odd.mlpackage", kind, lambda operation: setattr(operation, "type", unknown)
    )
    with pytest.raises(PocketAffectError, match=unknown) as raised:
        load_program(path)
    assert "which makes" in str(raised.value)


def test_a_random_operation_left_by_training_mode_is_refused(tmp_path):
    @mil.Builder.program(input_specs=[mil.Builder.TensorSpec(shape=(1, 3, 8, 8))], opset_version=ct.target.iOS16)
    def noisy(image):
        return mil.Builder.add(x=image, y=mil.Builder.random_normal(shape=[1, 3, 8, 8]), name="y")

    model = ct.convert(
        noisy,
        convert_to="mlprogram",
        inputs=[ct.ImageType(name="image", shape=(1, 3, 8, 8))],
        minimum_deployment_target=ct.target.iOS16,
    )
    save_package(model, tmp_path / "noisy.mlpackage")
    with pytest.raises(PocketAffectError, match="random_normal"):
        load_program(tmp_path / "noisy.mlpackage")


def test_an_array_is_an_input_too(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Sigmoid(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    model = ct.convert(
        torch.jit.trace(network.eval(), torch.rand(1, 2, 8)),
        inputs=[ct.TensorType(name="x", shape=(1, 2, 8))],
        outputs=[ct.TensorType(name="y")],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
    )
    save_package(model, tmp_path / "series.mlpackage")
    program = load_program(tmp_path / "series.mlpackage")
    series = np.random.default_rng(0).normal(size=(40, 2, 8)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(series)).numpy()
    np.testing.assert_allclose(program.predict(series)["y"], expected, rtol=1e-4, atol=1e-5)
    assert (program.shape, program.dtype) == ((2, 8), np.float32)
    with pytest.raises(PocketAffectError, match=r"float32 \[n, 2, 8\]"):
        program.predict(series.astype(np.float64))


def test_an_image_that_is_no_square_is_executed_too(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3, stride=2), torch.nn.Flatten()).eval()
    model = ct.convert(
        torch.jit.trace(network, torch.rand(1, 3, 8, 14)),
        inputs=[ct.ImageType(name="image", shape=(1, 3, 8, 14), scale=1 / 255)],
        outputs=[ct.TensorType(name="y")],
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
    )
    save_package(model, tmp_path / "wide.mlpackage")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 14, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).numpy()
    found = load_program(tmp_path / "wide.mlpackage").predict(images)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_two_inputs_are_refused_by_name(tmp_path):
    specs = [mil.Builder.TensorSpec(shape=(1, 4)), mil.Builder.TensorSpec(shape=(1, 4))]

    @mil.Builder.program(input_specs=specs, opset_version=ct.target.iOS16)
    def both(first, second):
        return mil.Builder.add(x=first, y=second, name="y")

    save_package(
        ct.convert(both, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16), tmp_path / "two.mlpackage"
    )
    with pytest.raises(PocketAffectError, match="one RGB or BGR image, or one array") as raised:
        load_program(tmp_path / "two.mlpackage")
    assert "second" in str(raised.value)


def share_constants(spec):
    """As version 0.1 wrote programs: each equal constant once, under a short name."""
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    first, instead, kept = {}, {}, []
    for operation in block.operations:
        value = operation.attributes["val"] if operation.type == "const" else None
        if value is not None and value.WhichOneof("value") == "immediateValue":
            name = operation.outputs[0].name
            same = first.setdefault(value.SerializeToString(deterministic=True), f"v{len(first):x}")
            known, instead[name] = same in instead.values(), same
            if known:
                continue
            operation.outputs[0].name = same
        kept.append(type(operation).FromString(operation.SerializeToString()))
    for operation in kept:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "name":
                    binding.name = instead.get(binding.name, binding.name)
    del block.operations[:]
    block.operations.extend(kept)
    return len(instead) - len(first)


def test_a_program_of_version_01_with_shared_constants_answers_the_same(packages, images, tmp_path):
    opened = ct.models.MLModel(str(packages["int8"]), skip_model_load=True)
    spec = opened.get_spec()
    assert share_constants(spec) > 5
    path = tmp_path / "shared.mlpackage"
    save_package(ct.models.MLModel(spec, weights_dir=opened.weights_dir, skip_model_load=True), path)
    expected, found = (load_program(one).predict(images[:4]) for one in (packages["int8"], path))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
