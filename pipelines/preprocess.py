"""Cuts the faces out of the images and packs them into uint8 shards."""

import logging

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """data/ and out/manifest/ to out/shards/."""
    pin_arithmetic(threads=1, instructions="avx2")
    import pandas as pd

    from pocketaffect.data.shards import write_shards

    settings = params.preprocess
    summary = write_shards(
        pd.read_parquet(paths.MANIFEST_TABLE),
        paths.DATA,
        paths.SHARDS,
        size=settings.image_size,
        margin=settings.margin,
        shard_images=settings.shard_images,
        workers=settings.workers,
    )
    logging.getLogger("preprocess").info("images %s, dropped %s", summary["images"], summary["dropped"])


if __name__ == "__main__":
    run_stage("preprocess", main)
