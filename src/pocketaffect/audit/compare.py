"""Compares the stages that ran again with those that were recorded, and judges what differs."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

from pocketaffect import paths
from pocketaffect.audit.outcome import FileDifference, MetricDifference, StageComparison, Verdict
from pocketaffect.audit.record import Cache, LockedStage, Record, find_data
from pocketaffect.config import AuditParams

DATA_STAGE: Final = "data"
PACKAGE_BYTES: Final = "package_bytes"
ARITHMETIC_SETTINGS: Final = {
    "train.threads": "other thread count",
    "train.instructions": "other instruction set",
    "train.accelerator": "other accelerator",
}
"""Settings that change how sums are rounded and nothing else, and what a report calls such a change."""
METRICS_FILE: Final = "metrics.json"

Machine = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Again:
    """What the stages made this time."""

    stages: Mapping[str, LockedStage]
    cache: Cache
    seconds: Mapping[str, float]


def compare_stages(record: Record, again: Again, names: Sequence[str]) -> tuple[StageComparison, ...]:
    """Compares every stage of `names`, in that order, after the data they start from."""
    data, found_data = {str(paths.DATA): find_data(record.stages)}, {str(paths.DATA): find_data(again.stages)}
    compared = [_compare_outputs(record, again, DATA_STAGE, data, found_data)]
    made = {path for stage in record.stages.values() for path in stage.outputs} | {str(paths.DATA)}
    for name in names:
        recorded, found = record.stages[name], again.stages.get(name)
        stage = _compare_outputs(record, again, name, recorded.outputs, found.outputs if found else {})
        inputs = tuple(_compare_inputs(recorded, found, made)) if found else ()
        compared.append(replace(stage, inputs=inputs, seconds=again.seconds.get(name)))
    return tuple(compared)


def compare_metrics(record: Record, root: Path) -> tuple[MetricDifference, ...]:
    """Compares the version's metrics and package size beside those made again, the largest difference first."""
    theirs = _read_numbers(record.files / paths.EVALUATION.name, record.files / paths.VERIFICATION.name)
    ours = _read_numbers(root / paths.EVALUATION, root / paths.VERIFICATION)
    both = [MetricDifference(name, theirs[name], ours[name]) for name in theirs if name in ours]
    return tuple(sorted(both, key=lambda metric: (metric.name == PACKAGE_BYTES, -metric.difference, metric.name)))


def judge(
    stages: Sequence[StageComparison], metrics: Sequence[MetricDifference], machine: Machine, tolerances: AuditParams
) -> tuple[Verdict, str]:
    """Returns the verdict and its reason.

    A difference is tolerated only where all of these hold: something is known to round sums differently (another
    processor, instruction set, thread count or accelerator), nothing else differs between the inputs, all before
    training has the recorded bytes (that is arithmetic on integers, which every machine does alike), and every metric
    and the package's size stay within the tolerances.
    """
    first = next((stage for stage in stages if not stage.identical), None)
    if first is None:
        return Verdict.IDENTICAL, f"all outputs of {len(stages) - 1} stages have the recorded bytes"
    what = describe_first(first)
    reasons = [f"{text} ({was} recorded, {now} here)" for text, was, now in machine if was != now]
    others = []
    for text in dict.fromkeys(text for stage in stages for text in stage.inputs):
        title = ARITHMETIC_SETTINGS.get(text.partition(" ")[0])
        if title is None:
            others.append(text)
        else:
            reasons.append(f"{title} ({text})")
    if others:
        return Verdict.DIFFERS, f"{what}. Recorded differently: {'; '.join(others)}"
    if not reasons:
        return Verdict.DIFFERS, f"{what}. Inputs and kind of machine are as recorded"
    if _is_before_training(first, stages):
        return Verdict.DIFFERS, f"{what}. Nothing before training depends on {', '.join(reasons)}"
    beyond = [text for metric in metrics if (text := _beyond(metric, tolerances))]
    if beyond:
        return Verdict.DIFFERS, f"{what}. Beyond tolerance: {'; '.join(beyond)}"
    if not metrics:
        return Verdict.DIFFERS, f"{what}. No recorded metrics to hold against the tolerance"
    largest = metrics[0]
    return Verdict.TOLERATED, (
        f"{', '.join(reasons)}; largest difference of a metric {largest.difference:.4g} ({largest.name}), "
        f"{tolerances.metric_tolerance:g} is allowed. {what}"
    )


def describe_first(stage: StageComparison) -> str:
    """Describes the first stage that differs, its first file, and by how much, in one sentence."""
    if not stage.files:
        outputs = [path for path, recorded, found in stage.outputs if recorded != found]
        return f"first at stage {stage.stage}: {', '.join(outputs)}"
    file = stage.files[0]
    more = f" (and {len(stage.files) - 1} more files)" if len(stage.files) > 1 else ""
    return f"first at stage {stage.stage}: {file.path}: {file.detail}{more}"


def _compare_outputs(
    record: Record, again: Again, name: str, recorded: Mapping[str, str], found: Mapping[str, str]
) -> StageComparison:
    outputs = tuple(
        (path, recorded.get(path, ""), found.get(path, "")) for path in sorted(recorded.keys() | found.keys())
    )
    files = [
        difference
        for path, theirs, ours in outputs
        if theirs != ours and ours
        for difference in _compare_files(record, again, path, theirs, ours)
    ]
    return StageComparison(name, outputs, files=tuple(sorted(files, key=lambda file: file.path)))


def _compare_files(record: Record, again: Again, path: str, theirs: str, ours: str) -> Iterator[FileDifference]:
    found = again.cache.list_files(ours, path) or {}
    recorded = record.list_files(theirs, path)
    if recorded is None:
        yield FileDifference(path, "other bytes; the list of its recorded files is neither in cache nor in store")
        return
    for name in sorted(recorded.keys() | found.keys()):
        if name not in recorded:
            yield FileDifference(name, "is made now, was not recorded")
        elif recorded[name] != found.get(name):
            ours_file = again.cache.find(found[name]) if name in found else None
            yield measure_difference(name, record.find_file(recorded[name]), ours_file)


def _compare_inputs(recorded: LockedStage, found: LockedStage, made: set[str]) -> Iterator[str]:
    """Finds other sources, settings and commands; what stages hand to each other is compared as outputs."""
    if recorded.command != found.command:
        yield f"command {recorded.command!r}, now {found.command!r}"
    for name in sorted(recorded.settings.keys() | found.settings.keys()):
        one, other = recorded.settings.get(name), found.settings.get(name)
        if one != other:
            yield f"{name} {one}, now {other}"
    for path in sorted((recorded.dependencies.keys() | found.dependencies.keys()) - made):
        if recorded.dependencies.get(path) != found.dependencies.get(path):
            yield f"{path} of other content"


def _is_before_training(first: StageComparison, stages: Sequence[StageComparison]) -> bool:
    names = [stage.stage for stage in stages]
    training = [stage.stage for stage in stages if any(path == str(paths.MODEL) for path, _, _ in stage.outputs)]
    return not training or names.index(first.stage) < names.index(training[0])


def _beyond(metric: MetricDifference, tolerances: AuditParams) -> str:
    limit = tolerances.metric_tolerance
    if metric.name == PACKAGE_BYTES:
        limit = tolerances.bytes_tolerance * metric.recorded
    if metric.difference <= limit:
        return ""
    return f"{metric.name} {metric.recorded:.6g} recorded, {metric.found:.6g} now, {limit:g} is allowed"


def _read_numbers(evaluation: Path, verification: Path) -> dict[str, float]:
    """Reads the numbers of an evaluation's metrics.json, and the package's size."""
    found: dict[str, Any] = {}
    for file, only in ((evaluation / METRICS_FILE, None), (verification, PACKAGE_BYTES)):
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        found |= {name: value for name, value in content.items() if only in (None, name)}
    return {name: float(value) for name, value in found.items() if isinstance(value, float | int)}


Arrays = Mapping[str, npt.NDArray[Any]]
Measured = tuple[str, float | None]

_BLOCK: Final = 256
"""Rows compared at once: shards may be larger than memory."""


def measure_difference(path: str, recorded: Path | None, found: Path | None) -> FileDifference:
    """Describes how a file differs from what was recorded.

    None stands for recorded bytes of which no copy is left, and for a file that is not made now.
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


def _list_leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield prefix.removesuffix("."), np.array([value], dtype=object)
        return
    for name, item in items:
        yield from _list_leaves(item, f"{prefix}{name}.")


def _list_columns(table: pd.DataFrame) -> Arrays:
    return {str(name): table[name].to_numpy() for name in table.columns}


_READERS: Final[Mapping[str, Callable[[Path], Arrays]]] = {
    ".json": lambda file: dict(_list_leaves(json.loads(file.read_text(encoding="utf-8")))),
    ".csv": lambda file: _list_columns(pd.read_csv(file, dtype=object, keep_default_na=False)),
    ".safetensors": lambda file: {name: np.atleast_1d(tensor) for name, tensor in sorted(load_file(file).items())},
    ".npy": lambda file: {"": np.atleast_1d(np.load(file, mmap_mode="r", allow_pickle=False))},
    ".parquet": lambda file: _list_columns(pd.read_parquet(file)),
}
