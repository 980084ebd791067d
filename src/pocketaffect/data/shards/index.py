"""The index of the shards: labels and origin of every face, written a block of rows at a time, and counted."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pocketaffect import labels
from pocketaffect.data.shards.manifest import LABEL_COLUMNS, SIZE_COLUMNS, Manifest, join_columns
from pocketaffect.files import write_atomically

INDEX_COLUMNS: Final = (
    "split",
    "shard",
    "row",
    "path",
    "list",
    "expression",
    *labels.VALENCE_AROUSAL,
    *labels.SOFT_COLUMNS,
    "warnings",
    "image_side",
)
"""`shard` is a file's name, `row` the image's place in it; `expression` 0..7 or -1; valence, arousal and soft labels
NaN where there are none; `warnings` the names of the contract's warnings, comma-joined; `image_side` the shorter side
of the face box (without one: of the image) in pixels of the source."""

BLOCK_ROWS: Final = 16_384


def name_shard(split: str, number: int) -> str:
    """Names the file of a split's shard, from 0 on."""
    return f"{split}-{number:05d}.npy"


def write_index(manifest: Manifest, file: Path, *, shard_images: int) -> dict[str, dict[str, int]]:
    """Writes INDEX_COLUMNS of all rows, training first.

    Returns:
        Of each split how many images there are, of each expression ("none": without one), and with valence and
        arousal, soft label, face box, eyes and warnings.
    """
    columns = ("path", "list", *LABEL_COLUMNS, "warnings", *labels.BOX_COLUMNS, *labels.EYE_COLUMNS, *SIZE_COLUMNS)
    counts = {split: Counter[str]() for split in labels.ALL_SPLITS}
    with write_atomically(file) as draft, draft.open("wb") as stream:
        writer: Any = None
        for split in labels.ALL_SPLITS:
            start = 0
            for rows in manifest.read_tables(columns, split=split, rows=BLOCK_ROWS):
                block = _index_block(rows, split, start, shard_images)
                writer = writer or pq.ParquetWriter(stream, block.schema)
                writer.write_table(block)
                start += len(block)
                counts[split].update(_count(rows))
        if writer is not None:
            writer.close()
    names = ["images", *labels.EXPRESSIONS, "none", "valence_arousal", "soft", "box", "eyes", "warnings"]
    there = [split for split in labels.ALL_SPLITS if split in labels.SPLITS or counts[split]]
    return {split: {name: counts[split][name] for name in names} for split in there}


def _index_block(rows: pa.Table, split: str, start: int, shard_images: int) -> pa.Table:
    places = start + np.arange(len(rows), dtype=np.int64)
    sides = np.fmin.reduce(join_columns(rows, labels.BOX_COLUMNS)[:, 2:], axis=1)
    whole = join_columns(rows, SIZE_COLUMNS).min(axis=1)
    content = {
        "split": pa.repeat(split, len(rows)),
        "shard": pa.array([name_shard(split, number) for number in (places // shard_images).tolist()], pa.string()),
        "row": places % shard_images,
        "path": rows["path"].cast(pa.string()),
        "list": rows["list"].cast(pa.string()),
        "expression": rows["expression"].cast(pa.int64()),
        **{name: rows[name].cast(pa.float32()) for name in (*labels.VALENCE_AROUSAL, *labels.SOFT_COLUMNS)},
        "warnings": rows["warnings"].cast(pa.string()),
        "image_side": np.round(np.where(np.isnan(sides), whole, sides)).astype(np.int32),
    }
    return pa.table({name: content[name] for name in INDEX_COLUMNS})


def _count(rows: pa.Table) -> dict[str, int]:
    expression = rows["expression"].to_numpy()
    by_class = {name: int((expression == code).sum()) for code, name in enumerate(labels.EXPRESSIONS)}

    def given(names: tuple[str, ...]) -> int:
        return int((~np.isnan(join_columns(rows, names)).any(axis=1)).sum())

    return {
        "images": len(rows),
        **by_class,
        "none": int((expression == labels.NO_EXPRESSION).sum()),
        "valence_arousal": given(labels.VALENCE_AROUSAL),
        "soft": given(labels.SOFT_COLUMNS),
        "box": given(labels.BOX_COLUMNS),
        "eyes": given(labels.EYE_COLUMNS),
        "warnings": sum(1 for text in rows["warnings"].to_pylist() if text),
    }
