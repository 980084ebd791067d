from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_parts import MODEL, TRAIN, read_history, write_separable_shards

from pocketaffect.config import ModelParams, TrainParams
from pocketaffect.data.shards.batches import BatchOrder
from pocketaffect.errors import PocketAffectError
from pocketaffect.paths import TRAINING_TIME
from pocketaffect.training.checks import refuse_uneven

# At a high rate Adam makes steps of what is rounding in the gradients.
SETTINGS = TRAIN | {
    "epochs": 2,
    "batch_size": 24,
    "learning_rate": 1e-4,
    "select": "loss",
    "ema_decay": 0.9,
    "va_loss": "mix",
    "label_smoothing": 0.1,
}


@given(length=st.integers(1, 200), part=st.integers(1, 20), processes=st.integers(1, 5), seed=st.integers(0, 9))
def test_the_processes_parts_of_each_batch_are_together_the_batch_of_one_process(length, part, processes, seed):
    size = part * processes
    whole = list(BatchOrder(length, size, seed=seed, epoch=2))
    parts = [
        list(BatchOrder(length, size, seed=seed, epoch=2, process=number, processes=processes))
        for number in range(processes)
    ]
    assert {len(batches) for batches in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        if len(batch) == size:  # a split smaller than its batch is refused before
            assert np.concatenate([batches[step] for batches in parts]).tolist() == batch.tolist()


@given(length=st.integers(1, 200), size=st.integers(1, 40), processes=st.integers(1, 5))
def test_in_order_each_process_gets_equally_many_rows_and_together_they_are_all(length, size, processes):
    parts = [
        list(BatchOrder(length, size * processes, process=number, processes=processes)) for number in range(processes)
    ]
    assert len({tuple(len(batch) for batch in batches) for batches in parts}) == 1
    rows = np.concatenate([batch for batches in parts for batch in batches])
    assert set(rows.tolist()) == set(range(length))
    assert len(rows) < length + processes


@pytest.mark.parametrize(("size", "processes", "better"), [(33, 2, 32), (2, 2, 4), (100, 3, 99)])
def test_a_batch_that_processes_cannot_share_is_refused_with_one_that_they_can(size, processes, better):
    with pytest.raises(PocketAffectError, match=f"{better}, for example"):
        refuse_uneven(size, processes)
    refuse_uneven(better, processes)


def train_in_two(folder: Path, model: dict[str, Any], settings: dict[str, Any]) -> str:
    """Trains in a process that Lightning can start again."""
    script = Path(__file__).with_name("training_process.py")
    command = [sys.executable, str(script), str(folder), json.dumps(model), json.dumps(settings | {"devices": 2})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stderr


def train_in_one(folder: Path, model: dict[str, Any], settings: dict[str, Any]) -> None:
    from training_process import first_gradients

    from pocketaffect.training.fit import train_network

    train_network(
        folder / "shards",
        ModelParams(**model),
        TrainParams(**settings),
        work=folder / "work",
        target=folder / "model",
        progress=False,
        callbacks=[first_gradients(folder)],
    )


@pytest.mark.slow
def test_two_processes_end_with_the_gradients_metrics_and_weights_of_one(tmp_path):
    from pocketaffect.models.network import load_network

    folders = tmp_path / "one", tmp_path / "two"
    for folder, train in zip(folders, (train_in_one, train_in_two), strict=True):
        write_separable_shards(folder / "shards", train=100, validation=49)
        log = train(folder, MODEL | {"dropout": 0.0}, SETTINGS)
    assert "epoch 2/2" in log
    one, two = (np.load(folder / "gradients.npz") for folder in folders)
    # Statistics or losses of half a batch would be off by a tenth. Normalisation makes rounding grow from layer to
    # layer, and leaves nothing but rounding of gradients that cancel: all of them are taken together.
    whole, other = (np.concatenate([gradients[name].ravel() for name in one]) for gradients in (one, two))
    assert np.linalg.norm(other - whole) < 2e-3 * np.linalg.norm(whole)
    for mine, theirs in zip(*(read_history(folder / "model") for folder in folders), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=2e-3)
    states = [load_network(folder / "model").state_dict() for folder in folders]
    for name, tensor in states[0].items():
        np.testing.assert_allclose(tensor, states[1][name], rtol=0.01, atol=1e-3, err_msg=name)
    assert [file.name for file in (folders[1] / "work").iterdir()] == [TRAINING_TIME.name]  # no checkpoint is left
