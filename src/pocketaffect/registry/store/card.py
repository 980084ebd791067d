"""The model card: what a version predicts, how well, from what, for what, and what nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect.config import Params
from pocketaffect.evaluation.intervals import Interval
from pocketaffect.figures import page_template
from pocketaffect.files import write_atomically
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

PREDICTS: Final = (
    "Given a square image around one face: the probability of each of eight expressions (neutral, happiness, sadness, "
    "surprise, fear, disgust, anger, contempt), and valence (unpleasant to pleasant) and arousal (calm to excited), "
    "both from -1 to 1. These are what annotators would say of the picture, not what the person feels."
)
INTENDED: Final = (
    "Interfaces that may be wrong and say so: proposing music, adapting an application, summarising reactions with "
    "consent, on the device of the person whose face it is.",
    "Research on small affect models, beside the floor rows of the evaluation report.",
)
MISUSE: Final = (
    "Decisions about people: hiring, grading, credit, policing, border control, medical diagnosis, lie detection.",
    "Emotion recognition at work and in education, which the EU's AI Act forbids but for medicine and safety.",
    "Covert use, or use on people who did not consent.",
    "Reading a single answer as a fact: look at the probabilities and at the recall of the expression in question.",
)
NOT_MEASURED: Final = (
    "Speed, energy and arithmetic on an Apple device: the file was executed by an interpreter on another system.",
    "Differences between ages, genders, skin colours and cultures: the data says nothing of these.",
    "Video, several faces in one picture, faces that no detector has cut out.",
    "People outside of the validation split's source.",
)


@dataclass(frozen=True)
class CardFacts:
    """What the card is made from.

    Attributes:
        params: Of the pipeline.
        lineage: Origin.
        digest: Of the package.
        forms: Name and bytes of each file of the model.
        verification: verification.json.
        contract: contract.json.
        summary: shards.json.
        metrics: Of the shipped file; empty where its answers were not kept.
        classes: Likewise.
        pytorch: metrics.json, of the network before it was exported.
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


def write_card(facts: CardFacts, folder: Path) -> tuple[Path, Path]:
    """Writes model_card.md and model_card.html into `folder`; equal facts give equal bytes."""
    content = {
        "facts": facts,
        "metrics": [(title, facts.metrics[name], facts.pytorch.get(name)) for name, title in METRICS.items()]
        if facts.metrics
        else [],
        "predicts": PREDICTS,
        "data": _describe_data(facts),
        "limits": _describe_limits(facts),
        "intended": INTENDED,
        "misuse": MISUSE,
        "not_measured": NOT_MEASURED,
        "title": f"{facts.params.register_.model_name}: {facts.params.model.architecture} x "
        f"{facts.params.model.width:g}, {facts.params.preprocess.image_size} px, {facts.verification['precision']}",
    }
    made = []
    for name in ("registry/store/model_card.md.jinja", "registry/store/model_card.html.jinja"):
        target = folder / Path(name).stem
        with write_atomically(target) as draft:
            text = page_template(name, {"number": _number, "interval": _interval}).render(content)
            draft.write_text(text, encoding="utf-8")
        made.append(target)
    return made[0], made[1]


def _describe_data(facts: CardFacts) -> tuple[str, ...]:
    images, contract = facts.summary["images"], facts.contract
    source = "the embedded sample of drawn faces: no people" if facts.lineage.data_source == "sample" else "your data"
    return (
        f"Source: {facts.lineage.data_source} ({source}); DVC's hash {facts.lineage.data_md5}.",
        f"{images['train']:,} faces to learn from, {images['validation']:,} to validate; {facts.summary['size']} px.",
        f"Data contract: {contract['rows']:,} rows, {contract['kept']:,} kept, {contract['quarantined']:,} "
        f"quarantined, {contract['dropped']:,} dropped, {contract['near_duplicates']:,} near-duplicates left out.",
        "The validation split chose the epoch too, so its figures flatter a little: no third set was kept aside.",
    )


def _describe_limits(facts: CardFacts) -> tuple[str, ...]:
    limits = [
        f"A face of fewer than {facts.summary['size']} px must be enlarged, and shows less than those it learnt from.",
        "A picture without a face gets an answer, too: detect the face first.",
    ]
    if facts.classes:
        worst = min(facts.classes, key=lambda row: row.recall)
        limits.append(f"It finds {worst.recall:.0%} of the faces of {worst.name}, its worst expression.")
        few = [row.name for row in facts.classes if row.faces < 30]
        if few:
            limits.append(f"Fewer than 30 validation faces: {', '.join(few)}. Their figures say little.")
    if facts.lineage.data_source == "sample":
        limits.append("Trained on drawings: on photographs of people its answers mean nothing.")
    return tuple(limits)


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _interval(one: Interval) -> str:
    return "-" if one.low != one.low else f"{one.low:.3f} to {one.high:.3f}"
