"""What differs between two files that should be the same, and by how much at most."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pocketaffect.audit.outcome import FileDifference

Arrays = Mapping[str, npt.NDArray[Any]]
Measured = tuple[str, float | None]

_BLOCK: Final = 256
"""Rows compared at once: shards may be larger than memory."""


def measure_difference(path: str, recorded: Path | None, found: Path | None) -> FileDifference:
    """Describes how a file differs from what was recorded.

    Args:
        path: Its name in the report.
        recorded: The recorded bytes; None where no copy of them is left.
        found: The file now; None where there is none.
    """
    if found is None:
        return FileDifference(path, "was recorded, is not made now")
    if recorded is None:
        return FileDifference(path, "other bytes; no copy of the recorded ones is left to measure against")
    read = _READERS.get(Path(path).suffix)
    try:
        if read is not None:
            return FileDifference(path, *_compare(read(recorded), read(found)))
    except Exception:  # noqa: S110  each reader has errors of its own for what is not what its name says
        pass
    return FileDifference(path, *_compare_bytes(recorded, found))


def _compare(theirs: Arrays, ours: Arrays) -> Measured:
    """Counts the values that differ, names the first, and finds the largest difference of numbers."""
    absent = sorted(theirs.keys() ^ ours.keys())
    if absent:
        return f"{absent[0]} is only in {'what was recorded' if absent[0] in theirs else 'what is made now'}", None
    first, count, total, gaps = "", 0, 0, dict[str, float]()
    for name, one in theirs.items():
        if one.shape != ours[name].shape:
            return f"{name + ': ' if name else ''}shape {one.shape} recorded, {ours[name].shape} now", None
        total += one.size
        for start in range(0, len(one), _BLOCK):
            a, b = one[start : start + _BLOCK], ours[name][start : start + _BLOCK]
            unequal = np.asarray((a != b) & ((a == a) | (b == b)))  # NaN is as good as NaN
            if not unequal.any():
                continue
            count += int(unequal.sum())
            place = np.argwhere(unequal)[0]
            where = ", ".join(str(index) for index in [start + place[0], *place[1:]]) if one.size > 1 else ""
            first = first or f"{name}{f'[{where}]' if where else ''}: {a[tuple(place)]} recorded, {b[tuple(place)]} now"
            gaps[name] = max([gaps.get(name, 0.0), *_gaps(a[unequal], b[unequal])])
    if not count:
        return "equal values, other bytes", None
    worst = max(gaps, key=lambda name: gaps[name])
    if not gaps[worst]:
        return f"{count:,} of {total:,} values differ, first {first}", None
    at_most = f"by at most {gaps[worst]:.3g}{f' ({worst})' if len(gaps) > 1 else ''}"
    return f"{count:,} of {total:,} values differ, {at_most}, first {first}", gaps[worst]


def _gaps(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Iterator[float]:
    if one.dtype.kind in "fiub" and other.dtype.kind in "fiub":
        yield float(np.nan_to_num(np.abs(one.astype(np.float64) - other), posinf=0.0).max())
        return
    for left, right in zip(one, other, strict=True):
        try:
            gap = abs(float(left) - float(right))
        except (TypeError, ValueError):
            continue
        if math.isfinite(gap):
            yield gap


def _compare_bytes(recorded: Path, found: Path) -> Measured:
    theirs, ours = recorded.read_bytes(), found.read_bytes()
    if len(ours) != len(theirs):
        return f"{len(theirs):,} bytes recorded, {len(ours):,} now", None
    places = [place for place, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
    return f"{len(places):,} of {len(ours):,} bytes differ, the first at {places[0]:,}" if places else "equal", None


def _read_json(file: Path) -> Arrays:
    leaves = _leaves(json.loads(file.read_text(encoding="utf-8")))
    return {name: np.array([value], dtype=object) for name, value in leaves}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield prefix.removesuffix("."), value
        return
    for name, item in items:
        yield from _leaves(item, f"{prefix}{name}.")


def _read_csv(file: Path) -> Arrays:
    import pandas as pd

    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return {str(name): table[name].to_numpy(dtype=object) for name in table.columns}


def _read_parquet(file: Path) -> Arrays:
    import pandas as pd

    table = pd.read_parquet(file)
    return {str(name): table[name].to_numpy() for name in table.columns}


def _read_tensors(file: Path) -> Arrays:
    from safetensors.numpy import load_file

    return {name: np.atleast_1d(tensor) for name, tensor in sorted(load_file(file).items())}


def _read_npy(file: Path) -> Arrays:
    return {"": np.atleast_1d(np.load(file, mmap_mode="r", allow_pickle=False))}


_READERS: Final[Mapping[str, Callable[[Path], Arrays]]] = {
    ".json": _read_json,
    ".csv": _read_csv,
    ".safetensors": _read_tensors,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
