"""A training where `train.executor` says: in this process, or in a cluster's."""

from __future__ import annotations

from functools import partial

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.executor.choose import find_executor
from pocketaffect.executor.ranks import run_ranks


def launch_training(params: Params, *, progress: bool) -> None:
    """Trains from out/shards to out/model.

    Args:
        params: All settings.
        progress: Show a bar; a cluster's processes show none.

    Raises:
        PocketAffectError: What `training.fit.train_network` and `executor.ranks.run_ranks` refuse.
        RuntimeError: torch was imported before the arithmetic was settled.
    """
    train = params.train
    if train.executor == "local":
        train_here(params, progress=progress)
        return
    ranks = train.devices * train.nodes
    alone = params.model_copy(update={"train": train.model_copy(update={"devices": 1, "nodes": ranks})})
    run_ranks(
        find_executor(train.executor),
        partial(train_here, alone, progress=False),
        ranks=ranks,
        accelerator=train.accelerator,
        work=paths.RANKS,
    )


def train_here(params: Params, *, progress: bool) -> None:
    """Trains in this process, which may be one of several (torchrun's variables or SLURM's say so)."""
    pin_arithmetic(threads=params.train.threads, instructions=params.train.instructions)
    from pocketaffect.training.fit import train_network

    train_network(
        paths.SHARDS, params.model, params.train, work=paths.CHECKPOINTS, target=paths.MODEL, progress=progress
    )
