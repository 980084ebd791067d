"""Random combinations of all settings of a training: each trains, or is refused by a message that names the keys.

`POCKETAFFECT_COMBINATIONS=3000 pytest tests/training/test_combinations.py -m '' -n 0` tries as many; each run draws
others, so that the runs of a landing add up.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from training_parts import MODEL, TRAIN, write_separable_shards

from pocketaffect.config import AugmentParams, DistillParams, ModelParams, TrainParams
from pocketaffect.designs import CATALOGUE
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import SOFT_COLUMNS
from pocketaffect.models.network import AffectNetwork, NetworkSpec, load_network, save_network
from pocketaffect.training.fit import train_network

MANY = int(os.environ.get("POCKETAFFECT_COMBINATIONS", "50"))
NOT_DRAWN = {"devices", "nodes", "executor"}
"""More than one process each: test_distributed.py's."""


def some(*values: Any, seldom: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """One of the values; now and then one of those that mostly are refused."""
    return st.sampled_from([*values * (1 + 9 // len(values) if seldom else 1), *seldom])


TRAIN_VALUES = {
    "seed": st.integers(0, 2**32 - 1),
    "threads": some(1, 2),
    "instructions": some("avx2", "native"),
    "accelerator": some("cpu", "auto", seldom=("gpu",)),
    "precision": some("fp32", "bf16"),
    "epochs": some(1, 2),
    "patience": some(0, 1),
    "batch_size": some(2, 3, 5, 16, 17),
    "accumulate": some(1, 2, 7),
    "optimizer": some("adam", "adamw"),
    "learning_rate": some(1e-12, 1e-4, 0.01, 1.0, seldom=(1e30,)),
    "weight_decay": some(0.0, 0.1, 5.0),
    "schedule": some("cosine", "constant"),
    "warmup_epochs": some(0.0, 0.3, 1.0, 9.0),
    "clip_norm": some(0.0, 1e-6, 1.0),
    "ema_decay": some(0.0, 0.5, 0.999),
    "start_from": some(None, "same", seldom=("other", "nowhere")),
    "select": some("score", "accuracy", "loss"),
    "class_weights": some("none", "effective", "balanced"),
    "logit_adjustment": some(0.0, 0.5, 3.0),
    "label_smoothing": some(0.0, 0.1, 0.99),
    "soft_labels": st.booleans(),
    "va_loss": some("mse", "ccc", "mix"),
    "task_weights": some("fixed", "learned"),
    "expression_weight": some(1.0, 100.0, seldom=(0.0,)),
    "va_weight": some(1e-3, 6.0, seldom=(0.0,)),
}
DISTILL_VALUES = {
    "teacher": some(None, "teacher", seldom=("large pixels", "nowhere")),
    "temperature": some(0.01, 2.0, 100.0),
    "weight": some(0.0, 0.5, 1.0),
}
AUGMENT_VALUES = {
    "rotation_degrees": some(0, 20.0, 180),
    "shift": some(0, 0.1, 0.5),
    "flip": some(0, 0.5, 1),
    "brightness": some(0, 0.2, 1),
    "contrast": some(0, 0.2, 1),
    "cutout": some(0, 0.3, 1),
    "mixup": some(0, 1e-3, 0.4, 10),
    "zoom": some(0.0, 0.15, 1),
    "aspect": some(0.0, 0.15, 1),
    "blur": some(0.0, 0.7, 4),
    "sharpen": some(0.0, 0.5, 4),
    "tint": some(0.0, 0.3, 1),
    "jpeg": some(0.0, 0.5, 1),
}
MODEL_VALUES = {
    "architecture": st.sampled_from(sorted(CATALOGUE)),
    "width": some(0.05, 0.1, 0.3, 1.0),
    "full_resolution_stem": st.booleans(),
    "head": some("prototype", "plain"),
    "dropout": some(0.0, 0.5, 1.5),
    "pretrained": some(None, seldom=("weights", "other weights", "nowhere")),
}
LABELS = ("all", "soft", "few of each", "six classes", "classes", "va")


def relabel(shards: Path, labels: str) -> Path:
    """The same pixels with labels of another kind."""
    folder = shards.with_name(labels.replace(" ", "_"))
    shutil.copytree(shards, folder)
    table = pd.read_parquet(shards / "index.parquet")
    row = np.arange(len(table))
    nothing = np.float32(np.nan)
    if labels == "soft":
        shares = np.eye(8, dtype=np.float32)[table["expression"]] * 0.75 + np.float32(0.25 / 8)
        shares[row % 3 == 0] = nothing
        table[list(SOFT_COLUMNS)] = shares
    elif labels == "classes":
        table = table.assign(valence=nothing, arousal=nothing)
    elif labels == "va":
        table = table.assign(expression=-1)
    elif labels == "six classes":
        table = table.assign(expression=table["expression"] % 6)
    elif labels == "few of each":
        dropped = {name: table[name].where(row % 3 == 0, nothing) for name in ("valence", "arousal")}
        table = table.assign(expression=table["expression"].where(row % 3 == 1, -1), **dropped)
    table.to_parquet(folder / "index.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Shards with labels of each kind, networks to start from or to learn from, and a file of weights."""
    place = tmp_path_factory.mktemp("combinations")
    write_separable_shards(place / "all", train=33, validation=9)
    for labels in LABELS[1:]:
        relabel(place / "all", labels)
    torch.manual_seed(0)
    for name, spec in (
        ("same", NetworkSpec("mobilenet", 0.1, 32, "prototype")),
        ("other", NetworkSpec("vgg", 0.1, 32, "plain")),
        ("teacher", NetworkSpec("mobilenet", 0.2, 32, "plain")),
        ("large pixels", NetworkSpec("mobilenet", 0.1, 48, "plain")),
    ):
        save_network(AffectNetwork(spec), place / name)
    for name, design in (("weights", "mobilenetv3_small_100"), ("other weights", "mobilenetv4_conv_small")):
        save_file(timm.create_model(design).state_dict(), place / name)
    return place


@st.composite
def combinations(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Labels, and what differs from the recipe in `train` and `model`: a few settings or many."""
    chance = draw(some(0.1, 0.2, 0.5))

    def choose(values: dict[str, st.SearchStrategy[Any]], prefix: str = "") -> dict[str, Any]:
        drawn = {}
        for name, value in values.items():
            if draw(st.floats(0, 1)) < chance:
                drawn[f"{prefix}{name}"] = draw(value)
        return drawn

    train = choose(TRAIN_VALUES)
    if draw(some(True, seldom=(False,))):  # the contradictions that are met most
        if train.get("logit_adjustment"):
            train["class_weights"] = "none"
        if train.get("precision") == "bf16":
            train["instructions"] = "native"
    train["distill"] = TRAIN["distill"] | choose(DISTILL_VALUES)
    train["augment"] = TRAIN["augment"] | choose(AUGMENT_VALUES)
    return draw(some(*LABELS[:3], seldom=LABELS[3:])), train, choose(MODEL_VALUES)


def resolve(place: Path, value: str | None) -> str | None:
    return None if value is None else str(place / value)


numbers = itertools.count()
KEY = re.compile(r"\b(?:train|model|preprocess)\.[a-z_]+")


def try_combination(place: Path, labels: str, train: dict[str, Any], model: dict[str, Any]) -> None:
    train = TRAIN | {"epochs": 1} | train
    train["distill"] = train["distill"] | {"teacher": resolve(place, train["distill"]["teacher"])}
    params = TrainParams(**train | {"start_from": resolve(place, train.get("start_from"))})
    network = ModelParams(**MODEL | model | {"pretrained": resolve(place, model.get("pretrained"))})
    target = place / f"run{next(numbers)}"
    try:
        shards = place / labels.replace(" ", "_")
        history = train_network(shards, network, params, work=target / "work", target=target / "m", progress=False)
    except PocketAffectError as error:
        text = str(error)
        event(f"refused: {text.splitlines()[0].replace(str(place), '')[:90]}")
        assert KEY.search(text), text
        return
    finally:
        # A large learning rate may end in numbers that are none, which is said in the training or not kept.
        kept = target / "m"
        if kept.exists():
            load_network(kept)
        shutil.rmtree(target, ignore_errors=True)
    event("trained")
    assert 1 <= len(history) <= params.epochs
    assert all(np.isfinite(value) for row in history for value in row.values())


def test_every_setting_is_drawn():
    assert set(TRAIN_VALUES) | NOT_DRAWN | {"distill", "augment"} == set(TrainParams.model_fields)
    assert set(DISTILL_VALUES) == set(DistillParams.model_fields)
    assert set(AUGMENT_VALUES) == set(AugmentParams.model_fields)
    assert set(MODEL_VALUES) == set(ModelParams.model_fields)


def quickly(count: int) -> settings:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, suppress_health_check=checks, database=None)


@quickly(6)
@given(combinations())
def test_a_combination_of_settings_trains_or_is_refused_by_name(place, combination):
    try_combination(place, *combination)


@pytest.mark.slow
@quickly(MANY)
@given(combinations())
def test_many_combinations_of_settings_train_or_are_refused_by_name(place, combination):
    try_combination(place, *combination)
