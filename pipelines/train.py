"""Trains the network; a killed run goes on from its last finished epoch."""

import sys

from pocketaffect.config import Params
from pocketaffect.models.catalogue import HUB
from pocketaffect.stage import require_dependency, run_stage
from pocketaffect.training.launch import launch_training


def main(params: Params) -> None:
    """out/shards/ to out/model/: weights, architecture, history."""
    for key, path in (
        ("train.start_from", params.train.start_from),
        ("train.distill.teacher", params.train.distill.teacher),
        ("model.pretrained", None if params.model.pretrained == HUB else params.model.pretrained),
    ):
        require_dependency(path, key)
    launch_training(params, progress=sys.stderr.isatty())


if __name__ == "__main__":
    run_stage("train", main)
