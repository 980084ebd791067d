"""What differs between two files that should be the same, and by how much at most."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.audit.verdict import FileDifference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Measured = tuple[str, float | None]


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
    try:
        detail, largest = _MEASURES.get(Path(path).suffix, _compare_bytes)(recorded, found)
    except (ValueError, OSError, KeyError):  # not what its name says: then bytes are all there is to compare
        detail, largest = _compare_bytes(recorded, found)
    return FileDifference(path, detail, largest)


def _compare_bytes(recorded: Path, found: Path) -> Measured:
    ours, theirs = found.read_bytes(), recorded.read_bytes()
    if len(ours) != len(theirs):
        return f"{len(theirs):,} bytes recorded, {len(ours):,} now", None
    places = [place for place, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
    return f"{len(places):,} of {len(ours):,} bytes differ, the first at {places[0]:,}" if places else "equal", None


def _compare_json(recorded: Path, found: Path) -> Measured:
    theirs = dict(_leaves(json.loads(recorded.read_text(encoding="utf-8"))))
    ours = dict(_leaves(json.loads(found.read_text(encoding="utf-8"))))
    return _compare_leaves(theirs, ours)


def _compare_csv(recorded: Path, found: Path) -> Measured:
    theirs, ours = _read_csv(recorded), _read_csv(found)
    if len(theirs) != len(ours):
        return f"{len(theirs) - 1:,} rows recorded, {len(ours) - 1:,} now", None
    lines = [line for line, (one, other) in enumerate(zip(theirs, ours, strict=True), start=1) if one != other]
    if not lines:
        return _compare_bytes(recorded, found)
    first = lines[0] - 1
    detail, _ = _compare_leaves(_named(theirs[0], theirs[first]), _named(theirs[0], ours[first]))
    largest = max((_largest_number(theirs[line - 1], ours[line - 1]) for line in lines), default=None)
    return f"{len(lines):,} rows differ, the first at line {lines[0]:,}: {detail}", largest


def _compare_tensors(recorded: Path, found: Path) -> Measured:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return _compare_arrays(load_file(recorded), load_file(found), "tensor")
    except SafetensorError as error:
        raise ValueError(error) from None


def _compare_npy(recorded: Path, found: Path) -> Measured:
    import numpy as np

    theirs, ours = (np.load(file, mmap_mode="r", allow_pickle=False) for file in (recorded, found))
    if theirs.shape != ours.shape:
        return f"shape {theirs.shape} recorded, {ours.shape} now", None
    worst, rows = 0.0, 0
    for start in range(0, len(theirs), 256):  # shards may be larger than memory
        gap = np.abs(theirs[start : start + 256].astype(np.float64) - ours[start : start + 256])
        worst = max(worst, float(gap.max(initial=0.0)))
        rows += int(np.count_nonzero(gap.reshape(len(gap), -1).any(axis=1)))
    return f"{rows:,} of {len(theirs):,} rows differ, by at most {worst:g}", worst


def _compare_parquet(recorded: Path, found: Path) -> Measured:
    import pandas as pd

    theirs, ours = pd.read_parquet(recorded), pd.read_parquet(found)
    if list(theirs.columns) != list(ours.columns) or len(theirs) != len(ours):
        return f"{theirs.shape[0]:,} rows x {theirs.shape[1]} recorded, {ours.shape[0]:,} x {ours.shape[1]} now", None
    worst, changed = None, []
    for column in theirs.columns:
        one, other = theirs[column], ours[column]
        differing = ~((one == other) | (one.isna() & other.isna()))
        if not differing.any():
            continue
        changed.append(f"{column} ({int(differing.sum()):,} rows, first {int(differing.to_numpy().argmax()):,})")
        if pd.api.types.is_float_dtype(one) and pd.api.types.is_float_dtype(other):
            gap = float((one.astype("float64") - other.astype("float64")).abs().max())
            worst = gap if worst is None else max(worst, gap)
    by = "" if worst is None else f", by at most {worst:.3g}"
    return (f"columns {', '.join(changed)}{by}" if changed else "equal values, other bytes"), worst


def _compare_arrays(
    theirs: Mapping[str, npt.NDArray[np.floating]], ours: Mapping[str, npt.NDArray[np.floating]], what: str
) -> Measured:
    import numpy as np

    if {name: array.shape for name, array in theirs.items()} != {name: array.shape for name, array in ours.items()}:
        return f"other {what}s: {len(theirs)} recorded, {len(ours)} now, or of other shapes", None
    gaps = {
        name: float(np.abs(array.astype(np.float64) - ours[name].astype(np.float64)).max(initial=0.0))
        for name, array in theirs.items()
    }
    differing = [name for name, gap in gaps.items() if gap != 0.0]
    if not differing:
        return f"equal {what}s, other bytes", None
    worst = max(gaps, key=lambda name: gaps[name])
    return f"{len(differing)} of {len(gaps)} {what}s differ, by at most {gaps[worst]:.3g} ({worst})", gaps[worst]


def _compare_leaves(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Measured:
    absent = sorted(theirs.keys() ^ ours.keys())
    if absent:
        return f"{absent[0]} is only in {'what was recorded' if absent[0] in theirs else 'what is made now'}", None
    differing = [name for name in theirs if theirs[name] != ours[name]]
    if not differing:
        return "equal values, other bytes", None
    gaps = {name: gap for name in differing if (gap := _gap(theirs[name], ours[name])) is not None}
    name = max(gaps, key=lambda key: gaps[key]) if gaps else differing[0]
    return f"{name}: {theirs[name]!r} recorded, {ours[name]!r} now", gaps.get(name)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{prefix}{name}.")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{prefix}{place}.")
    else:
        yield prefix.removesuffix("."), value


def _gap(one: Any, other: Any) -> float | None:
    try:
        gap = abs(float(one) - float(other))
    except (TypeError, ValueError):
        return None
    return gap if math.isfinite(gap) else None


def _largest_number(one: list[str], other: list[str]) -> float:
    gaps = (_gap(left, right) for left, right in zip(one, other, strict=False))
    return max((gap for gap in gaps if gap is not None), default=0.0)


def _read_csv(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def _named(names: list[str], row: list[str]) -> dict[str, str]:
    known = dict(enumerate(names))
    return {known.get(place, str(place)): value for place, value in enumerate(row)}


_MEASURES: Final[dict[str, Callable[[Path, Path], Measured]]] = {
    ".json": _compare_json,
    ".csv": _compare_csv,
    ".safetensors": _compare_tensors,
    ".npy": _compare_npy,
    ".parquet": _compare_parquet,
}
