"""How good the answers of a shipped file are, and to which faces it gave them: kept with its version.

With its answers two versions are compared years later, face by face, without executing either again.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pocketaffect.data.shards.split import open_split, read_summary
from pocketaffect.evaluation.intervals import Interval, bootstrap_metrics, wilson_interval
from pocketaffect.evaluation.metrics import measure
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.slices import class_rows

_NAMES: Final = {"expected_calibration_error": "ece"}
"""Names that the registry has for metrics."""


def hash_validation(shards: Path) -> str:
    """Computes the SHA-256 of the validation split: its pixels (by their files' hashes), names and labels, in order."""
    summary, split = read_summary(shards), open_split(shards, "validation")
    pixels = {name: digest for name, digest in summary["sha256"].items() if name.startswith("validation")}
    digest = hashlib.sha256(json.dumps(pixels, sort_keys=True).encode())
    digest.update("\0".join(split.paths).encode())
    digest.update(np.ascontiguousarray(split.expression).tobytes())
    digest.update(np.ascontiguousarray(split.valence_arousal).tobytes())
    return digest.hexdigest()


def measure_predictions(table: PredictionTable, *, resamples: int, seed: int) -> dict[str, Interval]:
    """Measures every metric that the labels allow, with its 95 % interval; `ece` without one."""
    intervals = bootstrap_metrics(table.predictions, table.labels, resamples=resamples, seed=seed)
    return {
        _NAMES.get(name, name): intervals.get(name, Interval(value, math.nan, math.nan))
        for name, value in measure(table.predictions, table.labels).items()
    }


@dataclass(frozen=True)
class ClassScores:
    """One expression's row: counts, and recall with Wilson's 95 % interval."""

    name: str
    faces: int
    precision: float
    recall: float
    recall_low: float
    recall_high: float


def measure_classes(table: PredictionTable) -> tuple[ClassScores, ...]:
    """Measures each expression that has a face."""
    rows = []
    for row in class_rows(table.predictions, table.labels):
        if row.precision is not None and row.recall is not None:
            interval = wilson_interval(round(row.recall * row.support), row.support)
            rows.append(ClassScores(row.name, row.support, row.precision, row.recall, *interval))
    return tuple(rows)
