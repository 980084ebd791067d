import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pocketaffect.config import EvaluateParams
from pocketaffect.data.shards.split import open_split
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation import behaviour
from pocketaffect.evaluation.behaviour import (
    blur,
    brighten,
    compare_movement,
    drain,
    jitter,
    measure_behaviour,
    mirror,
    recompress,
    reframe,
    shift,
    tint,
)
from pocketaffect.evaluation.judge import judge_network
from pocketaffect.evaluation.prediction_table import read_predictions
from pocketaffect.evaluation.tables import Predictions
from pocketaffect.labels import DERIVED_VA
from pocketaffect.models.network import AffectNetwork, NetworkSpec, save_network

SIZE = 32


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Shards of 48 and 30 faces that are noise, and a network that learned nothing."""
    folder = tmp_path_factory.mktemp("judge")
    rng = np.random.default_rng(0)
    tables = []
    for split, images in (("train", 48), ("validation", 30)):
        (folder / "shards").mkdir(exist_ok=True)
        faces = rng.integers(0, 256, (images, 8, 8, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
        np.save(folder / "shards" / f"{split}-00000.npy", faces)
        table = pd.DataFrame({"split": split, "path": [f"{split}/{row}.jpg" for row in range(images)]})
        tables.append(
            table.assign(
                shard=f"{split}-00000.npy",
                row=np.arange(images),
                list=f"{split}.csv",
                expression=np.arange(images) % 8,
                valence=rng.uniform(-1, 1, images).astype(np.float32),
                arousal=rng.uniform(-1, 1, images).astype(np.float32),
                warnings=["tiny_face" if row % 10 == 0 else "" for row in range(images)],
                image_side=np.int32(50) + np.arange(images, dtype=np.int32) * 3,
            )
        )
    pd.concat(tables, ignore_index=True).to_parquet(folder / "shards" / "index.parquet", index=False)
    (folder / "shards" / "shards.json").write_text(
        json.dumps({"size": SIZE, "images": {"train": 48, "validation": 30}})
    )
    torch.manual_seed(0)
    save_network(AffectNetwork(NetworkSpec("mobilenet", 0.1, SIZE, "prototype")), folder / "model")
    (folder / "model" / "history.csv").write_text("epoch,train_loss,validation_loss,score\n0,2,1.4,0.1\n1,1,1.5,0.2\n")
    return folder


def settings(batch_size, images):
    return EvaluateParams(batch_size=batch_size, resamples=100, behaviour_images=images)


def judge(workplace, target, select="score"):
    places = {"model": workplace / "model", "shards": workplace / "shards", "target": target}
    judge_network(settings(16, 10), select, **places)
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.fixture(scope="module")
def judged(workplace, tmp_path_factory):
    return judge(workplace, tmp_path_factory.mktemp("judged") / "evaluation")


def test_a_network_is_judged_the_same_twice_to_the_byte(workplace, judged, tmp_path):
    again = judge(workplace, tmp_path / "evaluation")
    assert again.keys() == judged.keys()
    assert [name for name in judged if again[name] != judged[name]] == []


def test_everything_that_is_promised_is_written(judged, tmp_path):
    assert judged.keys() >= {"metrics.json", "intervals.json", "slices.csv", "behaviour.csv", "report.html"}
    page = judged["report.html"].decode()
    for heading in ("Calibration", "Training's shares", "Slices", "Behaviour", "Training"):
        assert f"<h2>{heading.replace(chr(39), '&#39;')}</h2>" in page or f"<h2>{heading}</h2>" in page
    assert "tiny_face (few)" in page
    assert "mobilenet at width 0.1, 32 px" in page
    (tmp_path / "predictions.parquet").write_bytes(judged["predictions.parquet"])
    table = read_predictions(tmp_path / "predictions.parquet")
    assert table.paths == tuple(f"validation/{row}.jpg" for row in range(30))


def test_the_page_marks_the_epoch_that_train_select_kept(workplace, judged, tmp_path):
    by_loss = judge(workplace, tmp_path / "evaluation", select="loss")
    assert [name for name in judged if by_loss[name] != judged[name]] == ["report.html"]


def test_derived_valence_and_arousal_are_marked_in_metrics_and_page(workplace, judged, tmp_path):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    summary = json.loads((tmp_path / "shards" / "shards.json").read_text())
    (tmp_path / "shards" / "shards.json").write_text(json.dumps(summary | {"va_derived": True}))
    marked = judge(tmp_path, tmp_path / "evaluation")
    metrics, plain = (json.loads(files["metrics.json"]) for files in (marked, judged))
    assert metrics == plain | {"valence_arousal_derived": 1.0}
    assert DERIVED_VA.split(",")[0] in marked["report.html"].decode()
    assert "derived" not in judged["report.html"].decode()


def test_a_missing_model_names_the_stage_that_makes_it_and_leaves_the_target_alone(workplace, tmp_path):
    with pytest.raises(PocketAffectError, match="no trained model"):
        judge_network(
            settings(1, 1), "score", model=tmp_path / "none", shards=workplace / "shards", target=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def faces():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def test_changes_do_what_their_names_say(faces):
    assert (mirror(faces)[:, :, 0] == faces[:, :, -1]).all()
    assert (mirror(mirror(faces)) == faces).all()
    assert (brighten(faces, 1.0) == faces).all()
    assert (brighten(faces, 1.25) == np.clip(np.round(faces * 1.25), 0, 255)).all()
    assert (shift(faces, 2 / SIZE)[:, 2:, 2:] == faces[:, :-2, :-2]).all()
    assert (shift(faces, 2 / SIZE)[:, :3, :3] == faces[:, :1, :1]).all()
    assert (shift(faces, 0.001)[:, 1:, 1:] == faces[:, :-1, :-1]).all()
    grey = cv2.cvtColor(faces.reshape(-1, SIZE, 3), cv2.COLOR_RGB2GRAY).reshape(3, SIZE, SIZE)
    assert np.abs(drain(faces)[..., 0].astype(int) - grey).max() <= 1
    assert (drain(faces)[..., 0] == drain(faces)[..., 2]).all()
    assert (tint(np.full_like(faces, 100))[0, 0, 0] == [130, 90, 65]).all()
    assert blur(faces, 0.7).std() < 0.7 * faces.std()
    assert (jitter(faces, 0.1) == jitter(faces, 0.1)).all()
    assert (jitter(faces, 0.0) == faces).all()
    middle = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    middle[:, 8:24, 8:24] = 255
    wider = reframe(middle, 1.5, 1.0)[0, :, :, 0] > 127
    assert (wider.sum(1).max(), wider.sum(0).max()) == (24, 16)
    smooth = np.linspace(0, 255, SIZE).astype(np.uint8)[None, :, None, None].repeat(SIZE, 2).repeat(3, 3)
    assert np.abs(recompress(smooth, 90).astype(int) - smooth).max() <= 6
    assert np.abs(recompress(faces, 30).astype(int) - faces).mean() > 10


def test_no_change_touches_the_faces_it_was_given(faces):
    before = faces.copy()
    for change in behaviour.CHANGES.values():
        assert change(faces).shape == faces.shape
    assert (faces == before).all()


def test_movement_is_counted_by_hand():
    before = np.array([[0.6, 0.4], [0.9, 0.1]])
    after = np.array([[0.4, 0.6], [0.9, 0.1]])
    padded = [np.pad(part, ((0, 0), (0, 6))).astype(np.float32) for part in (before, after)]
    affect = np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)
    moved = affect + np.array([[0.2, -0.1], [0.0, 0.0]], np.float32)
    found = compare_movement("turned", Predictions(padded[0], affect), Predictions(padded[1], moved), np.array([0, -1]))
    assert (found.accuracy_lost, found.survived) == (1.0, False)
    same = compare_movement("kept", *[Predictions(padded[0], affect)] * 2, np.array([-1, -1]))
    assert (same.accuracy_lost, same.survived) == (None, True)
    assert found.classes_changed == 0.5
    assert found.probability_moved == pytest.approx(0.1)
    assert (found.valence_moved, found.arousal_moved) == pytest.approx((0.1, 0.05))


def test_a_network_that_looks_at_nothing_does_not_move_and_one_that_looks_does(workplace):
    split = open_split(workplace / "shards", "validation")
    torch.manual_seed(0)
    network = AffectNetwork(NetworkSpec("mobilenet", 0.1, SIZE, "plain", dropout=0.0))
    for _ in range(30):  # batch normalisation as of a trained network, or nothing reaches the heads
        network.train()(torch.rand(8, 3, SIZE, SIZE))
    looking = measure_behaviour(network, split, settings(4, 7))
    torch.nn.init.zeros_(network.expression.weight)
    torch.nn.init.zeros_(network.valence_arousal.weight)
    blind = measure_behaviour(network, split, settings(4, 7))
    assert [row.change for row in blind] == list(behaviour.CHANGES)
    assert {(row.classes_changed, row.probability_moved, row.valence_moved) for row in blind} == {(0.0, 0.0, 0.0)}
    assert all(row.probability_moved > 0 and row.valence_moved > 0 for row in looking)


def test_more_faces_than_there_are_means_all_of_them(workplace):
    split = open_split(workplace / "shards", "validation")
    torch.manual_seed(0)
    network = AffectNetwork(NetworkSpec("mobilenet", 0.1, SIZE, "prototype"))
    all_of_them = measure_behaviour(network, split, settings(64, 30))
    assert measure_behaviour(network, split, settings(64, 5000)) == all_of_them
