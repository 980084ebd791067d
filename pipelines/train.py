"""Trains the network; a killed run goes on from its last finished epoch."""

import sys

import own_sources  # noqa: F401

from pocketaffect.config import Params
from pocketaffect.stage import require_networks, run_stage
from pocketaffect.training.launch import launch_training


def main(params: Params) -> None:
    """out/shards/ to out/model/: weights, architecture, history."""
    require_networks(params)
    launch_training(params, progress=sys.stderr.isatty())


if __name__ == "__main__":
    run_stage("train", main)
