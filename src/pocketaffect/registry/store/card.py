"""The model card: what a version predicts, how well, from what, for what, and what nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect.config import Params
from pocketaffect.evaluation.intervals import Interval
from pocketaffect.figures import page_template
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.paths import SAMPLE
from pocketaffect.precisions import PRECISIONS
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.store.measured import ClassScores

METRICS: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "worst_class_recall": "recall of the worst expression",
    "macro_f1": "macro-F1",
    "ece": "calibration error (ECE, less is better)",
    "ccc_valence": "CCC valence",
    "ccc_arousal": "CCC arousal",
    "rmse_valence": "RMSE valence (less is better)",
    "rmse_arousal": "RMSE arousal (less is better)",
}
FIRST: Final = ("accuracy", "balanced_accuracy", "ccc_valence", "ccc_arousal")
"""Metrics of the card's first line."""


@dataclass(frozen=True)
class CardFacts:
    """What the card is made from.

    Attributes:
        params: All settings of the pipeline.
        lineage: Origin.
        digest: SHA-256 of the package.
        forms: Name and bytes of each file of the model, the package first.
        verification: verification.json.
        contract: contract.json.
        summary: shards.json.
        metrics: Metrics of the shipped file; empty where its answers were not kept.
        classes: Scores for each expression; empty likewise.
        pytorch: metrics.json, of the network before it was exported.
        behaviour: Rows of behaviour.csv likewise.
    """

    params: Params
    lineage: Lineage
    digest: str
    forms: Sequence[tuple[str, int]]
    verification: Mapping[str, Any]
    contract: Mapping[str, Any]
    summary: Mapping[str, Any]
    metrics: Mapping[str, Interval]
    classes: Sequence[ClassScores]
    pytorch: Mapping[str, float]
    behaviour: Sequence[Mapping[str, str]] = ()


def write_card(facts: CardFacts, folder: Path) -> str:
    """Writes model_card.md and model_card.html into `folder`; equal facts give equal bytes.

    Returns:
        Its first lines, up to the first heading, as Markdown.
    """
    from markdown_it import MarkdownIt

    model = facts.params.model
    title = (
        f"{facts.params.register_.model_name}: {model.architecture} x {model.width:g}, "
        f"{facts.params.preprocess.image_size} px, {facts.verification['precision']}"
    )
    first = [f"{METRICS[name]} {facts.metrics[name].value:.3f}" for name in FIRST if name in facts.metrics]
    missing = [title for name, title in METRICS.items() if name not in facts.metrics]
    missing += [name for name in EXPRESSIONS if name not in {row.name for row in facts.classes}]
    content = {
        "title": title,
        "facts": facts,
        "system": PRECISIONS[form].system if (form := facts.verification["precision"]) in PRECISIONS else "older",
        "measured": ", ".join(first),
        "missing": missing if facts.metrics else [],
        "shipped": facts.metrics,
        "metrics": METRICS,
        "expressions": EXPRESSIONS,
        "drawn": facts.lineage.data_source == str(SAMPLE),
    }
    card = _render("registry/store/model_card.md.jinja", content)
    (folder / "model_card.md").write_text(card, encoding="utf-8")
    page = {"title": title, "body": MarkdownIt("js-default").render(card)}  # escapes HTML in a user's texts
    (folder / "model_card.html").write_text(_render("registry/store/model_card.html.jinja", page), encoding="utf-8")
    return card.partition("\n## ")[0].partition("\n")[2].strip()


def _render(name: str, content: Mapping[str, Any]) -> str:
    filters = {"number": _number, "interval": _interval, "bytes": "{:,}".format}
    return page_template(name, filters).render(content)


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _interval(one: Interval) -> str:
    return "-" if one.low != one.low else f"{one.low:.3f} to {one.high:.3f}"
