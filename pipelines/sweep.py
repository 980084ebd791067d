"""Searches for the best network under the byte budget; not part of `dvc repro` (see pipelines/sweep/dvc.yaml)."""

from pathlib import Path

import own_sources  # noqa: F401

from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import require_networks, run_stage


def main(params: Params) -> None:
    """data/, out/manifest/ and out/shards/ to reports/sweep/: the trials, their front, the measured winner."""
    require_networks(params, Path("pipelines/sweep/dvc.yaml"), searched=True)
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.sweep.run import run_sweep

    run_sweep(params)


if __name__ == "__main__":
    run_stage("sweep", main)
