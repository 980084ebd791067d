"""From a network to the file: what fits and passes is written, anything else is refused with the way out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pocketaffect.config import load_params
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.calibration import Confidence, scale
from pocketaffect.evaluation.prediction_table import PredictionTable, encode_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.export.calibrate import calibrate
from pocketaffect.export.export import REJECTED, export_network
from pocketaffect.export.layers import reparameterize
from pocketaffect.export.measure import predict_network
from pocketaffect.export.session import load_twin
from pocketaffect.mlpackage.package import package_bytes, read_metadata
from pocketaffect.mlpackage.program import load_program
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.paths import CLASSIFIER, PACKAGE, SHIPPED_PREDICTIONS, TWIN

KEPT = ("metrics", "temperature", "unsure_below")


def as_split(drawn):
    paths = tuple(f"face{number}.png" for number in range(len(drawn.images)))
    return Split((drawn.images,), np.array([0]), paths, drawn.expression, drawn.valence_arousal)


@pytest.fixture(scope="module")
def split(draw):
    return as_split(draw(256, seed=1))


@pytest.fixture(scope="module")
def training(draw):
    return as_split(draw(1024, seed=0))


@pytest.fixture(scope="module")
def recipe():
    """The shipped one, but the patterns' sides and colours stay as they are."""
    train = load_params(Path(__file__).parents[2] / "params.yaml").train
    still = train.augment.model_copy(update=dict.fromkeys(type(train.augment).model_fields, 0.0))
    return train.model_copy(update={"augment": still, "batch_size": 64})


@pytest.fixture
def export(split, training, recipe, limits, tmp_path):
    def run(network, choosing=split, **changes):
        return export_network(
            network,
            training,
            choosing,
            split,
            export=limits.model_copy(update=changes),
            train=recipe,
            margin=0.1,
            lineage={"git_commit": "abc"},
            target=tmp_path / "out",
            rejects=tmp_path / "rejects",
        )

    return run


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return AffectNetwork(NetworkSpec("vgg", 0.25, 32, "prototype", 0.0)).eval()


def batches(draw, steps):
    drawn = draw(1024, seed=0)
    images = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        rows = torch.randint(0, len(images), (64,), generator=generator)
        yield images[rows], torch.from_numpy(drawn.expression)[rows], torch.from_numpy(drawn.valence_arousal)[rows]


def loss(network, batch):
    images, expression, affect = batch
    logits, va = network(images)
    return functional.cross_entropy(logits, expression) + 4 * functional.mse_loss(va, affect)


@pytest.fixture(scope="module")
def trained(untrained, draw):
    network = copy.deepcopy(untrained).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for batch in batches(draw, 150):
        optimizer.zero_grad()
        loss(network, batch).backward()
        optimizer.step()
    return network.eval()


def test_a_precision_for_newer_systems_is_refused_before_any_work(export, untrained, tmp_path):
    with pytest.raises(PocketAffectError, match="palette4-grouped needs iOS18"):
        export(untrained, precision="palette4-grouped", deployment_target="iOS17")
    with pytest.raises(PocketAffectError, match="finetune dkm does not go with"):
        export(untrained, precision="auto", finetune="dkm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_package_over_the_budget_is_kept_apart_and_the_fitting_ones_are_named(export, untrained, tmp_path):
    with pytest.raises(PocketAffectError, match="int8 package is over the budget") as raised:
        export(untrained, precision="int8", budget_bytes=100_000)
    assert "too many" in str(raised.value)
    assert "these would fit: palette4 (" in str(raised.value)
    rejected = tmp_path / "rejects" / REJECTED
    assert f"{package_bytes(rejected):,} bytes" in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_form_is_written_and_says_what_was_measured(export, trained, split, tmp_path):
    verification = export(trained, precision="int8")
    folder = tmp_path / "out"
    assert [form.name for form in verification.forms][:2] == ["classifier", "twin"]
    metadata = read_metadata(folder / PACKAGE.name)
    confidence = verification.confidence
    assert confidence.kept_right == pytest.approx(0.9, abs=0.05) or confidence.unsure_below == 0
    assert metadata["temperature"] == f"{confidence.temperature:.4f}" != "1.0000"
    assert metadata["unsure_below"] == f"{confidence.unsure_below:.4f}"
    assert f"accuracy {verification.shipped_quality.accuracy:.4f}" in metadata["metrics"]
    assert f"for {verification.shipped.agreement:.4f} of {len(split)} faces" in metadata["verification"]
    assert load_program(folder / CLASSIFIER.name).classes[1] == "happiness"
    twin = load_twin(folder / TWIN.name)
    assert {key: twin.metadata[key] for key in KEPT} == {key: metadata[key] for key in KEPT}
    answers = load_program(folder / PACKAGE.name).predict(split.images())
    network = predict_network(trained, split.images())
    scaled = scale(network.probabilities, confidence.temperature)
    for outputs in (answers, twin.predict(split.images())):
        assert np.abs(outputs["probabilities"] - scaled).mean() < 0.003
        assert np.abs(outputs["valence_arousal"] - network.valence_arousal).mean() < 0.006
    predictions = Predictions(answers["probabilities"], answers["valence_arousal"])
    labels = Labels(split.expression, split.valence_arousal)
    expected = PredictionTable(tuple(split.paths), predictions, labels)
    assert (folder / SHIPPED_PREDICTIONS.name).read_bytes() == encode_predictions(expected)


@pytest.mark.slow
def test_without_calibration_the_threshold_is_that_of_the_probabilities_as_they_are(export, trained, split, tmp_path):
    export(trained, precision="fp16", calibrate=False)
    metadata = read_metadata(tmp_path / "out" / PACKAGE.name)
    answers = load_program(tmp_path / "out" / PACKAGE.name).predict(split.images())["probabilities"]
    assert metadata["temperature"] == "1.0000"
    assert np.abs(answers - predict_network(trained, split.images()).probabilities).mean() < 0.003
    kept = answers.max(1) >= float(metadata["unsure_below"])
    assert (answers.argmax(1) == split.expression)[kept].mean() >= 0.89


def test_a_temperature_moves_probabilities_and_no_valence(untrained, split):
    plain = predict_network(untrained, split.images())
    calibrated = predict_network(calibrate(reparameterize(untrained), Confidence(0.5, 0.0)), split.images())
    np.testing.assert_allclose(calibrated.probabilities, scale(plain.probabilities, 0.5), atol=1e-5)
    np.testing.assert_allclose(calibrated.valence_arousal, plain.valence_arousal, atol=1e-5)
    assert untrained.temperature == 1


@pytest.mark.slow
def test_auto_writes_the_chosen_package_and_reports_every_candidate(export, trained, split, draw, tmp_path):
    apart = as_split(draw(64, seed=2))
    verification = export(trained, apart, precision="auto", budget_bytes=160_000, min_agreement=0.9)
    path = tmp_path / "out" / PACKAGE.name
    assert verification.passed
    assert verification.package_bytes == package_bytes(path) <= 160_000
    assert read_metadata(path)["precision"] == verification.precision
    report = json.loads(json.dumps(verification.to_dict(), allow_nan=False))
    verdicts = {one["precision"]: one["verdict"] for one in report["candidates"]}
    assert verdicts[verification.precision] == "chosen"
    assert report["rule"].startswith("64 faces set apart to choose by; a form that iOS16 reads")
    assert report["images"] == 256
    assert "over the budget" in verdicts["fp16"]
    answers = load_program(path).predict(split.images())["probabilities"].argmax(1)
    known = split.expression >= 0
    assert (answers == split.expression)[known].mean() == pytest.approx(verification.shipped_quality.accuracy)


@pytest.mark.slow
def test_a_precision_that_costs_too_much_is_refused_with_its_checks(export, trained, tmp_path):
    with pytest.raises(PocketAffectError, match="not fit to ship") as raised:
        export(trained, precision="palette2")
    assert "agreement with PyTorch" in str(raised.value)
    assert load_program(tmp_path / "rejects" / REJECTED).size == 32


@pytest.mark.slow
def test_a_fine_tuned_network_is_shipped_in_place_of_the_trained_one(export, trained, tmp_path):
    verification = export(
        trained, precision="palette4", finetune="dkm", finetune_steps=30, finetune_learning_rate=3e-4, max_rmse_rise=0.1
    )
    assert verification.passed
    assert verification.shipped.agreement > 0.98
    assert verification.precision == read_metadata(tmp_path / "out" / PACKAGE.name)["precision"] == "palette4"
