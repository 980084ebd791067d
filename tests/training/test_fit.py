from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from training_parts import EVERYTHING, MODEL, TRAIN, Workplace, read_history

from pocketaffect.config import ModelParams, TrainParams
from pocketaffect.errors import PocketAffectError


@pytest.fixture
def make_workplace(tmp_path) -> Callable[..., Workplace]:
    numbers = itertools.count()
    return lambda **shards: Workplace(tmp_path / str(next(numbers)), **shards)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """An undisturbed training of the default settings."""
    place = Workplace(tmp_path_factory.mktemp("undisturbed"))
    place.run()
    return place


def stop(place: Workplace, *, epoch: int, batch: int = 0, how: signal.Signals = signal.SIGKILL, **settings) -> str:
    """A training that is stopped there, with a checkpoint and without a network; what it logged."""
    code, log = place.finish(place.start(stop=(epoch, batch, how), **settings))
    assert code == -how if how == signal.SIGKILL else code != 0
    assert place.checkpoint() is not None
    assert not place.model.exists()
    return log


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A training that is long enough to learn."""
    place = Workplace(tmp_path_factory.mktemp("learnt"))
    place.run(epochs=10)
    return place


def test_the_loss_falls_and_both_tasks_are_learnt(learnt):
    history = read_history(learnt.model)
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    best = max(history, key=lambda row: row["score"])
    assert best["accuracy"] > 0.5  # chance is 0.125
    assert best["ccc_valence"] > 0.6


def test_the_kept_network_is_the_one_of_the_best_epoch(learnt):
    import torch

    from pocketaffect.data.shards.split import open_split
    from pocketaffect.models.network import load_network

    history = read_history(learnt.model)
    best = max(history, key=lambda row: row["score"])
    split = open_split(learnt.folder / "shards", "validation")
    pixels = torch.from_numpy(split.images()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        logits, valence_arousal = load_network(learnt.model)(pixels)
    accuracy = float(np.mean(logits.argmax(dim=1).numpy() == split.expression))
    rmse = np.sqrt(np.mean((valence_arousal.numpy() - split.valence_arousal) ** 2, axis=0))
    assert accuracy == pytest.approx(best["accuracy"], abs=1e-5)
    assert rmse.tolist() == pytest.approx([best["rmse_valence"], best["rmse_arousal"]], abs=1e-4)


@pytest.mark.parametrize("progress", [False, True])
def test_each_epoch_says_its_scores_and_the_epoch_that_would_be_kept(progress, make_workplace):
    place = make_workplace()
    said = [line for line in re.split(r"[\r\n]", place.run(epochs=2, progress=progress)) if "best" in line]
    history = read_history(place.model)
    best = max(history, key=lambda row: row["score"])
    assert "poch 2/2" in said[-1]
    words = dict(re.findall(r"(\w+)[ =](-?[\d.]+)", said[-1]))
    for name, value in (
        ("balanced", history[-1]["balanced_accuracy"]),
        ("score", history[-1]["score"]),
        ("best", best["score"]),
        ("left", 0),
    ):
        assert float(words[name]) == pytest.approx(value, abs=6e-4)
    kept = int(re.search(r"of epoch (\d+)", said[-1])[1])  # of two that history.csv rounds alike, the better one
    assert history[kept - 1]["score"] == best["score"]


def test_a_network_of_grey_faces_is_kept_reading_luma_and_no_tint_disturbs_it(make_workplace):
    import torch

    from pocketaffect.models.network import LUMA, load_network

    place = make_workplace()
    shards = place.folder / "shards"
    summary = json.loads((shards / "shards.json").read_text())
    (shards / "shards.json").write_text(json.dumps(summary | {"colour": "grey"}))
    for file in shards.glob("*.npy"):
        np.save(file, np.repeat(np.load(file)[..., :1], 3, axis=3))
    said = place.run(epochs=1, ema_decay=0.9, augment=TRAIN["augment"] | {"tint": 0.5})
    assert "train.augment.tint is left out" in said
    network = load_network(place.model)
    assert network.spec.colour == "grey"
    first = next(network.backbone.parameters()).detach()
    torch.testing.assert_close(
        first / first.sum(dim=1, keepdim=True), torch.tensor(LUMA).view(1, 3, 1, 1).expand_as(first)
    )


@pytest.mark.slow
def test_the_same_training_in_a_fresh_process_gives_the_same_bytes(undisturbed, make_workplace):
    again = make_workplace()
    again.run_fresh()
    assert again.results() == undisturbed.results()
    assert set(again.results()) == {"history.csv", "model.json", "model.safetensors"}


def seconds_of_training(place: Workplace) -> float:
    """How long the training took, after holding the note to the network that lies there."""
    noted = json.loads((place.folder / "work" / "time.json").read_text())
    assert noted["weights_sha256"] == hashlib.sha256((place.model / "model.safetensors").read_bytes()).hexdigest()
    return noted["ended"] - noted["began"]


def test_only_a_note_of_when_it_was_trained_is_left_in_the_work_folder(undisturbed):
    assert [file.name for file in (undisturbed.folder / "work").iterdir()] == ["time.json"]
    assert seconds_of_training(undisturbed) > 0


@pytest.mark.parametrize("after", [1, *(pytest.param(epoch, marks=pytest.mark.slow) for epoch in (2, 3))])
def test_a_training_killed_after_an_epoch_ends_with_the_undisturbed_bytes(after, undisturbed, make_workplace):
    import torch

    place = make_workplace()
    stop(place, epoch=after)
    callbacks = torch.load(place.checkpoint(), weights_only=True)["callbacks"]
    before = callbacks["Timer"]["time_elapsed"]["train"]
    assert "going on from" in place.run()
    assert place.results() == undisturbed.results()
    # What the killed process trained counts too. After the last epoch nothing was left to train: both are then the
    # same seconds, but for what a float of the seconds since 1970 holds of a microsecond.
    assert before > 0
    assert seconds_of_training(place) > before - 1e-5


@pytest.mark.slow
def test_a_training_with_every_part_of_the_recipe_ends_with_the_undisturbed_bytes_after_a_kill(make_workplace):
    whole, place = make_workplace(), make_workplace()
    whole.run(**EVERYTHING)
    stop(place, epoch=1, batch=2, **EVERYTHING)  # two batches of a step of four
    assert "going on from" in place.run(**EVERYTHING)
    assert place.results() == whole.results()


@pytest.mark.slow
def test_a_training_killed_in_the_middle_of_an_epoch_ends_with_the_undisturbed_bytes(make_workplace):
    settings = {"epochs": 2, "model": {"architecture": "alexnet", "width": 0.5}}  # Gaussian dropout
    whole, place = make_workplace(), make_workplace()
    whole.run(**settings)
    stop(place, epoch=1, batch=3, **settings)
    assert "going on from" in place.run(**settings)
    assert place.results() == whole.results()


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_training_stops_with_a_usable_checkpoint(how, undisturbed, make_workplace):
    place = make_workplace()
    assert "KeyboardInterrupt" in stop(place, epoch=1, batch=1, how=how)
    assert "going on from" in place.run()
    assert place.results() == undisturbed.results()


@pytest.mark.slow
def test_a_changed_setting_starts_afresh_and_frees_the_old_checkpoint(undisturbed, make_workplace):
    place = make_workplace()
    stop(place, epoch=1, learning_rate=0.02)
    old = place.checkpoint()
    log = place.run()
    assert "going on" not in log
    assert not old.exists()
    assert place.results() == undisturbed.results()


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


def save(content: object, file: Path) -> None:
    import torch

    torch.save(content, file)


def other_network(file: Path) -> dict[str, object]:
    import torch

    content = torch.load(file, weights_only=True)
    weights = content["state_dict"]
    return content | {"state_dict": weights | {"network.expression.weight": torch.zeros(8, 5)}}


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "truncated": lambda file, _: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file, _: file.write_bytes(b""),
    "garbage": lambda file, _: file.write_bytes(os.urandom(5000)),
    "plain pickle with code": lambda file, mark: file.write_bytes(pickle.dumps(Payload(mark))),
    "torch file with code": lambda file, mark: save({"history": Payload(mark)}, file),
    "torch file of something else": lambda file, _: save({"epoch": 1}, file),
    "another network's": lambda file, _: save(other_network(file), file),
    "torch file with a list": lambda file, _: save([1, 2], file),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    place = Workplace(tmp_path_factory.mktemp("stopped"))
    stop(place, epoch=1)
    return place.checkpoint().read_bytes()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_without_executing_anything(damage, checkpoint, tmp_path, caplog):
    from pocketaffect.training.trainer import AtomicCheckpointIO, find_checkpoint

    file, mark = tmp_path / "last.ckpt", tmp_path / "executed"
    file.write_bytes(checkpoint)
    state = AtomicCheckpointIO().load_checkpoint(file)["state_dict"]
    assert find_checkpoint(tmp_path, state) == file
    DAMAGES[damage](file, mark)
    assert find_checkpoint(tmp_path, state) is None
    assert "last.ckpt is not usable" in caplog.text
    assert "starting afresh" in caplog.text
    assert not mark.exists()
    assert not file.exists()


@pytest.mark.slow
def test_a_training_with_a_damaged_checkpoint_starts_afresh(undisturbed, make_workplace):
    place = make_workplace()
    stop(place, epoch=1)
    DAMAGES["plain pickle with code"](place.checkpoint(), place.folder / "executed")
    log = place.run()
    assert "starting afresh" in log
    assert "going on from" not in log
    assert not (place.folder / "executed").exists()
    assert place.results() == undisturbed.results()


def fail(place, **settings) -> str:
    status, log = place.finish(place.start(**settings))
    assert status != 0
    assert "PocketAffectError" in log
    assert not place.model.exists()
    return log


def test_a_loss_that_is_not_finite_says_when_and_what_to_do(make_workplace):
    log = fail(make_workplace(), learning_rate=1e30, optimizer="adam", warmup_epochs=0)
    assert "loss is" in log
    assert "in epoch 1" in log
    assert "lower train.learning_rate" in log


def test_a_batch_larger_than_the_training_split_is_refused(make_workplace):
    log = fail(make_workplace(train=24), batch_size=25)
    assert "train.batch_size is larger than the training split" in log
    assert "25 against 24 images" in log
    assert "2 to 24" in log


def test_a_batch_of_the_whole_training_split_trains(make_workplace):
    place = make_workplace(train=24)
    place.run(batch_size=24, epochs=1)
    assert len(read_history(place.model)) == 1


def test_missing_shards_name_the_stage_that_makes_them(tmp_path):
    from pocketaffect.training.fit import train_network

    with pytest.raises(PocketAffectError, match="dvc repro preprocess"):
        train_network(
            tmp_path / "none", ModelParams(**MODEL), TrainParams(**TRAIN), work=tmp_path / "w", target=tmp_path / "m"
        )


def test_a_split_without_validation_images_is_refused(make_workplace):
    place = make_workplace()
    index = pd.read_parquet(place.folder / "shards" / "index.parquet")
    index[index["split"] == "train"].to_parquet(place.folder / "shards" / "index.parquet", index=False)
    assert "no validation image" in fail(place)


def test_a_class_without_images_is_named_and_the_others_are_learnt(make_workplace):
    place = make_workplace(train=7)
    place.run(batch_size=4, epochs=1)
    assert len(read_history(place.model)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["alexnet", "vgg"])
def test_every_network_trains_to_the_same_bytes_twice(architecture, make_workplace):
    places = [make_workplace(), make_workplace()]
    for place in places:
        place.run(model={"architecture": architecture, "head": "plain"}, epochs=2)
    assert places[0].results() == places[1].results()
