"""Fits a network to shards: setup, then a Lightning fit that goes on where a killed one stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from torch.utils.data import DataLoader

from pocketaffect.config import ModelParams, TrainParams
from pocketaffect.data.shards.batches import Batch, ordered_batches, train_batches
from pocketaffect.data.shards.split import Split, open_split, read_summary
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_parameters, save_network
from pocketaffect.provenance import hash_sources
from pocketaffect.training.checkpoint import CHECKPOINT_STEM, AtomicCheckpointIO, find_checkpoint
from pocketaffect.training.losses import average_prototypes, balance_classes, weigh_by_effective_number
from pocketaffect.training.module import AffectModule

logger = logging.getLogger(__name__)

HISTORY_FILE: Final = "history.csv"
VALIDATION_BATCH: Final = 512
SOURCES: Final = ("arithmetic.py", "labels.py", "data/shards", "models", "training")


class FaceData(pl.LightningDataModule):
    """Batches of both splits; the training loader is built anew each epoch, since its order depends on it."""

    def __init__(self, train: Split, validation: Split, params: TrainParams) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.params = params

    def train_dataloader(self) -> DataLoader[Batch]:
        """The shuffled, augmented batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return train_batches(
            self.train, self.params.batch_size, self.params.augment, seed=self.params.seed, epoch=epoch
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split in order."""
        return ordered_batches(self.validation, VALIDATION_BATCH)


class EpochLines(Callback):
    """One line for each epoch, where a progress bar would fill a log file."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what was just measured."""
        row = pl_module.history[-1]
        logger.info(
            "epoch %d/%d: loss %.3f, accuracy %.3f, CCC %.3f / %.3f",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            *(row[name] for name in ("train_loss", "accuracy", "ccc_valence", "ccc_arousal")),
        )


def train_network(
    shards: Path,
    model: ModelParams,
    params: TrainParams,
    *,
    work: Path,
    target: Path,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> list[dict[str, float]]:
    """Trains on the shards and writes the best epoch's network and the history into `target`.

    Checkpoints live in `work`, below a name made of everything that decides the result; a repeated call with the
    same inputs goes on from the last finished epoch and ends with the same bytes as an undisturbed run.

    Args:
        shards: What the preprocess stage wrote.
        model: The network.
        params: The recipe.
        work: Where checkpoints live while the training goes on.
        target: The folder to write.
        progress: A bar for each epoch, or a line in the log.
        callbacks: More of Lightning's, such as one that prunes. One that raises leaves the checkpoint in place and
            writes no network.

    Returns:
        The history, one dictionary for each epoch.

    Raises:
        PocketAffectError: No images of a split or a class, an impossible network, a loss that is not finite.
    """
    summary = read_summary(shards)
    train, validation = open_split(shards, "train"), open_split(shards, "validation")
    if not len(validation):
        raise PocketAffectError(f"{shards}: no validation image", todo="add validation images with a label")
    if len(train) < params.batch_size:
        raise PocketAffectError(
            "params.yaml: train.batch_size is larger than the training split",
            found=f"{params.batch_size} against {len(train)} images",
            allowed=f"2 to {len(train)}",
            todo="lower train.batch_size",
        )
    torch.manual_seed(params.seed)
    spec = NetworkSpec(
        model.architecture,
        model.width,
        int(summary["size"]),
        model.head,
        model.dropout,
        full_resolution_stem=model.full_resolution_stem,
    )
    network = AffectNetwork(
        spec,
        mean=summary["pixel_mean"],
        deviation=summary["pixel_deviation"],
        prototypes=average_prototypes(train.expression, train.valence_arousal),
    )
    logger.info(
        "%s x %g at %d px: %s parameters, %d training and %d validation images",
        *(spec.architecture, spec.width, spec.size, f"{count_parameters(network):,}", len(train), len(validation)),
    )
    weigh = {"none": lambda _: None, "balanced": balance_classes, "effective": weigh_by_effective_number}
    weights = weigh[params.class_weights](train.expression)
    module = AffectModule(network, params, weights)
    checkpoints = work / fingerprint_run(summary, spec, params)
    _remove_other_runs(work, checkpoints)
    _fit(module, FaceData(train, validation, params), params, checkpoints, callbacks, progress=progress)
    network.load_state_dict(module.best)
    with write_atomically(target) as draft:
        draft.mkdir()
        save_network(network, draft)
        write_history(module.history, draft / HISTORY_FILE)
    shutil.rmtree(checkpoints)  # a repeated training of the same inputs is a new training, not a look at the old one
    return module.history


def fingerprint_run(summary: dict[str, Any], spec: NetworkSpec, params: TrainParams) -> str:
    """A name for all that decides the result of a training: pixels and labels, network, recipe, source code."""
    content = {
        "shards": summary,
        "network": asdict(spec),
        "train": params.model_dump(),
        "sources": hash_sources(*SOURCES),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_history(history: list[dict[str, float]], target: Path) -> None:
    """Writes the epochs as CSV, six significant digits, epoch as a whole number."""
    names = list(history[0])
    lines = [",".join(names)]
    lines += [",".join(f"{row[name]:.6g}" for name in names) for row in history]
    with write_atomically(target) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _fit(
    module: AffectModule,
    data: FaceData,
    params: TrainParams,
    checkpoints: Path,
    further: Sequence[Callback],
    *,
    progress: bool,
) -> None:
    # The best weights are inside the checkpoint too, so that one atomic file is all there is to resume from.
    keep_last = ModelCheckpoint(
        dirpath=checkpoints,
        filename=CHECKPOINT_STEM,
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [keep_last, TQDMProgressBar(refresh_rate=20) if progress else EpochLines(), *further]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # its import sets INFO: advice and adverts
    with warnings.catch_warnings():
        # Lightning's advice on worker processes and log intervals does not fit memory-mapped shards.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        trainer = pl.Trainer(
            accelerator=params.accelerator,
            devices=1,
            max_epochs=params.epochs,
            deterministic=True,
            logger=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=checkpoints,
        )
        last = find_checkpoint(checkpoints)
        if last is not None:
            logger.info("going on from %s", last)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C, and with status 0 to a polite kill
            raise KeyboardInterrupt from None
    if len(module.history) != params.epochs:
        raise RuntimeError(f"{len(module.history)} epochs were trained, {params.epochs} wanted")


def _remove_other_runs(work: Path, current: Path) -> None:
    """Frees the space of checkpoints that no longer fit the inputs."""
    work.mkdir(parents=True, exist_ok=True)
    for folder in work.iterdir():
        if folder.is_dir() and folder != current:
            shutil.rmtree(folder)
