from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_parts import Workplace, read_history, write_separable_shards

from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import load_network
from pocketaffect.training.presets import PAPER_BATCH, PAPER_EPOCHS, paper_network, paper_recipe

EPOCHS = (2, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workplace:
    """The pair on little data, trained once, then asked for again."""
    place = Workplace(tmp_path_factory.mktemp("pair"))
    place.run_pair(EPOCHS)
    return place


def test_the_recipe_is_the_papers():
    classifier = paper_recipe("classifier", seed=1, batch_size=PAPER_BATCH["vgg"])
    regressor = paper_recipe("regressor", seed=1, batch_size=PAPER_BATCH["mobilenet"], start_from=Path("c"))
    for recipe in (classifier, regressor):
        assert (recipe.optimizer, recipe.learning_rate, recipe.schedule) == ("adam", 1e-3, "constant")
        assert (recipe.augment.rotation_degrees, recipe.augment.shift, recipe.augment.flip) == (20, 0.1, 0.5)
        assert recipe.weight_decay == recipe.warmup_epochs == 0
    assert (classifier.batch_size, classifier.epochs, classifier.select) == (400, 24, "accuracy")
    assert (regressor.batch_size, regressor.epochs, regressor.select) == (250, 16, "loss")
    assert (classifier.expression_weight, classifier.va_weight, classifier.class_weights) == (1, 0, "balanced")
    assert (regressor.expression_weight, regressor.va_weight, regressor.start_from) == (0, 1, "c")
    assert PAPER_EPOCHS == {"classifier": 24, "regressor": 16}


def test_both_networks_are_there_with_plain_heads_and_the_papers_dropout(place):
    for task, epochs in zip(("classifier", "regressor"), EPOCHS, strict=True):
        network = load_network(place.model / task)
        assert (network.spec.head, network.spec.dropout) == ("plain", 1.0)
        assert len(read_history(place.model / task)) == epochs


def test_the_learning_rate_stays_where_it_is(place):
    assert {row["learning_rate"] for row in read_history(place.model / "classifier")} == {0.001}


def test_the_classifier_leaves_the_regressors_layer_new_and_the_regressor_the_classifiers_alone(place):
    classifier, regressor = (load_network(place.model / task) for task in ("classifier", "regressor"))
    torch.manual_seed(7)  # as the training does it
    fresh = type(classifier)(classifier.spec)
    # Not equal bit by bit: the training's process has its arithmetic pinned, this one draws with its own instructions.
    torch.testing.assert_close(classifier.valence_arousal.weight, fresh.valence_arousal.weight)
    assert not torch.allclose(classifier.expression.weight, fresh.expression.weight)
    assert torch.equal(regressor.expression.weight, classifier.expression.weight)
    assert not torch.equal(regressor.valence_arousal.weight, classifier.valence_arousal.weight)


def test_each_keeps_the_epoch_that_its_measure_chooses(place):
    by_accuracy = read_history(place.model / "classifier")
    by_loss = read_history(place.model / "regressor")
    assert by_loss[0]["validation_loss"] == by_loss[0]["validation_va_loss"]
    assert by_accuracy[0]["validation_loss"] == by_accuracy[0]["validation_expression_loss"]


def test_a_finished_pair_is_not_trained_again_and_a_missing_part_is(place):
    before = {file: file.stat().st_mtime_ns for file in place.model.rglob("model.*")}
    content = {file: file.read_bytes() for file in before}
    assert "epoch" not in place.run_pair(EPOCHS)
    assert {file: file.stat().st_mtime_ns for file in place.model.rglob("model.*")} == before
    (place.model / "regressor" / "model.safetensors").unlink()
    assert "epoch 1/1" in (log := place.run_pair(EPOCHS))
    assert "epoch 2/2" not in log
    assert {file: file.read_bytes() for file in place.model.rglob("model.*")} == content


def test_a_network_that_cannot_be_is_refused_with_those_that_can():
    with pytest.raises(PocketAffectError, match=r"no such architecture; there are alexnet, .*; found 'vgg16'"):
        paper_network("vgg16")
    with pytest.raises(PocketAffectError, match=r"width: .* found 99"):
        paper_network("vgg", 99.0)


@pytest.mark.slow
def test_the_command_trains_the_pair_in_one_process_whatever_the_settings_say(tmp_path):
    write_separable_shards(tmp_path / "out" / "shards", train=16, validation=16)
    shipped = (Path(__file__).parents[2] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(shipped.replace("  devices: 1 ", "  devices: 2 "))
    code = "from pocketaffect.cli.main import main; main()"
    options = "--preset paper --to pair --architecture mobilenet --width 0.1 --batch 16"
    command = [sys.executable, "-c", code, "train", *options.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["pair/classifier", "pair/regressor"]
    for task, epochs in PAPER_EPOCHS.items():
        assert len(read_history(tmp_path / "pair" / task)) == epochs
