from __future__ import annotations

import shutil

import numpy as np
import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.predict.models import open_model

SIZE, MARGIN = 64, 0.1


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


@pytest.mark.slow
def test_the_three_forms_of_a_model_answer_the_same(checkpoint, package, twin, crops):
    wanted = open_model(str(checkpoint)).predict(crops)
    assert np.ptp(wanted.probabilities, axis=0).max() > 0.05  # else agreement would mean nothing
    for path in (package, twin):
        model = open_model(str(path))
        assert (model.size, model.margin) == (SIZE, MARGIN)
        np.testing.assert_allclose(model.predict(crops).probabilities, wanted.probabilities, atol=0.01)
        np.testing.assert_allclose(model.predict(crops).valence_arousal, wanted.valence_arousal, atol=0.01)


def test_size_and_margin_come_from_the_file(twin):
    model = open_model(str(twin))
    assert (model.size, model.margin) == (SIZE, MARGIN)


def test_outputs_are_put_into_our_order(twin, crops, relabelled):
    plain = open_model(str(twin)).predict(crops)
    labels = "happiness,neutral,sadness,surprise,fear,disgust,anger,contempt"
    other = open_model(relabelled(labels=labels, valence_arousal_order="arousal,valence")).predict(crops)
    np.testing.assert_array_equal(other.probabilities, plain.probabilities[:, [1, 0, 2, 3, 4, 5, 6, 7]])
    np.testing.assert_array_equal(other.valence_arousal, plain.valence_arousal[:, ::-1])


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({"labels": "cat,dog"}, "labels in its metadata"),
        ({"labels": None}, "does not say how faces are cut"),
        ({"crop_margin": "wide"}, "crop_margin in its metadata"),
        ({"crop_margin": "nan"}, "crop_margin in its metadata"),
        ({"unsure_below": "never"}, "unsure_below in its metadata"),
    ],
)
def test_a_model_that_says_something_else_of_itself_is_refused(relabelled, texts, problem):
    with pytest.raises(PocketAffectError, match=problem):
        open_model(relabelled(**texts))


@pytest.mark.parametrize("model", ["missing.onnx", "a/b/c", "missing/A.mlpackage"])
def test_a_path_that_leads_nowhere_is_not_taken_for_a_version(model, tmp_path):
    with pytest.raises(PocketAffectError, match="no such model"):
        open_model(model, root=tmp_path)


@pytest.mark.parametrize("model", ["3", "champion", "pocketaffect/3", "models:/pocketaffect@champion"])
def test_a_version_without_a_registry_is_refused_and_no_registry_is_made(model, tmp_path):
    with pytest.raises(PocketAffectError, match="no registry here"):
        open_model(model, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_and_a_damaged_twin_are_refused(twin, tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(PocketAffectError, match="no model of a kind that can be opened"):
        open_model(str(tmp_path / "text.jpg"))
    with pytest.raises(PocketAffectError, match="no model of a kind that can be opened"):
        open_model(str(tmp_path))
    (tmp_path / "cut.onnx").write_bytes(twin.read_bytes()[:2000])
    with pytest.raises(PocketAffectError, match="not readable as ONNX"):
        open_model(str(tmp_path / "cut.onnx"))


@pytest.mark.slow
def test_a_package_cut_short_is_refused(package, tmp_path):
    cut = shutil.copytree(package, tmp_path / "cut.mlpackage")
    weights = cut / "Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PocketAffectError, match="cut short or damaged"):
        open_model(str(cut))
