"""One self-contained HTML page about one evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pocketaffect.evaluation.baselines import FLOOR_TITLES, PAPER_METRICS, PAPER_SOURCE
from pocketaffect.evaluation.behaviour import MOST_ACCURACY_LOST, MOST_CLASSES_CHANGED
from pocketaffect.evaluation.evaluate import Evaluation
from pocketaffect.evaluation.metrics import METRIC_TITLES
from pocketaffect.evaluation.plots import (
    draw_affect_scatter,
    draw_class_bars,
    draw_confusion,
    draw_coverage,
    draw_reliability,
    draw_training_curves,
)
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.slices import FEW_FACES
from pocketaffect.figures import inline_svg, page_template, render_svg
from pocketaffect.files import write_atomically

ADJUSTED_METRICS: Final = (
    *("accuracy", "balanced_accuracy", "worst_class_recall", "macro_f1"),
    *("kappa", "auc", "expected_calibration_error"),
)
"""Metrics that the page shows with and without training's shares."""


def write_report(
    path: Path,
    evaluation: Evaluation,
    table: PredictionTable,
    *,
    history: Sequence[Mapping[str, float]] = (),
    best_epoch: int | None = None,
    facts: Mapping[str, str] | None = None,
    title: str = "pocketaffect evaluation",
) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no scripts.

    Without a history (see `draw_training_curves`) it has no curves; the facts, name to value, stand at its top.

    Raises:
        PocketAffectError: The history has no epoch numbers.
    """
    figures = []
    if evaluation.calibration:
        figures.append(("Confusion matrix", render_svg(draw_confusion(evaluation.confusion))))
        figures.append(("Per expression", render_svg(draw_class_bars(evaluation.per_class))))
    if table.labels.has_valence_arousal.any():
        scatter = draw_affect_scatter(table.predictions, table.labels, evaluation)
        figures.append(("Valence and arousal", render_svg(scatter)))
    if history:
        figures.append(("Training", render_svg(draw_training_curves(history, best_epoch))))
    reliability = coverage = ""
    if evaluation.calibration:
        reliability = inline_svg(render_svg(draw_reliability(evaluation.calibration)), "r")
        coverage = inline_svg(render_svg(draw_coverage(table.predictions, table.labels, evaluation.calibration)), "k")
    template = page_template("evaluation/report.html.jinja", {"number": format_number, "percent": format_percent})
    page = template.render(
        title=title,
        facts=dict(facts or {}),
        evaluation=evaluation,
        metric_titles=METRIC_TITLES,
        floor_titles=FLOOR_TITLES,
        paper=PAPER_METRICS,
        paper_source=PAPER_SOURCE,
        adjusted_metrics=ADJUSTED_METRICS,
        few_faces=FEW_FACES,
        behaviour_limits=(MOST_ACCURACY_LOST, MOST_CLASSES_CHANGED),
        reliability=reliability,
        coverage=coverage,
        figures=[(name, inline_svg(svg, f"f{index}")) for index, (name, svg) in enumerate(figures)],
    )
    with write_atomically(path) as draft:
        draft.write_bytes(page.encode())


def format_number(value: float | None) -> str:
    """Writes three digits after the point; "n/a" where the metric has no value."""
    return "n/a" if value is None else f"{value:.3f}"


def format_percent(value: float | None) -> str:
    """Formats a share with one digit after the point."""
    return "n/a" if value is None else f"{value:.1%}"
