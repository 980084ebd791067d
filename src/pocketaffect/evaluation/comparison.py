"""Several models judged on the same faces, each against the first: as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketaffect.evaluation.intervals import RESAMPLES, SEED, Comparison, compare_predictions
from pocketaffect.evaluation.metrics import METRIC_TITLES, list_missing
from pocketaffect.evaluation.prediction_table import PredictionTable, match_rows
from pocketaffect.files import to_plain
from pocketaffect.tables import render_table


@dataclass(frozen=True)
class ModelComparison:
    """One model against the first.

    Args:
        name: The model's name.
        metrics: Metric -> comparison; `ours` is this model, `theirs` the first.
        same_class: Share of all faces that both give the same class.
    """

    name: str
    metrics: Mapping[str, Comparison]
    same_class: float

    def to_dict(self) -> dict[str, Any]:
        """Gives the comparison as JSON's types; a metric without an interval stands beside `metrics`."""
        pairs = {name: {"first": row.theirs, "this": row.ours} for name, row in self.metrics.items()}
        full = {
            name: pairs.pop(name)
            | {"difference": row.difference, "low": row.low, "high": row.high, "verdict": row.verdict}
            for name, row in self.metrics.items()
            if math.isfinite(row.low)
        }
        return {"same_class": self.same_class, "metrics": full, **pairs}


@dataclass(frozen=True)
class ModelComparisons:
    """Models against the first, on the same faces.

    Args:
        first: The first model's name.
        faces: Faces compared, labelled or not.
        expression_rows: Faces with an expression.
        valence_arousal_rows: Faces with valence and arousal.
        resamples: Draws behind the intervals.
        others: One comparison for each other model.
    """

    first: str
    faces: int
    expression_rows: int
    valence_arousal_rows: int
    resamples: int
    others: tuple[ModelComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON's types, rounded."""
        others = {other.name: other.to_dict() for other in self.others}
        plain: dict[str, Any] = to_plain(
            {"first": self.first, "faces": self.faces, "resamples": self.resamples, "others": others}
        )
        return plain

    def to_text(self) -> str:
        """Renders a table for each model but the first."""
        lines = [
            f"{self.faces:,} faces: {self.expression_rows:,} with an expression, "
            f"{self.valence_arousal_rows:,} with valence and arousal",
            f"first: {self.first}",
        ]
        for other in self.others:
            rows = [("", "first", "this", "difference", "95 % interval", "")]
            rows += [
                (title, *_describe(other.metrics[name]))
                for name, title in METRIC_TITLES.items()
                if name in other.metrics
            ]
            lines += [
                "",
                f"{other.name}, against the first (the same class for {other.same_class:.1%} of the faces)",
                render_table(rows, "lrrrll"),
            ]
        if self.others and (missing := list_missing(self.others[0].metrics)):
            lines += ["", f"not measured, since no face has the labels: {', '.join(missing)}"]
        lines += [
            "",
            f"↓ less is better. Intervals of the difference: {self.resamples:,} draws of faces, the same for both.",
            "An interval that holds 0 decides nothing. Of twenty metrics in which two models are equal, one looks",
            "otherwise. Intervals say what other faces would change, not what another training would.",
        ]
        return "\n".join(lines)


def _describe(row: Comparison) -> tuple[str, str, str, str, str]:
    verdict = "" if row.verdict == "undecided" else row.verdict
    interval = f"{row.low:+.3f} to {row.high:+.3f}" if math.isfinite(row.low) else ""
    return f"{row.theirs:.3f}", f"{row.ours:.3f}", f"{row.difference:+.3f}", interval, verdict


def compare_models(
    tables: Mapping[str, PredictionTable], *, resamples: int = RESAMPLES, seed: int = SEED
) -> ModelComparisons:
    """Compares every model with the first, on the same draws of the same faces.

    Args:
        tables: Answers by the models' names, in the order of the report.
        resamples: Number of draws.
        seed: Seed of the draws.

    Raises:
        PocketAffectError: Other faces or labels.
    """
    first, *others = match_rows(tables)
    first_name, *names = tables
    labels = first.labels
    return ModelComparisons(
        first=first_name,
        faces=len(labels),
        expression_rows=int(labels.has_expression.sum()),
        valence_arousal_rows=int(labels.has_valence_arousal.sum()),
        resamples=resamples,
        others=tuple(
            ModelComparison(
                name,
                compare_predictions(other.predictions, first.predictions, labels, resamples=resamples, seed=seed),
                float((other.predictions.expression == first.predictions.expression).mean()),
            )
            for name, other in zip(names, others, strict=True)
        ),
    )
