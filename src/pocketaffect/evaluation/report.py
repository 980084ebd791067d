"""One self-contained HTML page about one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pocketaffect.evaluation.baselines import FLOOR_TITLES
from pocketaffect.evaluation.evaluate import Evaluation
from pocketaffect.evaluation.outputs import replace_files
from pocketaffect.evaluation.paper import PAPER_METRICS, PAPER_SOURCE
from pocketaffect.evaluation.plots import (
    draw_affect_scatter,
    draw_class_bars,
    draw_confusion,
    draw_reliability,
    draw_training_curves,
)
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.slices import FEW_FACES
from pocketaffect.evaluation.summary_table import METRIC_TITLES, format_number
from pocketaffect.figures import inline_svg, render_svg

ADJUSTED_METRICS: Final = (
    "accuracy",
    "balanced_accuracy",
    "worst_class_recall",
    "macro_f1",
    "kappa",
    "auc",
    "expected_calibration_error",
)
"""What the page shows with and without training's shares."""


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

    Args:
        path: The page.
        evaluation: Of `evaluate_predictions`.
        table: What was evaluated.
        history: One mapping per epoch (see `draw_training_curves`); none leaves the curves out.
        best_epoch: The epoch whose weights were kept, marked in the curves.
        facts: What to say about the model and its data, name -> value, shown at the top.
        title: Of the page.

    Raises:
        PocketAffectError: The history has no epoch numbers.
    """
    from pocketaffect.figures import page_template

    figures = [
        ("Confusion matrix", render_svg(draw_confusion(evaluation.confusion))),
        ("Per expression", render_svg(draw_class_bars(evaluation.per_class))),
        ("Valence and arousal", render_svg(draw_affect_scatter(table.predictions, table.labels, evaluation))),
    ]
    if history:
        figures.append(("Training", render_svg(draw_training_curves(history, best_epoch))))
    reliability = inline_svg(render_svg(draw_reliability(evaluation.calibration)), "r")
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
        reliability=reliability,
        figures=[(name, inline_svg(svg, f"f{index}")) for index, (name, svg) in enumerate(figures)],
    )
    replace_files(path.parent, {path.name: page.encode()})


def format_percent(value: float | None) -> str:
    """A share with one digit after the point."""
    return "n/a" if value is None else f"{value:.1%}"
