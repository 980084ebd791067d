"""Cuts the faces out of the images and packs them into uint8 shards."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.stage import run_stage

if TYPE_CHECKING:
    from pocketaffect.config import Params  # worker processes import this file, too, and pydantic is half their start


def main(params: Params) -> None:
    """data/ and out/manifest/ to out/shards/, and a contact sheet of each class to reports/faces/."""
    from pocketaffect.data.progress import show_progress
    from pocketaffect.data.report.sheets import write_contact_sheets
    from pocketaffect.data.shards.manifest import Manifest
    from pocketaffect.data.shards.write import write_shards
    from pocketaffect.executor.interface import find_executor

    settings = params.preprocess
    executor = find_executor(settings.executor)
    executor.require_shared_folder("preprocess")
    with show_progress("faces", len(Manifest.open(paths.MANIFEST_TABLE))) as progress:
        summary = write_shards(
            paths.MANIFEST_TABLE,
            paths.DATA,
            paths.SHARDS,
            paths.SHARD_DRAFTS,
            settings,
            progress=progress,
            executor=executor,
        )
    write_contact_sheets(paths.SHARDS, paths.FACES_REPORT)
    logging.getLogger("preprocess").info("faces %s", summary["images"])


if __name__ == "__main__":
    run_stage("preprocess", main)
