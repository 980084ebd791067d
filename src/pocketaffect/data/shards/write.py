"""Faces to shards; goes on where a killed run stopped.

Finished shards wait in `work/<fingerprint>/`, the fingerprint being over everything that decides their bytes; another
setting has another folder and starts afresh. When all are there, the folder moves to its target whole.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pocketaffect.config import PreprocessParams
from pocketaffect.data.progress import Progress
from pocketaffect.data.shards import memory
from pocketaffect.data.shards.index import name_shard, write_index
from pocketaffect.data.shards.manifest import SIZE_COLUMNS, Manifest, join_columns
from pocketaffect.data.shards.split import INDEX_FILE, SUMMARY_FILE
from pocketaffect.data.shards.writer import SHARDS, ShardJob, ShardSettings, ShardSums, write_shard
from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.local import map_in_order
from pocketaffect.files import hash_file, hash_json, write_atomically, write_json
from pocketaffect.labels import ALL_SPLITS, BOX_COLUMNS, EYE_COLUMNS, PLACE_COLUMNS, SPLITS
from pocketaffect.provenance.code import hash_code

if TYPE_CHECKING:
    from pocketaffect.executor.interface import Executor

FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")

DECIDING_PACKAGES: Final = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "simplejpeg")


def write_shards(
    manifest_file: Path,
    source: Path,
    target: Path,
    work: Path,
    settings: PreprocessParams,
    *,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Cuts the face out of every image of the manifest and writes the shards into folder `target`.

    Bytes do not depend on `workers`, on `memory_mb`, or on how often the work was killed and begun again.

    Args:
        manifest_file: The rows to cut, `manifest.NEEDED_COLUMNS`; training rows come first, whatever its order.
        source: The data folder.
        target: A folder, replaced when all is done.
        work: A folder for finished shards until all are; what other settings left in it is removed.
        settings: The stage's section. Fewer workers run where `memory_mb` does not allow them all.
        progress: Called with the number of images of each finished shard.
        executor: Executor of the workers; this machine where none is given. On a cluster `memory_mb` is of all nodes.

    Returns:
        The summary: settings, counts, digests, the training pixels' mean and standard deviation.

    Raises:
        PocketAffectError: A split without a face, an image that cannot be read any more, too little memory or a full
            disk. Finished shards stay, and the next call goes on from them.
    """
    manifest = Manifest.open(manifest_file)
    size, workers = settings.image_size, settings.workers
    largest = _look_over(manifest, settings)
    plan = memory.plan_memory(settings.memory_mb, workers=workers, shard_images=settings.shard_images, largest=largest)
    log = logging.getLogger(__name__)
    if plan.workers < workers:
        log.warning(memory.describe_lack(settings.memory_mb, plan, workers=workers, largest=largest))
    log.info("workers: %d, each with %d MB for an image", plan.workers, plan.image_bytes // memory.MEGABYTE)
    decisive = {"size": size, **settings.model_dump(include={"margin", "align", "shard_images", "colour"})}
    place = work / _fingerprint(manifest_file, decisive)
    _remove_others(place)
    grey = settings.colour == "grey"
    cut = ShardSettings(source, place, size, settings.margin, settings.align, settings.memory_mb, plan, grey)
    parts: list[ShardSums] = []
    jobs = _plan_jobs(manifest, settings.shard_images)
    spread = map_in_order if executor is None else executor.map_in_order
    with closing(spread(partial(write_shard, cut), jobs, workers=plan.workers)) as finished:
        for part in finished:
            parts.append(part)
            if progress is not None:
                progress(part.images)
    counts = write_index(manifest, place / SHARDS / INDEX_FILE, shard_images=settings.shard_images)
    learnt = [part for part in parts if part.name.startswith("train")]
    mean, deviation = _pixel_statistics(learnt, size)
    summary: dict[str, Any] = {
        "size": size,
        "margin": settings.margin,
        "align": settings.align,
        "images": {split: count["images"] for split, count in counts.items()},
        "counts": counts,
        "sha256": {part.name: part.digest for part in parts},
        "pixel_mean": mean,
        "pixel_deviation": deviation,
    }
    if manifest.has_derived_va:
        summary["va_derived"] = True
    if settings.colour != "rgb" and all(part.grey for part in learnt):
        summary["colour"] = "grey"  # not said of others, whose summary stays what it was before there was the setting
        log.info("training faces are grey: the network will read luma")
    write_json(place / SHARDS / SUMMARY_FILE, summary)
    _move(place / SHARDS, target, {INDEX_FILE, SUMMARY_FILE, *(part.name for part in parts)})
    shutil.rmtree(place, ignore_errors=True)
    return summary


def _look_over(manifest: Manifest, settings: PreprocessParams) -> memory.LargestImage:
    """Finds the image that takes the most memory, and that both splits have images at all."""
    largest = memory.LargestImage("", 0, 0, 0)
    rows = dict.fromkeys(SPLITS, 0)
    for batch in manifest.read_batches(("split", "path", *BOX_COLUMNS, *EYE_COLUMNS, *SIZE_COLUMNS)):
        widths, heights = join_columns(batch, SIZE_COLUMNS).T
        boxes, eyes = join_columns(batch, BOX_COLUMNS), join_columns(batch, EYE_COLUMNS)
        sides = memory.find_sides(boxes, eyes, widths, heights, margin=settings.margin, align=settings.align)
        paths, splits = batch["path"].to_pylist(), batch["split"].to_pylist()
        jpeg = np.array([path.lower().endswith((".jpg", ".jpeg")) for path in paths])
        need = memory.estimate_picture_bytes(widths, heights, sides, jpeg, size=settings.image_size)
        most = int(need.argmax())
        if need[most] > largest.image_bytes:
            largest = memory.LargestImage(paths[most], int(widths[most]), int(heights[most]), int(need[most]))
        for split in SPLITS:
            rows[split] += splits.count(split)
    for split, count in rows.items():
        if not count:
            raise PocketAffectError(
                f"{split} split: no usable face",
                found=f"{manifest.file} has {sum(rows.values()):,} rows, none of this split",
                todo=f"see {manifest.file.parent / 'contract.json'} for the rules that took them",
            )
    return largest


def _fingerprint(manifest_file: Path, decisive: dict[str, Any]) -> str:
    """Names everything that decides the shards' bytes but the images, which each shard's note names."""
    packages = {name: version(name) for name in DECIDING_PACKAGES}
    named = [decisive, hash_file(manifest_file), hash_code(__name__), packages]
    return hash_json(named)[:16]


def _remove_others(place: Path) -> None:
    if place.parent.is_dir():
        for folder in place.parent.iterdir():
            if folder != place and FINGERPRINT.fullmatch(folder.name):
                shutil.rmtree(folder, ignore_errors=True)


def _plan_jobs(manifest: Manifest, shard_images: int) -> Iterator[ShardJob]:
    for split in ALL_SPLITS:
        tables = manifest.read_tables((*PLACE_COLUMNS, *BOX_COLUMNS, *EYE_COLUMNS), split=split, rows=shard_images)
        for number, rows in enumerate(tables):
            yield ShardJob(
                name_shard(split, number),
                list(zip(*(rows[name].to_pylist() for name in PLACE_COLUMNS), strict=True)),
                join_columns(rows, BOX_COLUMNS),
                join_columns(rows, EYE_COLUMNS),
                trains=split != "validation",
            )


def _move(shards: Path, target: Path, names: set[str]) -> None:
    """Puts the finished folder in its place: in one step, or by a copy where that is on another file system."""
    for entry in shards.iterdir():
        if entry.name not in names:  # an unfinished file of a process that was killed
            entry.unlink()
    with write_atomically(target) as draft:
        try:
            shards.rename(draft)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copytree(shards, draft)


def _pixel_statistics(parts: Sequence[ShardSums], size: int) -> tuple[list[float], list[float]]:
    """Computes mean and standard deviation of each channel, for pixels scaled to [0, 1]."""
    count = sum(part.images for part in parts) * size * size
    mean, deviation = [], []
    for channel in range(3):
        average = sum(part.total[channel] for part in parts) / count
        variance = sum(part.squares[channel] for part in parts) / count - average**2
        mean.append(round(average / 255, 6))
        deviation.append(round(max(variance, 0) ** 0.5 / 255, 6))
    return mean, [max(value, round(1 / 255, 6)) for value in deviation]  # a flat set must not divide by zero
