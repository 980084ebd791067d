"""Looks at every image file once, in worker processes: does it decode, and how large is it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

CHUNK: Final = 256
DVC_CACHE_FILE: Final = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")
"""Where links in the data folder may lead out of it: `cache.type = symlink` makes DVC fill the folder with them."""


@dataclass(frozen=True)
class Probe:
    """What a file turned out to be; `problem` is empty when it is a usable image."""

    width: int
    height: int
    problem: str


def describe_path_problem(path: str) -> str:
    """Why a listed path may not be opened, or an empty string.

    A path must stay below the data folder: a list from elsewhere must not make us read other files. The same
    goes for paths in Windows' spelling.
    """
    parts = path.replace("\\", "/").split("/")
    if "\x00" in path:
        return "path holds a NUL byte"
    if (parts[0] == "" and len(parts) > 1) or ".." in parts or path[1:2] == ":":
        return "path leaves the data folder"
    if parts[-1] in ("", ".", "?"):
        return "path without a file name"
    return ""


def probe_images(root: Path, paths: Sequence[str], *, workers: int) -> list[Probe]:
    """Decodes every file below `root`, in the order of `paths`, with `workers` processes.

    Paths that leave the folder are never opened; their probe carries the reason.
    """
    chunks = [list(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    probe = partial(_probe_chunk, root)
    if workers == 1 or len(chunks) <= 1:
        return [result for chunk in chunks for result in probe(chunk)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [result for results in pool.map(probe, chunks) for result in results]


def _probe_chunk(root: Path, paths: list[str]) -> list[Probe]:
    resolved = root.resolve()
    return [_probe(resolved, path) for path in paths]


def _probe(root: Path, path: str) -> Probe:
    from pocketaffect.data.images import ImageProblemError, read_image

    problem = describe_path_problem(path)
    if problem:
        return Probe(0, 0, problem)
    file = root / path
    try:
        target = Path(os.path.realpath(file))  # unlike Path.resolve, no error for links that go round in a circle
        if not target.is_relative_to(root) and not DVC_CACHE_FILE.search(target.as_posix()):
            return Probe(0, 0, "symbolic link leaves the data folder")
        height, width = read_image(file).shape[:2]
    except ImageProblemError as error:
        return Probe(0, 0, str(error))
    return Probe(width, height, "")
