"""The pipeline's results as one MLflow run and one version, with a card that says what it is worth."""

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pocketaffect import paths
from pocketaffect.config import Params, RegisterParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Interval
from pocketaffect.evaluation.prediction_table import read_predictions
from pocketaffect.figures import page_template
from pocketaffect.files import hash_file, to_plain, write_json
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.mlpackage.package import package_bytes, package_digest
from pocketaffect.precisions import PRECISIONS
from pocketaffect.provenance.origin import describe_origin
from pocketaffect.registry.lineage.lineage import Lineage, collect_lineage, find_changed_sources, read_file_metadata
from pocketaffect.registry.lineage.trace import find_trial
from pocketaffect.registry.store.measured import ClassScores, hash_validation, measure_classes, measure_predictions
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import VALIDATION_TAG, RunRecord, flatten
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import RegisteredVersion

SHIPPED_FILE: Final = "shipped.json"
"""Among a run's artifacts: metrics of the shipped file with intervals, and per class."""

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
        digest: SHA-256 of the package.
        forms: Name and bytes of each file of the model, the package first.
        verification: verification.json, as `contract` is contract.json, and `summary` shards.json.
        metrics: Metrics of the shipped file; empty where its answers were not kept, as the expressions' `classes` are.
        pytorch: metrics.json, of the network before it was exported, as are the rows of behaviour.csv.
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


def publish(root: Path, register: RegisterParams, settings: Params) -> RegisteredVersion:
    """Registers what the stages left below `root`, with all settings; the same package again gives the same version.

    Raises:
        PocketAffectError: The package was not verified or not made from what stands here, uncommitted changes are
            not allowed, or the store cannot be used.
    """
    verification = _read(root / paths.VERIFICATION)
    if not verification["passed"]:
        raise PocketAffectError(f"{paths.VERIFICATION}: the package was not verified", todo="`dvc repro export`")
    lineage = collect_lineage(root)
    _check_origin(root, settings)
    _check_dirtiness(lineage, register.allow_dirty)
    metrics = _read(root / paths.EVALUATION / "metrics.json")
    rows = csv.DictReader(_read_text(root / paths.MODEL / "history.csv").splitlines())
    history = [{name: float(value) for name, value in row.items()} for row in rows]
    facts = collect_facts(root, settings, lineage, verification, metrics)
    store, params = open_store(root), flatten(settings.model_dump(by_alias=True, mode="json"))
    trial = find_trial(store.client(), register.experiment, params)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as name:
        made = Path(name)
        record = RunRecord(
            root / paths.PACKAGE,
            lineage,
            params=params,
            history=history,
            metrics={**metrics, **_shipped_metrics(facts)},
            description=write_card(facts, made),
            artifacts=[*_artifacts(root), *_write_shipped(root, facts, made)],
            companions=_companions(root),
            tags={VALIDATION_TAG: hash_validation(root / paths.SHARDS)} | trial,
            faces=facts.summary["images"]["train"],
            trained=_read_training_time(root),
        )
        return register_package(store, register, record, root=root)


def _check_origin(root: Path, params: Params) -> None:
    """Refuses a package that was made from other data, settings or sources than stand here: its tags would lie."""
    says, here = read_file_metadata(root / paths.PACKAGE), describe_origin(params, root)
    differ = [name.removeprefix("origin_") for name in here if says.get(name) != here[name]]
    if differ:
        raise PocketAffectError(
            f"{paths.PACKAGE}: not made from what stands here", found=f"other {', '.join(differ)}", todo="`dvc repro`"
        )
    if changed := find_changed_sources(root):
        raise PocketAffectError(
            f"{paths.LOCK_FILE}: not made with the sources that stand here",
            found=f"other content of {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}",
            todo="`dvc repro`: a comment changes no output, but an audit compares these files",
        )


def _check_dirtiness(lineage: Lineage, allowed: bool) -> None:
    if lineage.dirty and not allowed and not lineage.experiment:  # DVC never commits before it runs one
        raise PocketAffectError(
            "register: uncommitted changes",
            found=", ".join(lineage.dirty_paths[:10]),
            allowed="a commit that holds everything that decides the result",
            todo="git commit, then `pocketaffect register`; with --allow-dirty it marks the version, which is never "
            "promoted (the stage: params.yaml, register.allow_dirty)",
        )


def collect_facts(
    root: Path, params: Params, lineage: Lineage, verification: Mapping[str, Any], metrics: Mapping[str, float]
) -> CardFacts:
    """Collects what the card of the network below `root` is made from.

    Raises:
        PocketAffectError: A stage's output is missing or damaged.
    """
    forms = [root / paths.PACKAGE, *_companions(root)]
    facts = CardFacts(
        params=params,
        lineage=lineage,
        digest=package_digest(root / paths.PACKAGE),
        forms=[(path.name, package_bytes(path) if path.is_dir() else path.stat().st_size) for path in forms],
        verification=verification,
        contract=_read(root / paths.CONTRACT_REPORT),
        summary=_read(root / paths.SHARDS / "shards.json"),
        metrics={},
        classes=(),
        pytorch=metrics,
        behaviour=_read_table(root / paths.BEHAVIOUR),
    )
    if not (root / paths.SHIPPED_PREDICTIONS).is_file():
        return facts
    table = read_predictions(root / paths.SHIPPED_PREDICTIONS)
    measured = measure_predictions(table, resamples=params.promotion.resamples, seed=params.promotion.seed)
    return replace(facts, metrics=measured, classes=measure_classes(table))


def _companions(root: Path) -> list[Path]:
    """Lists the twin and the classifier form, as far as the export wrote them."""
    return [root / path for path in (paths.CLASSIFIER, paths.TWIN) if (root / path).exists()]


def _artifacts(root: Path) -> Iterator[Path]:
    yield from (root / paths.EVALUATION, root / paths.VERIFICATION, root / paths.CONTRACT_REPORT)
    yield from (root / paths.QUARANTINE_TABLE, root / paths.DATA_PROFILE, root / paths.DATA_REPORT)
    yield root / paths.FACES_REPORT
    yield from (root / name for name in ("params.yaml", str(paths.LOCK_FILE)))
    if (root / paths.SHIPPED_PREDICTIONS).is_file():
        yield root / paths.SHIPPED_PREDICTIONS


def _write_shipped(root: Path, facts: CardFacts, folder: Path) -> list[Path]:
    """Writes what was measured of the shipped file beside the card; all that was made for the version alone."""
    if facts.metrics:
        faces = len(read_predictions(root / paths.SHIPPED_PREDICTIONS).paths)
        content = {"faces": faces, "metrics": facts.metrics, "classes": facts.classes}
        write_json(folder / SHIPPED_FILE, to_plain(content))
    return sorted(folder.iterdir())


def _read_training_time(root: Path) -> tuple[float, float] | None:
    """Reads begin and end of the training that made these weights; None where they came from a cache or store."""
    weights = root / paths.MODEL / "model.safetensors"
    if not (root / paths.TRAINING_TIME).is_file() or not weights.is_file():
        return None
    noted = _read(root / paths.TRAINING_TIME)
    return (noted["began"], noted["ended"]) if noted["weights_sha256"] == hash_file(weights) else None


def _shipped_metrics(facts: CardFacts) -> dict[str, float]:
    values: Mapping[str, Interval] = facts.metrics
    return {
        **{f"shipped_{name}": one.value for name, one in values.items()},
        "shipped_agreement": facts.verification["shipped"]["agreement"],
        "package_bytes": facts.verification["package_bytes"],
    }


def _read_table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(_read_text(file).splitlines())) if file.is_file() else []


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_read_text(file))
    except ValueError as error:
        todo = "`dvc checkout --force` brings back what DVC keeps, `dvc repro` makes it again"
        raise PocketAffectError(f"{file}: damaged", found=error, todo=todo) from None
    return content


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PocketAffectError(f"{file}: no such file; nothing to register", todo="`dvc repro`") from None


def write_card(facts: CardFacts, folder: Path) -> str:
    """Writes model_card.md and model_card.html into `folder`; gives the first lines, up to the first heading.

    Equal facts give equal bytes.
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
        "drawn": facts.lineage.data_source == str(paths.SAMPLE),
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
