"""Verification accepts faithful packages and refuses each kind of wrong one."""

from __future__ import annotations

import copy
import dataclasses
import json

import coremltools as ct
import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, root_mean_squared_error
from torch import nn
from torch.nn import functional

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import Packages
from pocketaffect.export.measure import Faces
from pocketaffect.export.verdict import Check, describe_results
from pocketaffect.export.verify import Verifier
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import package_bytes, save_package
from pocketaffect.precisions import PRECISIONS


@pytest.fixture
def check(making, verifier, held_to):
    """Verifies a package that is made faithfully, except for what a test replaces."""

    def run(form="int8", *, verifier=verifier, limits=None, **replaced):
        package = dataclasses.replace(making.make(PRECISIONS[form]), **replaced)
        return held_to(verifier, **(limits or {})).verify(package)

    return run


@pytest.fixture
def package_of(tmp_path, description):
    """Converts a network and returns the package's path."""

    def make(network, precision="fp16", size=32):
        return Packages(network, size, description, tmp_path).make(PRECISIONS[precision]).path

    return make


def failed(verification):
    return [one.name for one in verification.checks if not one.passed]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_faithful_package_passes_in_every_precision(check, precision):
    verification = check(precision)
    assert verification.passed, verification.failures()
    assert verification.failures() == ""
    assert verification.float16.mean_probability < 0.0015


def test_the_fitted_network_is_good_enough_for_the_refusals_to_mean_something(check):
    assert check().pytorch_quality.accuracy > 0.8


def test_the_reported_metrics_are_those_of_independent_references(check, network, samples):
    verification = check()
    with torch.no_grad():
        logits, affect = network(torch.from_numpy(samples.images).permute(0, 3, 1, 2).float() / 255)
    predicted = softmax(logits.numpy(), axis=1).argmax(axis=1)
    known = samples.expression >= 0
    rated = ~np.isnan(samples.valence_arousal[:, 0])
    quality = verification.pytorch_quality
    assert quality.accuracy == pytest.approx(accuracy_score(samples.expression[known], predicted[known]))
    for dimension, rmse in enumerate((quality.valence_rmse, quality.arousal_rmse)):
        expected = root_mean_squared_error(samples.valence_arousal[rated, dimension], affect[rated, dimension].numpy())
        assert rmse == pytest.approx(expected, rel=1e-5)
    assert quality.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(samples.expression[known], predicted[known])
    )
    assert verification.expression_labels == known.sum()
    assert verification.valence_arousal_labels == rated.sum()
    assert verification.package_bytes == verification.to_dict()["package_bytes"]


def test_the_report_is_json_and_the_same_on_every_run(check):
    first, second = (json.dumps(check().to_dict(), allow_nan=False, sort_keys=True) for _ in range(2))
    assert first == second


def test_a_wrong_scale_of_the_image_is_caught(check, network, package_of, monkeypatch):
    original = ct.ImageType
    monkeypatch.setattr(ct, "ImageType", lambda **given: original(**{**given, "scale": 1 / 256}))
    wrong = package_of(network)
    assert "factor on image bytes, times 255" in failed(check(path=wrong))


def test_a_package_that_expects_blue_first_is_caught_by_the_first_step(check, network, package_of, monkeypatch):
    original = ct.ImageType
    bgr = ct.colorlayout.BGR
    monkeypatch.setattr(ct, "ImageType", lambda **given: original(**{**given, "color_layout": bgr}))
    verification = check(reference=package_of(network))
    assert "fp16 package against PyTorch: mean probability difference" in failed(verification)


def test_an_image_order_swapped_in_the_written_file_is_caught(check, packages, tmp_path):
    path = tmp_path / "bgr.mlpackage"
    model = ct.models.MLModel(str(packages["int8"]), skip_model_load=True)
    spec = model.get_spec()
    spec.description.input[0].type.imageType.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.BGR
    save_package(ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True), path)
    assert failed(check(path=path))[0].startswith("package against PyTorch with its weights")


class Wrapped(nn.Module):
    """A network with one deliberate mistake in what it hands out."""

    def __init__(self, network, change):
        super().__init__()
        self.network = network
        self.change = change

    def forward(self, x):
        return self.change(*self.network(x))


MISTAKES = {
    "arousal of two thirds": lambda logits, va: (logits, va * 0.67),
    "softmax applied twice": lambda logits, va: (torch.softmax(logits, 1), va),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_outputs_are_caught_in_both_steps(check, network, package_of, mistake):
    wrong = package_of(Wrapped(network, MISTAKES[mistake]).eval())
    for replaced in ({"reference": wrong}, {"path": wrong}):
        assert any("against PyTorch" in name for name in failed(check(**replaced)))


@pytest.mark.slow
@pytest.mark.parametrize("swapped", ["classes", "valence and arousal"])
def test_outputs_in_another_order_are_caught_in_both_steps(check, network, package_of, swapped):
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        if swapped == "classes":
            changed = wrong.expression.weight, wrong.expression.bias, wrong.prototypes
        else:
            wrong.prototypes.copy_(wrong.prototypes.flip(1))
            changed = wrong.residual.weight, wrong.residual.bias
        for tensor in changed:
            tensor.copy_(tensor.roll(len(tensor) // 2, 0))
    package = package_of(wrong)
    assert any("fp16 package against PyTorch" in name for name in failed(check(reference=package)))
    # The network with these weights answers so too: what tells is what they cost.
    costs = {"agreement with PyTorch", "drop in accuracy", "rise in RMSE, worse dimension"}
    assert costs & set(failed(check(path=package)))


class PaddedElsewhere(nn.Module):
    """The first convolution padded at the near sides only: its kernel stands in the corner of a larger one."""

    def __init__(self, convolution):
        super().__init__()
        self.weight = nn.Parameter(functional.pad(convolution.weight, (0, 2, 0, 2)))

    def forward(self, x):
        return functional.conv2d(x, self.weight, stride=2, padding=2)


def test_padding_at_the_wrong_sides_is_caught(check, network, package_of):
    wrong = copy.deepcopy(network)
    wrong.features[0] = PaddedElsewhere(wrong.features[0])
    package = package_of(wrong)
    assert "fp16 package against PyTorch: mean probability difference" in failed(check(reference=package))
    with pytest.raises(PocketAffectError, match="cannot be put back"):
        check(path=package)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("labels", ",".join(sorted(EXPRESSIONS))), ("valence_arousal_order", "arousal,valence"), ("labels", None)],
)
def test_metadata_that_would_mislead_an_app_is_caught(check, packages, tmp_path, key, wrong):
    model = ct.models.MLModel(str(packages["int8"]), skip_model_load=True)
    del model.user_defined_metadata[key]
    if wrong is not None:
        model.user_defined_metadata[key] = wrong
    path = tmp_path / "metadata.mlpackage"
    save_package(model, path)
    assert failed(check(path=path)) == [f"metadata: {key}"]


def test_a_package_over_the_budget_is_caught(check, packages):
    size = package_bytes(packages["int8"])
    exact = check(limits={"budget_bytes": size})
    over = check(limits={"budget_bytes": size - 1})
    assert exact.passed
    assert failed(over) == ["bytes of the package"]


def test_a_network_that_overflows_float16_is_caught(check, network, samples, package_of, limits):
    large = copy.deepcopy(network)
    with torch.no_grad():
        large.features[7].weight.mul_(3e5)
        large.features[7].bias.mul_(3e5)
        large.dense[0].weight.div_(3e5)
    path = package_of(large)
    faces = Faces(samples.images, samples.expression, samples.valence_arousal)
    verification = check(verifier=Verifier(large, faces, limits), reference=path, path=path)
    assert "fp16 package against PyTorch: mean probability difference" in failed(verification)
    json.dumps(verification.to_dict(), allow_nan=False)


def test_the_package_of_another_network_is_refused(check, make_network, package_of):
    other = make_network()
    other.dense = nn.Sequential(nn.Linear(144 * 16, 24), nn.ReLU(), nn.Linear(24, 24))
    with pytest.raises(PocketAffectError, match="converted from this network"):
        check(path=package_of(other.eval()))


def test_a_network_left_in_training_mode_is_verified_in_evaluation_mode(check, network, samples, limits):
    training = copy.deepcopy(network).train()
    faces = Faces(samples.images, samples.expression, samples.valence_arousal)
    assert check(verifier=Verifier(training, faces, limits)).passed
    assert training.training


def test_images_without_any_label_are_refused(network, samples, limits):
    nothing = np.full_like(samples.expression, -1), np.full_like(samples.valence_arousal, np.nan)
    with pytest.raises(PocketAffectError, match="none with an expression or valence and arousal"):
        Verifier(network, Faces(samples.images, *nothing), limits)


@pytest.mark.parametrize("absent", ["expression", "valence_arousal"])
def test_a_task_without_a_labelled_face_has_no_check_of_its_metrics(check, network, samples, limits, absent):
    labels = {"expression": samples.expression, "valence_arousal": samples.valence_arousal}
    labels[absent] = np.full_like(labels[absent], -1 if absent == "expression" else np.nan)
    verification = check(verifier=Verifier(network, Faces(samples.images, **labels), limits))
    names = {check.name for check in verification.checks}
    assert ("drop in accuracy" in names) == (absent != "expression")
    assert ("rise in RMSE, worse dimension" in names) == (absent != "valence_arousal")
    assert "agreement with PyTorch" in names
    written = verification.to_dict()["shipped_quality"]
    assert (written["accuracy"] is None) == (absent == "expression")
    lengths = {len(describe_results(one, images=9)["metrics"]) for one in (None, verification)}
    assert len(lengths) == 1


def test_a_value_of_nan_fails_every_numeric_comparison():
    assert not any(Check("any", float("nan"), 0.5, sign).passed for sign in ("<", "<=", ">="))
    assert dataclasses.asdict(Check("any", 1.0, 0.5, ">="))["value"] == 1.0


@pytest.mark.parametrize("asked", ["fp16", "palette8"])
def test_a_package_of_another_precision_than_asked_for_is_caught(check, asked):
    assert failed(check(precision=PRECISIONS[asked])) == ["storage of large tensors", "metadata: precision"]


def test_a_package_with_one_tensor_left_uncompressed_is_caught(check, making, tmp_path):
    import coremltools.optimize.coreml as optimize

    plain = making.make(PRECISIONS["fp16"]).model
    largest = max(optimize.get_weights_metadata(plain).items(), key=lambda item: item[1].val.size)[0]
    how = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=2048)
    config = optimize.OptimizationConfig(global_config=how, op_name_configs={largest: None})
    path = tmp_path / "partly.mlpackage"
    save_package(optimize.linear_quantize_weights(plain, config), path)
    (found,) = [one for one in check(path=path).checks if one.name == "storage of large tensors"]
    assert found.value == "constexpr_affine_dequantize, 8 bits in 1 tensors; fp16, 16 bits in 1 tensors"
    assert not found.passed


def test_a_package_for_newer_systems_than_asked_for_is_caught(check):
    names = [failed(check("palette4-grouped", limits={"deployment_target": target})) for target in ("iOS16", "iOS18")]
    assert "format version, for iOS16" in names[0]
    assert not any("format version" in name for name in names[1])


def test_weights_of_another_network_are_caught_by_what_they_cost(check, make_network, package_of):
    torch.manual_seed(1)
    other = package_of(make_network().eval(), "int8")
    assert "agreement with PyTorch" in failed(check(path=other))
