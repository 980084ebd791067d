"""One self-contained HTML page about one evaluation, and its plain-text summary for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pocketaffect.evaluation.baselines import FLOOR_TITLES
from pocketaffect.evaluation.evaluate import Evaluation
from pocketaffect.evaluation.outputs import replace_files
from pocketaffect.evaluation.paper import PAPER_METRICS, PAPER_SOURCE
from pocketaffect.evaluation.plots import (
    GRID,
    INK,
    draw_affect_scatter,
    draw_class_bars,
    draw_confusion,
    draw_training_curves,
    render_svg,
)
from pocketaffect.evaluation.tables import Labels, Predictions

METRIC_TITLES: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen's kappa",
    "krippendorff_alpha": "Krippendorff's alpha",
    "auc": "AUC, macro",
    "aucpr": "AUCPR, macro",
    "rmse_valence": "RMSE valence ↓",
    "rmse_arousal": "RMSE arousal ↓",
    "corr_valence": "CORR valence",
    "corr_arousal": "CORR arousal",
    "sagr_valence": "SAGR valence",
    "sagr_arousal": "SAGR arousal",
    "ccc_valence": "CCC valence",
    "ccc_arousal": "CCC arousal",
}

_SUMMARY: Final = ("accuracy", "macro_f1", "rmse_valence", "rmse_arousal", "ccc_valence", "ccc_arousal")
_NONE: Final = "n/a"


def summary_table(metrics: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> str:
    """The metrics that decide, beside their floor rows, as plain text.

    Args:
        metrics: Of the model, with at least accuracy, macro_f1 and RMSE and CCC per dimension.
        floors: Floor row -> metrics, as `Evaluation.floors` or floors.json give them.
    """
    columns = {"model": metrics, **{name.replace("_", " "): row for name, row in floors.items()}}
    titles = {name: METRIC_TITLES[name].replace(" ↓", "") for name in _SUMMARY}
    width = max(len(title) for title in titles.values())
    lines = [" " * width + "".join(f"  {name:>12}" for name in columns)]
    for name, title in titles.items():
        lines.append(f"{title:<{width}}" + "".join(f"  {_number(row.get(name)):>12}" for row in columns.values()))
    return "\n".join(lines)


def write_report(
    path: Path,
    evaluation: Evaluation,
    predictions: Predictions,
    labels: Labels,
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
        predictions: What was evaluated.
        labels: What it was compared with.
        history: One mapping per epoch (see `draw_training_curves`); none leaves the curves out.
        best_epoch: The epoch whose weights were kept, marked in the curves.
        facts: What to say about the model and its data, name -> value, shown at the top.
        title: Of the page.

    Raises:
        PocketAffectError: The history has no epoch numbers.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    figures = [
        ("Confusion matrix", render_svg(draw_confusion(evaluation.confusion))),
        ("Per expression", render_svg(draw_class_bars(evaluation.per_class))),
        ("Valence and arousal", render_svg(draw_affect_scatter(predictions, labels, evaluation))),
    ]
    if history:
        figures.append(("Training", render_svg(draw_training_curves(history, best_epoch))))
    environment = Environment(
        loader=PackageLoader("pocketaffect.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    page = environment.get_template("report.html.jinja").render(
        title=title,
        facts=dict(facts or {}),
        evaluation=evaluation,
        metric_titles=METRIC_TITLES,
        floor_titles=FLOOR_TITLES,
        paper=PAPER_METRICS,
        paper_source=PAPER_SOURCE,
        figures=[(name, _inline_svg(svg, index)) for index, (name, svg) in enumerate(figures)],
    )
    replace_files(path.parent, {path.name: page.encode()})


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _inline_svg(svg: str, index: int) -> str:
    """An SVG that follows the page's colours and width, with ids that no other figure on it has."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace(GRID, "var(--line)")
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>f{index}-", svg)
    return re.sub(
        r'(<svg\b[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
