"""Fits a network to shards: setup, then a Lightning fit that goes on where a killed one stopped."""

import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.strategies import Strategy

from pocketaffect.config import ModelParams, TrainParams
from pocketaffect.data.shards.split import Part, Split, open_choosing, open_split, read_summary
from pocketaffect.files import hash_file, hash_json, write_atomically, write_json
from pocketaffect.models.network import (
    WEIGHTS_FILE,
    AffectNetwork,
    NetworkSpec,
    PretrainedWeights,
    count_parameters,
    save_network,
)
from pocketaffect.models.pretrained import load_pretrained
from pocketaffect.paths import TRAINING_TIME
from pocketaffect.provenance.code import hash_code
from pocketaffect.training.checks import refuse_uneven, refuse_untrainable
from pocketaffect.training.inputs import FaceData, hash_state, load_teacher, start_from
from pocketaffect.training.losses import average_prototypes
from pocketaffect.training.module import AffectModule
from pocketaffect.training.objective import Objective
from pocketaffect.training.scores import is_stale
from pocketaffect.training.trainer import EpochBar, EpochLines, build_trainer, find_checkpoint

logger = logging.getLogger(__name__)

HISTORY_FILE: Final = "history.csv"


def train_network(
    shards: Path,
    model: ModelParams,
    params: TrainParams,
    *,
    work: Path,
    target: Path,
    part: Part | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    strategy: str | Strategy = "auto",
) -> list[dict[str, float]]:
    """Trains on the shards and writes the best epoch's network and the history into `target`.

    Checkpoints live in `work`, below a name made of everything that decides the result; a repeated call with the
    same inputs goes on from the last finished epoch and ends with the same bytes as an undisturbed run.

    Of the training images a `part` is trained on, None: all. Callbacks are Lightning's, such as one that prunes: one
    that raises leaves the checkpoint in place and writes no network. Its strategy, by itself, is DDP for more than one
    process. `progress` shows a bar for each epoch, or a line in the log.

    Returns:
        The history, one dictionary for each epoch.

    Raises:
        PocketAffectError: What `prepare_run` refuses, or a loss that is not finite.
    """
    run = prepare_run(shards, model, params, part)
    if run.network.spec.colour == "grey" and params.augment.tint:
        logger.info("train.augment.tint is left out: training faces are grey, and the network reads luma alone")
        params = params.model_copy(update={"augment": params.augment.model_copy(update={"tint": 0.0})})
    spec, count = run.network.spec, f"{count_parameters(run.network):,}"
    logger.info(
        "%s x %g at %d px: %s parameters, %d images to train on and %d to choose the epoch by",
        *(spec.architecture, spec.width, spec.size, count, len(run.train), len(run.validation)),
    )
    module = AffectModule(run.network, run.objective, params, run.train.paths, run.teacher)
    checkpoints = work / run.fingerprint
    words = EpochBar() if progress else EpochLines()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its import sets INFO: advice and adverts
    with warnings.catch_warnings():
        # Lightning's advice on worker processes and log intervals does not fit memory-mapped shards.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        timer = Timer(verbose=False)  # counts on over interruptions
        trainer = build_trainer(params, checkpoints, [words, timer, *callbacks], strategy)
        refuse_uneven(params.batch_size, trainer.world_size)
        if trainer.is_global_zero:
            _remove_other_runs(work, checkpoints)
        _fit(trainer, module, FaceData(run.train, run.validation, params), checkpoints)
    if not trainer.is_global_zero:
        return module.history
    run.network.load_state_dict(module.best)
    with write_atomically(target) as draft:
        draft.mkdir()
        save_network(run.network, draft, pretrained=run.pretrained)
        write_history(module.history, draft / HISTORY_FILE)
    ended = time.time()
    weights = hash_file(target / WEIGHTS_FILE)
    noted = {"weights_sha256": weights, "began": ended - timer.time_elapsed("train"), "ended": ended}
    write_json(work / TRAINING_TIME.name, noted)
    shutil.rmtree(checkpoints)  # a repeated training of the same inputs is a new training, not a look at the old one
    return module.history


@dataclass(frozen=True)
class Run:
    """Everything that a training needs, checked, before its first step.

    Attributes:
        validation: The images that choose the epoch: the validation split, or a part of training.
        pretrained: Origin of the backbone's first weights; None for random ones or another training's.
        teacher: The network to learn from; None where there is none.
        fingerprint: A name for all that decides the result.
    """

    train: Split
    validation: Split
    network: AffectNetwork
    objective: Objective
    pretrained: PretrainedWeights | None
    teacher: AffectNetwork | None
    fingerprint: str


def prepare_run(shards: Path, model: ModelParams, params: TrainParams, part: Part | None = None) -> Run:
    """Opens the shards, builds the network, and refuses what cannot be trained.

    Raises:
        PocketAffectError: Settings that do not go together, no images of a split, a class or a task, an impossible
            network, weights or a teacher that do not fit it.
    """
    summary = read_summary(shards)
    train, validation = open_split(shards, "train"), open_choosing(shards)
    if part is not None:
        train, summary = train.take(part), summary | {"part": part}
    refuse_untrainable(shards, train, validation, model, params)
    torch.manual_seed(params.seed)
    spec = NetworkSpec.from_params(model, int(summary["size"]), summary.get("colour", "rgb"))
    network = AffectNetwork(
        spec,
        mean=summary["pixel_mean"],
        deviation=summary["pixel_deviation"],
        prototypes=average_prototypes(train.expression, train.valence_arousal),
    )
    pretrained = None if model.pretrained is None else load_pretrained(network, model.pretrained)
    if params.start_from is not None:
        start_from(network, Path(params.start_from))
    teacher = params.distill.teacher
    guide = None if teacher is None else load_teacher(Path(teacher), spec.size)
    return Run(
        train,
        validation,
        network,
        objective=Objective(params, train.expression),
        pretrained=pretrained,
        teacher=guide,
        fingerprint=fingerprint_run(summary, network, params, guide),
    )


def fingerprint_run(
    summary: dict[str, Any], network: AffectNetwork, params: TrainParams, teacher: AffectNetwork | None
) -> str:
    """Computes a name for all that decides a training's result: pixels and labels, network, recipe, source code."""
    content = {
        "shards": summary,
        "network": asdict(network.spec),
        "first_weights": hash_state(network.state_dict()),
        "teacher": None if teacher is None else [asdict(teacher.spec), hash_state(teacher.state_dict())],
        "train": params.model_dump(),
        "sources": hash_code(__name__, "pocketaffect.arithmetic"),
        "torch": torch.__version__,
    }
    return hash_json(content)[:16]


def write_history(history: list[dict[str, float]], target: Path) -> None:
    """Writes the epochs as CSV, six significant digits, epoch as a whole number."""
    names = list(history[0])
    lines = [",".join(names)]
    lines += [",".join(f"{row[name]:.6g}" for name in names) for row in history]
    with write_atomically(target) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _fit(trainer: pl.Trainer, module: AffectModule, data: FaceData, checkpoints: Path) -> None:
    last = find_checkpoint(checkpoints, module.state_dict())
    if last is not None:
        logger.info("going on from %s", last)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C, and with status 0 to a polite kill
        raise KeyboardInterrupt from None
    params = module.params
    if len(module.history) != params.epochs and not is_stale(module.history, params.select, params.patience):
        raise RuntimeError(f"{len(module.history)} epochs were trained, {params.epochs} wanted")


def _remove_other_runs(work: Path, current: Path) -> None:
    """Frees the space of checkpoints that no longer fit the inputs."""
    work.mkdir(parents=True, exist_ok=True)
    for folder in work.iterdir():
        if folder.is_dir() and folder != current:
            shutil.rmtree(folder)
