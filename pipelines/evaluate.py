"""Judges the trained network on the validation split, beside its floor rows."""

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """out/model/ and out/shards/ to out/evaluation/: metrics, tables for plots, predictions, a report."""
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.evaluation.judge import judge_network

    judge_network(params.evaluate, params.train.select, model=paths.MODEL, shards=paths.SHARDS, target=paths.EVALUATION)


if __name__ == "__main__":
    run_stage("evaluate", main)
