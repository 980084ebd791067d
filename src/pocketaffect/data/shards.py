"""uint8 shards: the faces of one split in a few memory-mapped .npy files, and one Parquet index.

A shard holds uint8 [images, size, size, 3], red first. `index.parquet` has a row for each image: `split`, `shard`
(file name), `row`, `path`, `expression` (0..7 or -1), `valence`, `arousal` (NaN for no label).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, NO_VA_CODE, NON_FACE_CODE, VALENCE_AROUSAL

if TYPE_CHECKING:
    import pandas as pd

    from pocketaffect.data.faces import FaceBox

INDEX_FILE: Final = "index.parquet"
SUMMARY_FILE: Final = "shards.json"
SPLITS: Final = ("train", "validation")


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

    def __len__(self) -> int:
        return len(self.expression)

    def gather(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Copies the images at `indices`: uint8 [n, size, size, 3]."""
        size = self.shards[0].shape[1]
        images = np.empty((len(indices), size, size, 3), dtype=np.uint8)
        shard_of = np.searchsorted(self.starts, indices, side="right") - 1
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            images[chosen] = self.shards[shard][indices[chosen] - self.starts[shard]]
        return images

    def images(self) -> npt.NDArray[np.uint8]:
        """All images of the split, in its order."""
        return self.gather(np.arange(len(self), dtype=np.int64))


@dataclass(frozen=True)
class Job:
    """What one worker turns into one shard: source files with their boxes."""

    name: str
    paths: tuple[str, ...]
    boxes: tuple[FaceBox | None, ...]


def write_shards(
    manifest: pd.DataFrame, source: Path, target: Path, *, size: int, margin: float, shard_images: int, workers: int
) -> dict[str, Any]:
    """Cuts every usable face of `manifest` out of its image and writes the shards into folder `target`.

    Rows without one of the eight expressions and without VA, and rows that show no face, teach nothing and are
    dropped; the summary counts them. Bytes do not depend on `workers`.

    Returns:
        The summary: image counts, dropped rows by reason, the training pixels' mean and standard deviation.

    Raises:
        PocketAffectError: A split without a usable face, an image that cannot be read any more, or a full disk.
    """
    rows, dropped = _choose_rows(manifest)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            raise PocketAffectError(
                f"{split} split: no usable face",
                found=f"{int((manifest['split'] == split).sum())} rows, none with a face and a label",
                todo=f"see {source} and the rules in out/manifest/contract.json",
            )
    jobs, places = _plan(rows, shard_images)
    with write_atomically(target) as draft:
        draft.mkdir()
        write = partial(_write_shard, source, draft, size, margin)
        sums = dict(zip((job.name for job in jobs), _map(write, jobs, workers), strict=True))
        index = rows[["split", "path"]].assign(
            shard=[shard for shard, _ in places],
            row=np.array([row for _, row in places], dtype=np.int64),
            expression=rows["expression"].astype("int64"),
            valence=rows["valence"].astype("float32"),
            arousal=rows["arousal"].astype("float32"),
        )
        index.to_parquet(draft / INDEX_FILE, index=False)
        mean, deviation = _pixel_statistics([sums[job.name] for job in jobs if job.name.startswith("train")], size)
        summary = {
            "size": size,
            "margin": margin,
            "images": {split: int((rows["split"] == split).sum()) for split in SPLITS},
            "dropped": dropped,
            "sha256": {name: part.digest for name, part in sums.items()},
            "pixel_mean": mean,
            "pixel_deviation": deviation,
        }
        write_json(draft / SUMMARY_FILE, summary)
    return summary


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary that `write_shards` left in `folder`."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketAffectError(f"{folder}: no shards", todo="`dvc repro preprocess`") from None
    return summary


def open_split(folder: Path, split: str) -> Split:
    """Memory-maps one split of the shards in `folder`."""
    import pandas as pd

    read_summary(folder)
    index = pd.read_parquet(folder / INDEX_FILE)
    rows = index[index["split"] == split]
    names = list(dict.fromkeys(rows["shard"]))
    shards = tuple(np.load(folder / name, mmap_mode="r") for name in names)
    starts = np.cumsum([0, *(len(shard) for shard in shards)])[:-1].astype(np.int64)
    return Split(
        shards=shards,
        starts=starts,
        paths=tuple(rows["path"]),
        expression=rows["expression"].to_numpy(dtype=np.int64),
        valence_arousal=rows[list(VALENCE_AROUSAL)].to_numpy(dtype=np.float32),
    )


def _choose_rows(manifest: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    has_va = ~((manifest["valence"] == NO_VA_CODE) & (manifest["arousal"] == NO_VA_CODE))
    is_class = manifest["expression"] < len(EXPRESSIONS)
    non_face = manifest["expression"] == NON_FACE_CODE
    unlabelled = ~non_face & ~is_class & ~has_va
    chosen = manifest.loc[~non_face & ~unlabelled].copy()
    chosen["expression"] = chosen["expression"].where(is_class, NO_EXPRESSION)
    chosen[list(VALENCE_AROUSAL)] = chosen[list(VALENCE_AROUSAL)].where(has_va)
    chosen = chosen.sort_values("split", kind="stable").reset_index(drop=True)
    return chosen, {"non_face": int(non_face.sum()), "no_label": int(unlabelled.sum())}


def _plan(rows: pd.DataFrame, shard_images: int) -> tuple[list[Job], list[tuple[str, int]]]:
    """The jobs, and for each row its (shard, row in shard)."""
    from pocketaffect.data.faces import FaceBox
    from pocketaffect.data.layouts import BOX_COLUMNS

    jobs: list[Job] = []
    places: list[tuple[str, int]] = []
    for split, part in rows.groupby("split", sort=True):
        paths = [str(path) for path in part["path"]]
        boxes = [None if np.isnan(box).any() else FaceBox(*box) for box in part[list(BOX_COLUMNS)].to_numpy(float)]
        for number, start in enumerate(range(0, len(paths), shard_images)):
            job = Job(
                f"{split}-{number:05d}.npy",
                tuple(paths[start : start + shard_images]),
                tuple(boxes[start : start + shard_images]),
            )
            jobs.append(job)
            places += [(job.name, row) for row in range(len(job.paths))]
    return jobs, places


def _map(write: partial[PixelSums], jobs: Sequence[Job], workers: int) -> Iterable[PixelSums]:
    if workers == 1 or len(jobs) == 1:
        yield from map(write, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _settle_worker) as pool:
        yield from pool.map(write, jobs)


def _settle_worker() -> None:
    import cv2

    cv2.setNumThreads(1)  # there is a worker for each core


@dataclass(frozen=True)
class PixelSums:
    """Whole-number sums over one shard, so that statistics do not depend on the order of addition; its digest."""

    digest: str
    images: int
    total: tuple[int, int, int]
    squares: tuple[int, int, int]


def _write_shard(source: Path, target: Path, size: int, margin: float, job: Job) -> PixelSums:
    from pocketaffect.data.faces import crop_face
    from pocketaffect.data.images import ImageProblemError, read_image

    faces = np.empty((len(job.paths), size, size, 3), dtype=np.uint8)
    for row, (path, box) in enumerate(zip(job.paths, job.boxes, strict=True)):
        try:
            faces[row] = crop_face(read_image(source / path), box, margin=margin, size=size)
        except ImageProblemError as error:
            raise PocketAffectError(
                f"{source / path}: {error}", todo="the data changed after validation; repeat `dvc repro`"
            ) from None
    with write_atomically(target / job.name) as draft, draft.open("wb") as stream:
        # Not numpy's write_array: on a full disk its error does not say so.
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(faces))
        stream.write(faces.data)
    total, squares = [0, 0, 0], [0, 0, 0]
    for face in faces:
        wide = face.reshape(-1, 3).astype(np.int64)
        for channel in range(3):
            total[channel] += int(wide[:, channel].sum())
            squares[channel] += int((wide[:, channel] ** 2).sum())
    digest = hashlib.sha256(faces.data).hexdigest()
    return PixelSums(digest, len(faces), (total[0], total[1], total[2]), (squares[0], squares[1], squares[2]))


def _pixel_statistics(sums: Sequence[PixelSums], size: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for pixels scaled to [0, 1]."""
    count = sum(part.images for part in sums) * size * size
    mean, deviation = [], []
    for channel in range(3):
        average = sum(part.total[channel] for part in sums) / count
        variance = sum(part.squares[channel] for part in sums) / count - average**2
        mean.append(round(average / 255, 6))
        deviation.append(round(max(variance**0.5 / 255, 1 / 255), 6))  # a flat set must not divide by zero
    return mean, deviation
