"""How good the answers of a shipped file are, and to which faces it gave them: kept with its version.

With its answers two versions are compared years later, face by face, without executing either again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketaffect.data.shards.split import open_split, read_summary
from pocketaffect.evaluation.calibration import expected_calibration_error
from pocketaffect.evaluation.intervals import Interval, bootstrap_metrics
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.labels import EXPRESSIONS

ECE: Final = "ece"
DIGITS: Final = 6
Z: Final = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


def hash_validation(shards: Path) -> str:
    """SHA-256 of the validation split: its pixels (by their files' hashes), names and labels, in order."""
    summary, split = read_summary(shards), open_split(shards, "validation")
    pixels = {name: digest for name, digest in summary["sha256"].items() if name.startswith("validation")}
    digest = hashlib.sha256(json.dumps(pixels, sort_keys=True).encode())
    digest.update("\0".join(split.paths).encode())
    digest.update(np.ascontiguousarray(split.expression).tobytes())
    digest.update(np.ascontiguousarray(split.valence_arousal).tobytes())
    return digest.hexdigest()


def measure_predictions(table: PredictionTable, *, resamples: int, seed: int) -> dict[str, Interval]:
    """Every metric with its 95 % interval; `ece` without one, since resampling shifts it upward."""
    metrics = bootstrap_metrics(table.predictions, table.labels, resamples=resamples, seed=seed)
    error = expected_calibration_error(table.predictions.probabilities, table.labels.expression)
    return {**metrics, ECE: Interval(error, float("nan"), float("nan"))}


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
    """A row for each expression; a class without faces or predictions scores 0."""
    known = table.labels.has_expression
    true, predicted = table.labels.expression[known], table.predictions.expression[known]
    rows = []
    for index, name in enumerate(EXPRESSIONS):
        faces, named = int((true == index).sum()), int((predicted == index).sum())
        hits = int(((true == index) & (predicted == index)).sum())
        low, high = _wilson(hits, faces)
        rows.append(ClassScores(name, faces, hits / named if named else 0.0, hits / faces if faces else 0.0, low, high))
    return tuple(rows)


def _wilson(hits: int, faces: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927); scipy's import would cost more than the whole stage's rest."""
    if not faces:
        return 0.0, 1.0
    share, square = hits / faces, Z**2 / faces
    middle = (share + square / 2) / (1 + square)
    reach = Z / (1 + square) * (share * (1 - share) / faces + square / (4 * faces)) ** 0.5
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def to_json(metrics: Mapping[str, Interval], classes: Sequence[ClassScores], table: PredictionTable) -> dict[str, Any]:
    """The measurement as a file holds it; null for no interval."""
    return {
        "faces": len(table.paths),
        "metrics": {name: {key: _plain(value) for key, value in vars(one).items()} for name, one in metrics.items()},
        "classes": [{key: _plain(value) for key, value in vars(row).items()} for row in classes],
    }


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if np.isfinite(value) else None
