"""uint8 shards: the faces of one split in a few memory-mapped .npy files, and one Parquet index.

A shard holds uint8 [images, size, size, 3], red first. `index.parquet` has a row for each image
(`index.INDEX_COLUMNS`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import CHOOSING, SOFT_COLUMNS, VALENCE_AROUSAL

INDEX_FILE: Final = "index.parquet"
SUMMARY_FILE: Final = "shards.json"


class Part(NamedTuple):
    """A part of a split's images, drawn by a seed: of two parts of one seed the larger holds the smaller."""

    images: int
    seed: int


@dataclass(frozen=True)
class Split:
    """One split's faces and labels, the images memory-mapped."""

    shards: tuple[npt.NDArray[np.uint8], ...]
    starts: npt.NDArray[np.int64]
    paths: tuple[str, ...]
    expression: npt.NDArray[np.int64]
    """[images], 0..7 or NO_EXPRESSION."""
    valence_arousal: npt.NDArray[np.float32]
    """[images, 2], NaN where there is no label."""
    soft: npt.NDArray[np.float32] | None = None
    """[images, 8], shares of votes over EXPRESSIONS, rows of NaN where there are none; None: nowhere any."""
    places: npt.NDArray[np.int64] | None = None
    """[images], where each lies among all images of the shards; None: in order."""

    def __len__(self) -> int:
        return len(self.expression)

    def gather(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Copies the images at `indices`: uint8 [n, size, size, 3]."""
        indices = indices if self.places is None else self.places[indices]
        size = self.shards[0].shape[1]
        images = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        shard_of = np.searchsorted(self.starts, indices, side="right") - 1
        # One by one: of hundreds of shards, a batch has about one image each.
        places = zip(shard_of.tolist(), (indices - self.starts[shard_of]).tolist(), strict=True)
        for position, (shard, row) in enumerate(places):
            images[position] = self.shards[shard][row]
        return images

    def take(self, part: Part) -> Self:
        """Takes a part of the images, in their order."""
        drawn = np.random.default_rng(part.seed).permutation(len(self))[: part.images]
        chosen = np.sort(drawn).astype(np.int64)
        return replace(
            self,
            places=chosen if self.places is None else self.places[chosen],
            paths=tuple(self.paths[place] for place in chosen),
            expression=self.expression[chosen],
            valence_arousal=self.valence_arousal[chosen],
            soft=None if self.soft is None else self.soft[chosen],
        )

    def images(self) -> npt.NDArray[np.uint8]:
        """Gives all images of the split, in its order."""
        return self.gather(np.arange(len(self), dtype=np.int64))


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads the summary that `write_shards` left in `folder`."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketAffectError(f"{folder}: no shards", todo="`dvc repro preprocess`") from None
    return summary


def open_split(folder: Path, split: str) -> Split:
    """Memory-maps one split of the shards in `folder`."""
    read_summary(folder)
    known = set(pq.read_schema(folder / INDEX_FILE).names)
    columns = [name for name in ("shard", "path", "expression", *VALENCE_AROUSAL, *SOFT_COLUMNS) if name in known]
    rows = pq.read_table(folder / INDEX_FILE, columns=columns, filters=[("split", "==", split)])
    shards = tuple(_map_shard(folder / name) for name in dict.fromkeys(rows["shard"].to_pylist()))
    starts = np.cumsum([0, *(len(shard) for shard in shards)])[:-1].astype(np.int64)
    soft = _join_columns(rows, SOFT_COLUMNS) if known.issuperset(SOFT_COLUMNS) else None
    return Split(
        shards=shards,
        starts=starts,
        paths=tuple(rows["path"].to_pylist()),
        expression=rows["expression"].to_numpy().astype(np.int64),
        valence_arousal=_join_columns(rows, VALENCE_AROUSAL),
        soft=None if soft is None or np.isnan(soft).all() else soft,
    )


def open_choosing(folder: Path) -> Split:
    """Memory-maps the images that choose (epoch, temperature, trials): those set apart, else the validation split."""
    return open_split(folder, CHOOSING if CHOOSING in read_summary(folder)["images"] else "validation")


def _join_columns(rows: Any, names: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.stack([rows[name].to_numpy().astype(np.float32) for name in names], axis=1)


def _map_shard(file: Path) -> npt.NDArray[np.uint8]:
    """Maps the pixels of one shard, read-only, paged in as they are used.

    numpy's own memory map keeps its file open, and the shards of a million images are more files than a process may
    have open on many systems.
    """
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        start = stream.tell()
    with pa.memory_map(str(file)) as mapped:
        return np.frombuffer(mapped.read_buffer(), dtype=dtype, offset=start).reshape(shape)
