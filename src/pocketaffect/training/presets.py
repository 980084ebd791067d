"""Named recipes: the one of Hewitt & Gunes 2018 (arXiv 1807.08775), to hold ours against.

The paper trains two networks for one architecture: a classifier, and a regressor that is the classifier with its
output layer replaced and trained on. Ours have both heads from the start: the classifier's VA head gets no gradient,
so that it is a new layer when the regressor begins.

Where the paper is silent: weights are PyTorch's first ones and not Keras's, pixels are standardised, predictions are
held within [-1, 1] (not in training), and rows without one of the two labels are in the batches, masked.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from pocketaffect.config import ModelParams, TrainParams, describe_problems
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, write_json
from pocketaffect.models.network import SPEC_FILE, WEIGHTS_FILE
from pocketaffect.training.fit import prepare_run, train_network

PAPER_BATCH: Final = {"alexnet": 400, "vgg": 400, "mobilenet": 250}
PAPER_EPOCHS: Final = {"classifier": 24, "regressor": 16}
ONE_THREAD: Final[Mapping[str, Any]] = {
    "threads": 1,
    "instructions": "avx2",
    "accelerator": "cpu",
    "devices": 1,
    "nodes": 1,
    "executor": "local",
    "precision": "fp32",
}
"""The machine, which is no part of a recipe: these keys of `train` in params.yaml."""

OWN_MACHINE: Final = ("threads", "instructions", "accelerator", "precision")
"""Those of them that a pair takes over from params.yaml. It trains in one process: of several, the first alone would
write the classifier that all begin their regressor with."""

_PAPER: Final[Mapping[str, Any]] = {
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "class_weights": "balanced",
    "va_loss": "mse",
    "augment": {
        "rotation_degrees": 20,
        "shift": 0.1,
        "flip": 0.5,
        "brightness": 0.0,
        "contrast": 0.0,
        "cutout": 0.0,
        "mixup": 0.0,
    },
    # What the paper does without.
    "patience": 0,
    "accumulate": 1,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
    "logit_adjustment": 0.0,
    "label_smoothing": 0.0,
    "soft_labels": False,
    "task_weights": "fixed",
    "distill": {"teacher": None, "temperature": 1.0, "weight": 0.0},
}
_TASKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "classifier": {"expression_weight": 1.0, "va_weight": 0.0, "select": "accuracy"},
    "regressor": {"expression_weight": 0.0, "va_weight": 1.0, "select": "loss"},
}


def paper_network(architecture: str, width: float = 1.0) -> ModelParams:
    """Gives the paper's network, wide or narrow: a plain output, its dropout.

    Raises:
        PocketAffectError: No such architecture, or a width that none has.
    """
    try:
        return ModelParams(
            architecture=architecture,
            width=width,
            full_resolution_stem=False,
            head="plain",
            dropout=1.0,
            pretrained=None,
        )
    except ValidationError as error:
        raise PocketAffectError("; ".join(describe_problems(error))) from None


def paper_recipe(
    task: Literal["classifier", "regressor"],
    *,
    seed: int,
    batch_size: int,
    start_from: Path | None = None,
    epochs: int | None = None,
    machine: Mapping[str, Any] = ONE_THREAD,
) -> TrainParams:
    """Gives the paper's recipe for one of its two networks; the regressor's starts from the classifier's folder.

    `machine` has settings that differ from `ONE_THREAD`.
    """
    return TrainParams(
        **{**ONE_THREAD, **machine},
        **_PAPER,
        **_TASKS[task],
        seed=seed,
        batch_size=batch_size,
        start_from=None if start_from is None else str(start_from),
        epochs=PAPER_EPOCHS[task] if epochs is None else epochs,
    )


def train_paper_pair(
    shards: Path,
    architecture: str,
    width: float,
    seed: int,
    work: Path,
    target: Path,
    *,
    batch_size: int | None = None,
    epochs: tuple[int, int] | None = None,
    machine: Mapping[str, Any] = ONE_THREAD,
    progress: bool = True,
) -> tuple[Path, Path]:
    """Trains the paper's two networks and writes them into `target`/classifier and `target`/regressor.

    A killed call that is repeated goes on, by what it left in `work`, from the last finished epoch of the network that
    it was at. Another architecture than the paper's is trained by the same recipe. Batch size and numbers of epochs may
    be others than the paper's; `machine` has settings of `OWN_MACHINE` that differ from `ONE_THREAD`.

    Returns:
        The folders of classifier and regressor, each for `models.network.load_network`. Take the logits of the one
        and the valence-arousal of the other.

    Raises:
        PocketAffectError: See `paper_network` and `train_network`.
    """
    network = paper_network(architecture, width)
    batch = batch_size or PAPER_BATCH.get(architecture, min(PAPER_BATCH.values()))
    classifier, regressor = target / "classifier", target / "regressor"
    lengths = epochs or (PAPER_EPOCHS["classifier"], PAPER_EPOCHS["regressor"])
    recipe = paper_recipe("classifier", seed=seed, batch_size=batch, epochs=lengths[0], machine=machine)
    _train_once(shards, network, recipe, work / "classifier", classifier, progress=progress)
    recipe = paper_recipe(
        "regressor", seed=seed, batch_size=batch, epochs=lengths[1], start_from=classifier, machine=machine
    )
    _train_once(shards, network, recipe, work / "regressor", regressor, progress=progress)
    return classifier, regressor


def _train_once(
    shards: Path, network: ModelParams, recipe: TrainParams, work: Path, target: Path, *, progress: bool
) -> None:
    """Trains, unless `target` holds what the same inputs gave; `work` remembers."""
    run = {"run": prepare_run(shards, network, recipe).fingerprint}
    finished = work / "finished.json"
    try:
        known = json.loads(finished.read_text(encoding="utf-8"))
        if known == run | _hash_files(target):
            return
    except (FileNotFoundError, ValueError):
        pass  # nothing finished
    train_network(shards, network, recipe, work=work, target=target, progress=progress)
    write_json(finished, run | _hash_files(target))


def _hash_files(folder: Path) -> dict[str, str]:
    return {name: hash_file(folder / name) for name in (SPEC_FILE, WEIGHTS_FILE)}
