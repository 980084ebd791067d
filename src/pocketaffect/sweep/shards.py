"""Shards for a trial's input size: the pipeline's own, or others that are cut once and kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.data.shards.split import SUMMARY_FILE, read_summary
from pocketaffect.data.shards.write import write_shards
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, hash_json
from pocketaffect.provenance.code import hash_code

logger = logging.getLogger(__name__)


def ensure_shards(params: Params, pipeline_size: int, root: Path = Path()) -> Path:
    """Finds the shards at `params.preprocess.image_size`; cuts them where there are none yet, one process at a time.

    `pipeline_size` is what out/shards should have, from params.yaml itself.

    Raises:
        PocketAffectError: out/shards is missing or of another size, or the faces cannot be cut.
    """
    size = params.preprocess.image_size
    if size == pipeline_size:
        shards = root / paths.SHARDS
        if (found := int(read_summary(shards)["size"])) != size:
            raise PocketAffectError(
                f"{shards}: made with other settings",
                found=f"{found} pixels a side, preprocess.image_size is {size}",
                todo="dvc repro preprocess",
            )
        return shards
    made_from = {
        "manifest": hash_file(root / paths.MANIFEST_TABLE),
        "preprocess": params.preprocess.model_dump(include={"image_size", "margin", "align", "shard_images", "colour"}),
        "sources": hash_code(write_shards.__module__),
    }
    target = root / paths.SWEEP / "shards" / f"{size}-{hash_json(made_from)[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not (target / SUMMARY_FILE).is_file():
            logger.info("cutting the faces at %d px", size)
            work = target.with_name(f"draft-{target.name}")  # another sweep may cut other faces of this size
            write_shards(root / paths.MANIFEST_TABLE, root / paths.DATA, target, work, params.preprocess)
    return target


def ensure_all_shards(wanted: Sequence[Params], pipeline_size: int, root: Path) -> None:
    """Calls `ensure_shards` for each of several sizes."""
    for params in wanted:
        ensure_shards(params, pipeline_size, root)
