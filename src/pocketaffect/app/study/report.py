"""The study's page: the paper's tables 7 to 9 for the collected rows, as one HTML file that needs nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pocketaffect.app.study.analysis import PAPER_STUDY, analyse
from pocketaffect.app.study.plots import draw_affect, draw_ratings
from pocketaffect.app.study.prompts import PROMPTS
from pocketaffect.evaluation.plots import draw_confusion
from pocketaffect.figures import inline_svg, page_template, render_svg
from pocketaffect.files import write_atomically
from pocketaffect.labels import VALENCE_AROUSAL

EXPRESSION_METRICS: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "kappa": "Cohen's kappa",
    "krippendorff_alpha": "Krippendorff's alpha",
    "aucpr": "area under precision-recall",
    "auc": "area under ROC",
}
AFFECT_METRICS: Final = {"rmse": "RMSE", "corr": "correlation", "sagr": "sign agreement", "ccc": "concordance"}
RATINGS: Final = {
    "all": ("all", "rating"),
    "right": ("where the expression was right", "rating_right"),
    "wrong": ("where it was wrong", "rating_wrong"),
    "right_minus_wrong": ("right minus wrong", None),
}


def write_study_report(rows: Sequence[Sequence[str | int | float]], target: Path) -> None:
    """Writes the page.

    Args:
        rows: Of `StudyStore.rows`.
        target: The HTML file.

    Raises:
        PocketAffectError: There are no rows, or the file cannot be written.
    """
    analysis = analyse(rows)
    pictures = (draw_confusion(analysis.confusion), draw_ratings(analysis.ratings), draw_affect(rows))
    confusion, ratings, affect = (
        inline_svg(render_svg(picture), f"f{number}") for number, picture in enumerate(pictures)
    )
    page = page_template("app/study/report.html.jinja", {"number": _number}).render(
        analysis=analysis,
        paper=PAPER_STUDY,
        expression_metrics=EXPRESSION_METRICS,
        affect_metrics=AFFECT_METRICS,
        dimensions=VALENCE_AROUSAL,
        ratings=RATINGS,
        prompts=PROMPTS,
        confusion=confusion,
        rating_figure=ratings,
        affect_figure=affect,
    )
    with write_atomically(target) as draft:
        draft.write_text(page, encoding="utf-8")


def _number(value: float) -> str:
    """Three digits; a dash for what there is not."""
    return "–" if math.isnan(value) else f"{value:.3f}"  # noqa: RUF001 - typography
