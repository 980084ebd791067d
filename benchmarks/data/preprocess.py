"""Faces out of JPEGs of AffectNet's size: ours, the paper's own way, and decoding alone, in one run.

    .venv/bin/python benchmarks/data/preprocess.py [--images 300] [--size 128] [--rounds 5] [--box 0.77]
        [--quality 90] [--photographs PATH]

draws the images into a scratch folder (or takes the JPEGs below PATH), then in turns, several times:

- ours: `write_shards`, the stage's own function, with one worker: read, decode as far as the face needs, cut,
  resize, digest, statistics, write; and the index
- the paper's: cv2.imread, slice by the box, cv2.resize, cv2.imwrite (as JPEG)
- decoding alone: simplejpeg's full decode of the same files, the limit of any way that decodes them whole; and their
  decode at the size that ours chooses, without and with the cut: what is left to the rest of ours

Images per CPU second (user and system time, of this process), the median of the rounds; and the wall time of
`write_shards`, and of decoding alone, with two processes beside one.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import simplejpeg

PARTS = 40
"""Jobs for the processes."""

if TYPE_CHECKING:
    from affectnet_like import Folder

# Worker processes import this file. What they do not need is imported where it is used, as in the stage's own script.


def main() -> None:
    """Prints the table."""
    from affectnet_like import describe_machine, make_folder

    from pocketaffect.config import PreprocessParams
    from pocketaffect.data.shards.write import write_shards

    arguments = _parse()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-benchmark-") as scratch:
        root = Path(scratch)
        if arguments.photographs is None:
            folder = make_folder(root, arguments.images, box_share=arguments.box, quality=arguments.quality)
        else:
            folder = take_photographs(root, arguments.photographs, arguments.images, arguments.box)
        folder = repeat_rows(folder, arguments.repeat)
        count = len(folder.paths)
        kilobytes = np.mean([(folder.source / path).stat().st_size for path in folder.paths]) / 1000
        density = 1000 * kilobytes / folder.sizes.prod(axis=1).mean()
        print(f"{describe_machine()}")
        print(
            f"{count // arguments.repeat} images, {folder.sizes.mean():.0f} px a side, {kilobytes:.0f} kB "
            f"({density:.2f} bytes a pixel), boxes of {folder.boxes[:, 2].mean():.0f} px to {arguments.size} px; "
            f"{count} rows\n"
        )

        def ours(workers: int = 1, shard_images: int = 2048) -> None:
            write_shards(
                folder.manifest,
                folder.source,
                root / "out",
                root / "work",
                PreprocessParams(
                    image_size=arguments.size,
                    margin=0.0,
                    align="none",
                    workers=workers,
                    executor="local",
                    shard_images=shard_images,
                    memory_mb=4096,
                ),
            )

        ways: dict[str, Callable[[], None]] = {
            "ours": ours,
            "paper": lambda: crop_by_opencv(folder, root / "crops", arguments.size),
            "decode": lambda: decode_files([str(folder.source / path) for path in folder.paths]),
            "least": lambda: decode_as_needed(folder, arguments.size),
            "cut": lambda: cut_faces(folder, arguments.size),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds + 1):  # the first one warms up
            for name, way in ways.items():
                rates[name].append(count / measure(time.process_time, way))
        median = {name: statistics.median(values[1:]) for name, values in rates.items()}
        limit = median["decode"]
        print("| images per CPU second | median | all rounds | of pure decoding | beside the paper's way |")
        print("|---|---|---|---|---|")
        for name, title in (
            ("ours", "write_shards"),
            ("paper", "imread, slice, resize, imwrite"),
            ("decode", "decode"),
            ("least", "decode at the size that ours chooses"),
            ("cut", "… and cut, averaging over areas"),
        ):
            rounds = " ".join(f"{value:.0f}" for value in rates[name][1:])
            beside = f"{median[name] / median['paper']:.2f}"
            print(f"| {title} | {median[name]:.0f} | {rounds} | {median[name] / limit:.0%} | {beside} |")
        part = -(-count // PARTS)
        doubled: dict[str, Callable[[int], None]] = {
            "write_shards": lambda workers: ours(workers, part),
            "decode": lambda workers: decode_in_processes(folder, part, workers),
        }
        walls: dict[tuple[str, int], list[float]] = {(name, workers): [] for name in doubled for workers in (1, 2)}
        for _ in range(3):
            for (name, workers), found in walls.items():
                found.append(measure(time.perf_counter, lambda: doubled[name](workers)))  # noqa: B023
        print(f"\n| wall seconds, {count} images | 1 process | 2, their start included | times as fast |")
        print("|---|---|---|---|")
        for name in doubled:
            one, two = (statistics.median(walls[name, workers]) for workers in (1, 2))
            print(f"| {name} | {one:.1f} | {two:.1f} | {one / two:.2f} |")
        print(f"\nload at the end: {os.getloadavg()[0]:.1f}")


def measure(clock: Callable[[], float], work: Callable[[], None]) -> float:
    """Seconds of `clock` that `work` takes."""
    start = clock()
    work()
    return clock() - start


def crop_by_opencv(folder: Folder, target: Path, size: int) -> None:
    """As Hewitt and Gunes (2018) prepared AffectNet: the box, resized, as a JPEG file."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for number, (path, box) in enumerate(zip(folder.paths, folder.boxes.astype(int).tolist(), strict=True)):
        x, y, width, height = box
        image = cv2.imread(str(folder.source / path))
        face = image[y : y + height, x : x + width]
        cv2.imwrite(str(target / f"{number}.jpg"), cv2.resize(face, (size, size)))


def decode_in_processes(folder: Folder, part: int, workers: int) -> None:
    """The same by the stage's own pool of processes: what this machine gains by a second one."""
    from pocketaffect.executor.local import map_in_order

    files = [str(folder.source / path) for path in folder.paths]
    parts = [files[start : start + part] for start in range(0, len(files), part)]
    for _ in map_in_order(decode_files, parts, workers=workers):
        pass


def decode_files(files: list[str]) -> None:
    """The floor of reading whole pictures: nothing is done with them."""
    for file in files:
        simplejpeg.decode_jpeg(Path(file).read_bytes(), colorspace="RGB")


def decode_as_needed(folder: Folder, size: int) -> None:
    """The floor of ours: the same decoder at the same sizes, and nothing done with the pictures."""
    from pocketaffect.data.faces.crop import LEAST_DETAIL
    from pocketaffect.data.faces.images import decode_image

    least = math.ceil(LEAST_DETAIL * size)
    for path, box in zip(folder.paths, folder.boxes.tolist(), strict=True):
        decode_image((folder.source / path).read_bytes(), least_side=least, face_side=max(box[2:]))


def cut_faces(folder: Folder, size: int) -> None:
    """The same, and the faces cut out of them."""
    from pocketaffect.data.faces.crop import FaceBox, decode_face

    for path, box in zip(folder.paths, folder.boxes.tolist(), strict=True):
        decode_face((folder.source / path).read_bytes(), FaceBox(*box), margin=0.0, size=size)


def take_photographs(root: Path, source: Path, count: int, box_share: float) -> Folder:
    """JPEGs from a folder of photographs, with a box in their middle."""
    from affectnet_like import Folder

    paths = sorted(str(file.relative_to(source)) for file in source.rglob("*.jp*g"))[:count]
    sizes = np.array([cv2.imread(str(source / path)).shape[1::-1] for path in paths])
    sides = np.round(box_share * sizes.min(axis=1, keepdims=True)).repeat(2, axis=1)
    return Folder(
        source, root / "manifest.parquet", paths, np.hstack([(sizes - sides) // 2, sides]).astype(float), sizes
    )


def repeat_rows(folder: Folder, times: int) -> Folder:
    """Each image in so many rows."""
    from affectnet_like import Folder, write_manifest

    boxes, sizes = (np.tile(values, (times, 1)) for values in (folder.boxes, folder.sizes))
    repeated = Folder(folder.source, folder.manifest, folder.paths * times, boxes, sizes)
    write_manifest(repeated)
    return repeated


def _parse() -> argparse.Namespace:
    from affectnet_like import BOX_SHARE, QUALITY

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="pixels a side of the result (the paper's: 128)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--box", type=float, default=BOX_SHARE, help="side of the face box, of the image's shorter one")
    parser.add_argument("--quality", type=int, default=QUALITY, help="of the drawn JPEGs")
    parser.add_argument(
        "--repeat", type=int, default=8, help="rows for each image: fewer rows show a run's fixed costs"
    )
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs instead of drawn ones")
    return parser.parse_args()


if __name__ == "__main__":
    main()
