from __future__ import annotations

import hashlib
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from training_parts import EVERYTHING, MODEL, TRAIN, read_history, write_separable_shards

from pocketaffect.config import AugmentParams, ModelParams, TrainParams
from pocketaffect.data.shards.batches import Batch, train_batches
from pocketaffect.data.shards.split import open_split
from pocketaffect.errors import PocketAffectError
from pocketaffect.models.network import AffectNetwork, NetworkSpec, load_network, save_network
from pocketaffect.training import trainer as training
from pocketaffect.training.checks import note_step, require_finite
from pocketaffect.training.fit import Run, prepare_run, train_network
from pocketaffect.training.inputs import BatchesAhead
from pocketaffect.training.objective import Losses, Objective
from pocketaffect.training.optimizer import MovingAverage
from pocketaffect.training.scores import find_best, is_stale, score_epoch
from pocketaffect.training.trainer import build_trainer

DISTILL = TRAIN["distill"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_separable_shards(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    save_network(AffectNetwork(NetworkSpec("mobilenet", 0.2, 32, "plain")), folder)
    return folder


def fit(shards: Path, place: Path, *callbacks: pl.Callback, **settings: Any) -> list[dict[str, float]]:
    params = TrainParams(**TRAIN | settings)
    return train_network(
        shards,
        ModelParams(**MODEL),
        params,
        work=place / "work",
        target=place / "model",
        progress=False,
        callbacks=callbacks,
    )


def prepare(shards: Path, model: dict[str, Any] | None = None, **settings: Any) -> Run:
    return prepare_run(shards, ModelParams(**MODEL | (model or {})), TrainParams(**TRAIN | settings))


def contents(place: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (place / "model").iterdir()}


class Steps(pl.Callback):
    """Remembers the network after each step of the optimiser, and stops everything where it is told to."""

    def __init__(self, stop_at: tuple[int, int] | None = None, *, at_end: bool = False) -> None:
        self.stop_at = stop_at
        self.at_end = at_end
        self.steps = 0
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):  # noqa: ARG002  Lightning's names
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.states.append({name: tensor.clone() for name, tensor in module.network.state_dict().items()})
        if self.stop_at == (trainer.current_epoch, batch_index):
            raise RuntimeError("stopped")

    def on_train_start(self, trainer, module):  # noqa: ARG002
        self.steps = trainer.global_step

    def on_train_end(self, trainer, module):  # noqa: ARG002
        if self.at_end:
            raise RuntimeError("stopped")


@pytest.mark.slow
def test_all_parts_together_learn(shards, teacher, tmp_path):
    settings = EVERYTHING | {"distill": DISTILL | {"teacher": str(teacher)}, "learning_rate": 0.02, "accumulate": 2}
    history = fit(shards, tmp_path, **settings, epochs=12)
    # 2.08 = log(8) is chance; ten runs, of five seeds and two kinds of instructions, ended between 1.41 and 1.66.
    assert history[0]["validation_expression_loss"] == pytest.approx(np.log(8), abs=0.02)
    assert history[-1]["validation_expression_loss"] < 1.85


def test_all_parts_together_end_with_the_same_bytes_after_an_interruption(shards, teacher, tmp_path):
    settings = EVERYTHING | {"distill": DISTILL | {"teacher": str(teacher)}, "epochs": 3, "learning_rate": 0.02}
    steps = Steps()
    history = fit(shards, tmp_path / "whole", steps, **settings)
    assert {row["expression_weight"] for row in history} != {TRAIN["expression_weight"]}
    assert len(steps.states) == 3 * 2  # 6 batches an epoch, 4 to a step, the last two a step of their own
    with pytest.raises(RuntimeError, match="stopped"):
        fit(shards, tmp_path / "cut", Steps((1, 3)), **settings)
    assert not (tmp_path / "cut" / "model").exists()
    assert len(list((tmp_path / "cut" / "work").glob("*/last.ckpt"))) == 1
    again = Steps()
    assert fit(shards, tmp_path / "cut", again, **settings) == history
    assert len(again.states) == 2 * 2  # the second epoch anew, and the third
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_the_kept_network_is_the_moving_average_of_the_steps(shards, tmp_path):
    steps = Steps()
    fit(shards, tmp_path, steps, ema_decay=0.6, epochs=1)
    expected = {name: tensor.double() for name, tensor in steps.states[0].items()}
    for number, state in enumerate(steps.states[1:], start=1):
        decay = min(0.6, (1 + number) / (10 + number))
        expected = {name: decay * tensor + (1 - decay) * state[name].double() for name, tensor in expected.items()}
    kept = load_network(tmp_path / "model").state_dict()
    for name, tensor in kept.items():
        if name.endswith("num_batches_tracked"):
            assert int(tensor) == len(steps.states)
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert not torch.equal(kept["expression.weight"], steps.states[-1]["expression.weight"])


def test_a_training_without_progress_ends_early_and_stays_ended_when_it_is_resumed(shards, tmp_path):
    settings = {"patience": 2, "epochs": 12, "learning_rate": 1e-12, "select": "accuracy"}
    history = fit(shards, tmp_path / "whole", **settings)
    assert 2 < len(history) < 12
    assert [is_stale(history[:end], "accuracy", 2) for end in (len(history) - 1, len(history))] == [False, True]
    with pytest.raises(RuntimeError, match="stopped"):
        fit(shards, tmp_path / "cut", Steps(at_end=True), **settings)
    again = Steps()
    assert fit(shards, tmp_path / "cut", again, **settings) == history
    assert again.states == []
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_an_epochs_score_is_of_the_tasks_that_validation_has_labels_for():
    rng = torch.Generator().manual_seed(0)
    logits, guess = torch.randn(40, 8, generator=rng), torch.randn(40, 2, generator=rng)
    expression, truth = torch.arange(40) % 8, (guess + torch.randn(40, 2, generator=rng)).clamp(-1, 1)
    both = score_epoch(logits, guess, expression, truth)
    no_affect = score_epoch(logits, guess, expression, torch.full((40, 2), torch.nan))
    no_expression = score_epoch(logits, guess, torch.full((40,), -1), truth)
    assert no_affect["score"] == no_affect["balanced_accuracy"] == both["balanced_accuracy"]
    assert no_expression["score"] == (both["ccc_valence"] + both["ccc_arousal"]) / 2
    assert both["score"] == (no_affect["score"] + no_expression["score"]) / 2
    assert no_affect.keys() & no_expression.keys() == {"score"}
    assert no_affect.keys() | no_expression.keys() == both.keys()


def test_the_best_epoch_is_the_first_that_none_is_better_than():
    rows = [
        {"score": 0.2, "accuracy": 0.5, "validation_loss": 2.0},
        {"score": 0.4, "accuracy": 0.1, "validation_loss": 1.0},
        {"score": 0.4, "accuracy": 0.5, "validation_loss": 3.0},
    ]
    assert [find_best(rows, select) for select in ("score", "accuracy", "loss")] == [1, 0, 1]
    with pytest.raises(PocketAffectError, match=r"train\.select accuracy.*\n.*score or loss"):
        find_best([{"score": 0.1}], "accuracy")
    assert not is_stale(rows, "score", 0)
    assert not is_stale([], "score", 1)
    assert is_stale(rows, "accuracy", 2)
    assert not is_stale(rows, "score", 2)


@pytest.mark.parametrize("clip_norm", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_mixed_precision_trains_weights_in_float32(clip_norm, shards, tmp_path):
    history = fit(shards, tmp_path, precision="bf16", instructions="native", clip_norm=clip_norm, epochs=1)
    assert np.isfinite(history[0]["train_loss"])
    assert {tensor.dtype for tensor in load_network(tmp_path / "model").parameters()} == {torch.float32}
    assert read_history(tmp_path / "model")[0]["epoch"] == 1


def test_the_trainer_clips_and_accumulates_as_the_recipe_says(tmp_path):
    trainer = build_trainer(TrainParams(**TRAIN | EVERYTHING), tmp_path, [])
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches, trainer.precision) == (1.0, 4, "32-true")
    assert build_trainer(TrainParams(**TRAIN), tmp_path, []).gradient_clip_val is None


def test_the_runs_name_hangs_on_the_teacher_and_on_the_first_weights(shards, teacher, tmp_path):
    torch.manual_seed(4)
    save_network(AffectNetwork(NetworkSpec("mobilenet", 0.2, 32, "plain")), tmp_path / "other")
    first = prepare(shards)
    save_network(first.network, tmp_path / "start")
    names = [
        first.fingerprint,
        prepare(shards, distill=DISTILL | {"teacher": str(teacher)}).fingerprint,
        prepare(shards, distill=DISTILL | {"teacher": str(teacher), "weight": 0.1}).fingerprint,
    ]
    teacher_file = teacher / "model.safetensors"
    before = teacher_file.read_bytes()
    teacher_file.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    names.append(prepare(shards, distill=DISTILL | {"teacher": str(teacher)}).fingerprint)
    teacher_file.write_bytes(before)
    assert len(set(names)) == len(names)
    assert prepare(shards).fingerprint == first.fingerprint


def test_pretrained_weights_are_loaded_and_their_origin_is_recorded(shards, tmp_path):
    import timm

    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("mobilenetv3_small_100").state_dict(), file)
    run = prepare(shards, {"architecture": "mobilenetv3_small", "width": 1.0, "pretrained": str(file)})
    save_network(run.network, tmp_path / "model", pretrained=run.pretrained)
    text = (tmp_path / "model" / "model.json").read_text()
    assert f'"sha256": "{hashlib.sha256(file.read_bytes()).hexdigest()}"' in text
    assert '"source": "weights.safetensors"' in text
    assert str(tmp_path) not in text
    assert load_network(tmp_path / "model").spec == run.network.spec


def refused(match: str, shards: Path, model: dict[str, Any] | None = None, **settings: Any) -> str:
    with pytest.raises(PocketAffectError, match=match) as caught:
        prepare(shards, model, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "settings", "text"),
    [
        ({}, {"expression_weight": 0.0, "va_weight": 0.0}, "both 0"),
        ({}, {"task_weights": "learned", "va_weight": 0.0}, "both above 0"),
        ({}, {"expression_weight": 0.0, "select": "accuracy"}, "learns no expression"),
        ({}, {"logit_adjustment": 1.0, "class_weights": "balanced"}, "frequencies twice"),
        ({"pretrained": "a.pth"}, {"start_from": "b"}, "both give the first weights"),
        ({}, {"precision": "bf16"}, "train.instructions: native"),
        ({}, {"precision": "bf16", "clip_norm": 1.0, "select": "accuracy", "expression_weight": 0.0}, "2 problem"),
        ({"width": 0.06, "pretrained": "hub"}, {}, "has no pretrained weights"),
        ({}, {"start_from": "nowhere"}, "train.start_from: nowhere: no trained model"),
        ({}, {"distill": DISTILL | {"teacher": "nowhere"}}, "train.distill.teacher: nowhere: no trained model"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_the_first_step(model, settings, text, shards):
    assert "params.yaml: " in refused(text, shards, model, **settings)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_without_a_gpu_gpu_is_refused_and_auto_is_the_cpu(shards):
    assert "train.accelerator: gpu" in refused("params.yaml: ", shards, accelerator="gpu")
    assert "train.accelerator: auto" in refused("bf16 on the CPU", shards, accelerator="auto", precision="bf16")
    assert prepare(shards, accelerator="auto", precision="bf16", instructions="native")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_lightning_does_not_find_on_this_machine_is_named_by_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "find_device", lambda _: "cuda")
    with pytest.raises(PocketAffectError, match=r"train.accelerator, train.devices and train.nodes are not"):
        build_trainer(TrainParams(**TRAIN), tmp_path, [])


def relabel(shards: Path, folder: Path, **columns: Any) -> Path:
    """The same shards with other labels."""
    folder.mkdir()
    for file in shards.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    pd.read_parquet(shards / "index.parquet").assign(**columns).to_parquet(folder / "index.parquet", index=False)
    return folder


def test_a_task_without_any_label_is_left_out_and_said(shards, tmp_path, caplog):
    classes_only = relabel(shards, tmp_path / "classes", valence=np.float32(np.nan))
    assert prepare(classes_only).fingerprint
    assert "no image has valence, arousal: the network does not learn it" in caplog.text
    va_only = relabel(shards, tmp_path / "va", expression=-1)
    assert prepare(va_only).fingerprint
    assert "no image has an expression" in caplog.text
    refused("train.select: accuracy, where no image has an expression", va_only, select="accuracy")
    refused("no label of a task that is trained", va_only, va_weight=0.0)


def test_a_task_that_only_one_split_has_labels_of_is_refused_with_what_to_do(shards, tmp_path):
    for split, other in (("train", "training"), ("validation", "validation")):
        one_sided = relabel(
            shards,
            tmp_path / split,
            valence=lambda table, split=split: table["valence"].where(table["split"] != split),
        )
        text = refused(f"no {other} image has valence, arousal", one_sided)
        assert "set train.va_weight: 0.0" in text
        assert prepare(one_sided, va_weight=0.0).fingerprint


def test_a_network_of_another_kind_or_a_damaged_one_is_no_start(shards, tmp_path):
    save_network(prepare(shards, {"width": 0.15}).network, tmp_path / "wider")
    text = refused("another kind of network", shards, start_from=str(tmp_path / "wider"))
    assert ("width 0.15" in text, "width 0.1" in text) == (True, True)
    save_network(prepare(shards, {"dropout": 0.0}).network, tmp_path / "same")
    assert prepare(shards, start_from=str(tmp_path / "same"))
    weights = tmp_path / "same" / "model.safetensors"
    for content in (weights.read_bytes()[:-100], b"", pickle.dumps(print)):
        weights.write_bytes(content)
        refused("train.start_from: .*damaged", shards, start_from=str(tmp_path / "same"))


def test_a_teacher_for_other_images_is_refused(shards, tmp_path):
    save_network(AffectNetwork(NetworkSpec("mobilenet", 0.1, 48, "plain")), tmp_path)
    assert "48 pixels" in refused("images of another size", shards, distill=DISTILL | {"teacher": str(tmp_path)})


def test_a_loss_that_is_no_number_names_the_rows_that_it_comes_from():
    logits, prediction = torch.zeros(8, 8), torch.zeros(8, 2)
    labels = Batch(torch.empty(0), torch.zeros(8), torch.zeros(8, 2), torch.zeros(8, 8), torch.arange(40, 48))
    paths = [f"faces/{row}.jpg" for row in range(48)]
    losses = Losses(torch.tensor(torch.nan), torch.tensor(torch.nan), torch.tensor(0.5))
    fine = note_step(losses._replace(total=torch.tensor(1.0)), (logits, prediction), labels)

    def place(number: int) -> str:
        return f"epoch 2, step {number + 1}"

    require_finite([fine, fine], paths, place)
    logits[1, 2], prediction[4, 0] = torch.nan, torch.inf
    with pytest.raises(PocketAffectError) as caught:
        require_finite([fine, fine, note_step(losses, (logits, prediction), labels)], paths, place)
    text = str(caught.value)
    assert "loss is nan in epoch 2, step 3" in text
    assert "2 of 8 answers of the network not finite" in text
    assert "training rows 41 (faces/41.jpg), 44 (faces/44.jpg)\n" in text
    with pytest.raises(PocketAffectError, match=r"44 \(faces/44\.jpg\) and 3 more"):
        require_finite([note_step(losses, (torch.zeros(8, 8), torch.zeros(8, 2)), labels)], paths, place)


def test_a_label_that_is_not_finite_stops_the_training_with_the_batchs_rows(shards, tmp_path):
    def spoil(table: pd.DataFrame) -> pd.Series:
        return table["valence"].where(table["path"] != "train/5.jpg", np.float32(np.inf))

    with pytest.raises(PocketAffectError, match=r"training rows .*train/") as caught:
        fit(relabel(shards, tmp_path / "spoilt", valence=spoil), tmp_path, batch_size=96)
    assert "loss is inf in epoch 1, step 1" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "mixup"), [({}, 0.0), ({"task_weights": "learned", "label_smoothing": 0.1, "va_loss": "mix"}, 0.4)]
)
def test_a_step_asks_the_device_for_no_number(change, mixup, shards):
    # Tensors of the device "meta" have no content: whatever would wait for a GPU's answer raises on them.
    params = TrainParams(**TRAIN | change | {"augment": TRAIN["augment"] | {"mixup": mixup}})
    split = open_split(shards, "train")
    batch = next(iter(train_batches(split, 16, params.augment, seed=1, epoch=0))).to(torch.device("meta"))
    network = AffectNetwork(NetworkSpec("mobilenet", 0.1, 32, "prototype")).to("meta")
    objective = Objective(params, split.expression).to("meta")
    average = MovingAverage(network, 0.9)
    for _ in range(2):
        outputs = network(batch.images)
        losses = objective(outputs, batch, outputs)
        assert note_step(losses, outputs, batch).losses.device.type == "meta"
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        average.follow(network)
    assert average.steps == 2
    with pytest.raises(RuntimeError, match="meta"):
        bool(losses.total > 0)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_batches_made_ahead_in_a_thread_are_the_same_in_the_same_order(mixup, shards):
    split = open_split(shards, "train")
    augment = AugmentParams(**TRAIN["augment"] | {"mixup": mixup})

    def batches() -> Any:
        return train_batches(split, 16, augment, seed=1, epoch=2)

    ahead = BatchesAhead(batches(), pinned=False)
    assert len(ahead) == len(batches()) == 6
    for mine, theirs in zip(ahead, batches(), strict=True):
        assert torch.equal(mine.rows, theirs.rows)
        assert torch.equal(mine.images, theirs.images)


def test_a_training_that_ends_within_an_epoch_leaves_no_thread_and_an_error_of_a_batch_comes_through(shards):
    split, augment = open_split(shards, "train"), AugmentParams(**TRAIN["augment"])
    batches = iter(BatchesAhead(train_batches(split, 16, augment, seed=1, epoch=0), pinned=False))
    next(batches)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())
    broken = train_batches(split, 16, augment, seed=1, epoch=0)
    broken.dataset.split = None
    with pytest.raises(AttributeError):
        list(BatchesAhead(broken, pinned=False))
