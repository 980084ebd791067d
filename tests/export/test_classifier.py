"""The classifier form answers as the plain one, under the right names, and each wrong one is caught."""

from __future__ import annotations

import re
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.forms import make_classifier, save_twin
from pocketaffect.export.layers import fold_batchnorm, transplant_weights
from pocketaffect.export.measure import Faces, load_affect_program, predict_program
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import read_metadata, save_package
from pocketaffect.mlpackage.program import load_program


@pytest.fixture(scope="module")
def faces(samples):
    return Faces(samples.images, samples.expression, samples.valence_arousal)


@pytest.fixture(scope="module")
def plain(packages, faces):
    return predict_program(load_affect_program(packages["int8"]), faces.images)


@pytest.fixture
def opened(packages):
    return ct.models.MLModel(str(packages["int8"]), skip_model_load=True)


@pytest.fixture
def write(opened, tmp_path):
    def run(change=lambda _: None):
        spec = make_classifier(opened).get_spec()
        change(spec)
        path = tmp_path / "classifier.mlpackage"
        save_package(ct.models.MLModel(spec, weights_dir=opened.weights_dir, skip_model_load=True), path)
        return path

    return run


def failed(form):
    return [check.name for check in form.checks if not check.passed]


def classify_of(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations[-1]


def test_it_answers_exactly_as_the_plain_form_with_the_eight_names(write, plain, faces, verifier, packages):
    path = write()
    assert failed(verifier.verify_classifier(path, plain)) == []
    outputs = load_program(path).predict(faces.images[:4])
    assert list(outputs["expression"]) == [EXPRESSIONS[row] for row in plain.probabilities[:4].argmax(1)]
    assert read_metadata(path)["labels"] == read_metadata(packages["int8"])["labels"]


def test_the_operation_is_the_one_that_coremltools_writes(opened, network):
    traced = torch.jit.trace(fold_batchnorm(network), torch.rand(1, 3, 32, 32))
    program = ct.convert(
        traced,
        convert_to="milinternal",
        inputs=[ct.ImageType(name="image", shape=(1, 3, 32, 32))],
        outputs=[
            ct.TensorType(name="probabilities", dtype=np.float32),
            ct.TensorType(name="valence_arousal", dtype=np.float32),
        ],
        minimum_deployment_target=ct.target.iOS16,
    )
    program.functions["main"].output_types = None
    theirs = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        classifier_config=ct.ClassifierConfig(
            list(EXPRESSIONS), predicted_feature_name="expression", predicted_probabilities_output="probabilities"
        ),
    ).get_spec()
    ours = classify_of(make_classifier(opened).get_spec())
    expected = classify_of(theirs)
    expected.outputs[1].name = "expression_probabilities"
    ours.attributes.clear()
    expected.attributes.clear()
    assert ours == expected


def test_names_in_another_order_are_caught(write, plain, verifier):
    def swap(spec):
        names = classify_of(spec).inputs["classes"].arguments[0].value.immediateValue.list.values
        first, second = (names[row].immediateValue.tensor.strings for row in (0, 1))
        first.values[0], second.values[0] = second.values[0], first.values[0]

    found = failed(verifier.verify_classifier(write(swap), plain))
    assert "classifier: class names" in found
    assert "classifier: faces with another label" in found


def test_a_classifier_is_not_made_twice(opened):
    with pytest.raises(PocketAffectError, match="plain package"):
        make_classifier(make_classifier(opened))


@pytest.mark.slow
def test_a_twin_with_blue_first_or_swapped_affect_is_caught(network, packages, plain, verifier, tmp_path):
    class Wrong(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.network, self.kind = decoded, kind

        def forward(self, images):
            logits, affect = self.network(images.flip(1) if self.kind == "bgr" else images)
            return logits, affect.flip(1) if self.kind == "va" else affect

    decoded = transplant_weights(fold_batchnorm(network), load_program(packages["int8"]))
    metadata = read_metadata(packages["int8"])
    for kind in ("right", "bgr", "va"):
        file = tmp_path / f"{kind}.onnx"
        save_twin(Wrong(kind), 32, metadata, file)
        found = failed(verifier.verify_twin(file, plain, decoded))
        assert bool(found) == (kind != "right"), (kind, found)


def test_the_guides_for_apps_name_what_the_files_have(write, packages):
    specs = [ct.models.MLModel(str(path), skip_model_load=True).get_spec() for path in (write(), packages["int8"])]
    outputs = {one.name for spec in specs for one in spec.description.output}
    keys, docs = read_metadata(packages["int8"]).keys(), Path(__file__).parents[2] / "docs"
    apple = (docs / "ios" / "README.md").read_text(encoding="utf-8")
    named = {"labels", "valence_arousal_order", "input_size", "crop_margin", "deployment_target"}
    assert named <= keys
    assert all(f"`{name}`" in apple for name in (*outputs, *named, "image", "unsure_below"))
    android = (docs / "android.md").read_text(encoding="utf-8")
    read = set(re.findall(r'texts(?:\.getValue\(|\[)"(\w+)"', android))
    assert read == (named | {"unsure_below"}) - {"deployment_target"}
    assert set(re.findall(r'row\("(\w+)"\)|mapOf\("(\w+)"', android)) == {
        ("probabilities", ""), ("valence_arousal", ""), ("", "image")
    }  # fmt: skip
