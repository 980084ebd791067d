"""Trains the network; a killed run goes on from its last finished epoch."""

import sys

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.models.catalogue import HUB
from pocketaffect.stage import require_dependency, run_stage


def main(params: Params) -> None:
    """out/shards/ to out/model/: weights, architecture, history."""
    for key, path in (
        ("train.start_from", params.train.start_from),
        ("train.distill.teacher", params.train.distill.teacher),
        ("model.pretrained", None if params.model.pretrained == HUB else params.model.pretrained),
    ):
        require_dependency(path, key)
    pin_arithmetic(threads=params.train.threads, instructions=params.train.instructions)
    from pocketaffect.training.fit import train_network

    train_network(
        paths.SHARDS,
        params.model,
        params.train,
        work=paths.CHECKPOINTS,
        target=paths.MODEL,
        progress=sys.stderr.isatty(),
    )


if __name__ == "__main__":
    run_stage("train", main)
