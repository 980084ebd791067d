"""Judges a trained network on a split of the shards, and writes all that is said about it, as files and as one page."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketaffect.config import EvaluateParams
from pocketaffect.data.shards.split import open_split, read_summary
from pocketaffect.evaluation import plots
from pocketaffect.evaluation.baselines import FLOOR_TITLES, PAPER_METRICS, PAPER_SOURCE
from pocketaffect.evaluation.behaviour import MOST_ACCURACY_LOST, MOST_CLASSES_CHANGED, measure_behaviour, predict_split
from pocketaffect.evaluation.evaluate import Evaluation, evaluate_predictions
from pocketaffect.evaluation.intervals import bootstrap_metrics
from pocketaffect.evaluation.metrics import METRIC_TITLES
from pocketaffect.evaluation.prediction_table import PREDICTIONS_FILE, PredictionTable, write_predictions
from pocketaffect.evaluation.slices import FEW_FACES, read_groups, slice_metrics
from pocketaffect.evaluation.tables import Labels
from pocketaffect.figures import inline_svg, page_template, render_svg
from pocketaffect.files import DECIMALS, to_plain, write_atomically, write_json
from pocketaffect.labels import CHOOSING, DERIVED_VA, EXPRESSIONS, NO_EXPRESSION, VALENCE_AROUSAL
from pocketaffect.models.network import READS_LUMA, load_network
from pocketaffect.training.scores import find_best

DERIVED_METRIC: Final = "valence_arousal_derived"
"""1 in metrics.json where valence and arousal are derived from votes; else it is not there."""

ADJUSTED_METRICS: Final = (
    *("accuracy", "balanced_accuracy", "worst_class_recall", "macro_f1"),
    *("kappa", "auc", "expected_calibration_error"),
)
"""Metrics that the page shows with and without training's shares."""


def judge_network(evaluate: EvaluateParams, select: str, *, model: Path, shards: Path, target: Path) -> None:
    """Writes metrics with intervals, floors, calibration, priors, slices and behaviour, as files and as one page.

    The network is judged on the validation shards, floors come from training's. `select` is `train.select`, by which
    the epoch was kept; `target` is replaced as a whole.

    Raises:
        PocketAffectError: No model or no shards.
    """
    network = load_network(model)
    train, validation = open_split(shards, "train"), open_split(shards, "validation")
    predictions = predict_split(network, validation, batch_size=evaluate.batch_size)
    labels = Labels(validation.expression, validation.valence_arousal)
    choosing = None
    summary = read_summary(shards)
    if CHOOSING in summary["images"]:
        apart = open_split(shards, CHOOSING)
        answers = predict_split(network, apart, batch_size=evaluate.batch_size)
        choosing = answers, Labels(apart.expression, apart.valence_arousal)
    known = Labels(train.expression, train.valence_arousal)
    evaluation = replace(
        evaluate_predictions(predictions, labels, known, choosing=choosing),
        intervals=bootstrap_metrics(predictions, labels, resamples=evaluate.resamples),
        slices=slice_metrics(predictions, labels, read_groups(shards, "validation")),
        behaviour=measure_behaviour(network, validation, evaluate),
    )
    if derived := summary.get("va_derived", False):
        evaluation = replace(evaluation, metrics=evaluation.metrics | {DERIVED_METRIC: 1.0})
    with (model / "history.csv").open(encoding="utf-8", newline="") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    facts = {
        "network": f"{network.spec.architecture} at width {network.spec.width:g}, {network.spec.size} px",
        **({"reads": READS_LUMA} if network.spec.colour == "grey" else {}),
        "training images": f"{len(train):,}",
        "validation images": f"{len(validation):,}",
        "epoch and temperature chosen by": (
            "the validation split" if choosing is None else f"{len(choosing[1]):,} images of training set apart"
        ),
        **({"valence and arousal": DERIVED_VA} if derived else {}),
    }
    table = PredictionTable(validation.paths, predictions, labels)
    with write_atomically(target) as draft:
        write_evaluation(evaluation, table, draft)
        kept = int(history[find_best(history, select)]["epoch"])
        write_report(draft / "report.html", evaluation, table, history=history, best_epoch=kept, facts=facts)


def write_evaluation(evaluation: Evaluation, table: PredictionTable, folder: Path) -> None:
    """Writes an evaluation into a folder, made where it is missing, byte for byte the same for the same input.

    Files:
        metrics.json: flat, for `dvc metrics`.
        floors.json: floor row -> metric -> value; counts.json: rows judged; intervals.json: metric -> value, low, high;
        calibration.json; priors.json: shares of the expressions, metrics with training's undone.
        per_class.csv, slices.csv, behaviour.csv: one row per expression, slice and change.
            What the evaluation does not have gets no file; the tables for plots are always there.
        confusion.csv: columns actual, predicted (class names), one row per labelled face, for DVC's
            `confusion_normalized` template, which normalises over its y field: y must be `actual`.
        reliability.csv: columns confidence, accuracy, faces; a row for each bin that has a face.
        valence.csv, arousal.csv: columns truth, prediction, for DVC's `scatter` template.
        predictions.parquet: see `prediction_table.write_predictions`.

    Raises:
        PocketAffectError: The disk is full or the folder cannot be written to.
    """
    predictions, labels = table.predictions, table.labels
    content = to_plain(evaluation)
    confusion = (
        (EXPRESSIONS[true], EXPRESSIONS[predicted])
        for true, predicted in zip(labels.expression, predictions.expression, strict=True)
        if true != NO_EXPRESSION
    )
    bins = [row for row in (content["calibration"] or {"bins": ()})["bins"] if row["faces"]]
    columns = ("confidence", "accuracy", "faces")
    named = ("metrics", "floors", "counts", "intervals", "calibration", "priors")
    tables = ("per_class", "slices", "behaviour")
    for name in named:
        if content[name] or name == "metrics":
            write_json(folder / f"{name}.json", content[name])
    for name in tables:
        if content[name]:
            _write_csv(folder / f"{name}.csv", list(content[name][0]), [list(row.values()) for row in content[name]])
    _write_csv(folder / "confusion.csv", ["actual", "predicted"], confusion)
    _write_csv(folder / "reliability.csv", columns, ([row[name] for name in columns] for row in bins))
    rows = labels.has_valence_arousal
    for index, dimension in enumerate(VALENCE_AROUSAL):
        pairs = np.stack([labels.valence_arousal[rows, index], predictions.valence_arousal[rows, index]], axis=1)
        _write_csv(folder / f"{dimension}.csv", ["truth", "prediction"], pairs.tolist())
    write_predictions(folder / PREDICTIONS_FILE, table)


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows with fixed-point floats; None is an empty field."""
    with write_atomically(file) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(f"{value:.{DECIMALS}f}" if isinstance(value, float) else value for value in row)


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
        figures.append(("Confusion matrix", render_svg(plots.draw_confusion(evaluation.confusion))))
        figures.append(("Per expression", render_svg(plots.draw_class_bars(evaluation.per_class))))
    if table.labels.has_valence_arousal.any():
        scatter = plots.draw_affect_scatter(table.predictions, table.labels, evaluation)
        figures.append(("Valence and arousal", render_svg(scatter)))
    if history:
        figures.append(("Training", render_svg(plots.draw_training_curves(history, best_epoch))))
    reliability = coverage = ""
    if evaluation.calibration:
        reliability = inline_svg(render_svg(plots.draw_reliability(evaluation.calibration)), "r")
        coverage = inline_svg(
            render_svg(plots.draw_coverage(table.predictions, table.labels, evaluation.calibration)), "k"
        )
    template = page_template("evaluation/report.html.jinja", {"number": _format_number, "percent": _format_percent})
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


def _format_number(value: float | None) -> str:
    """Writes three digits after the point; "n/a" where the metric has no value."""
    return "n/a" if value is None else f"{value:.3f}"


def _format_percent(value: float | None) -> str:
    """Formats a share with one digit after the point."""
    return "n/a" if value is None else f"{value:.1%}"
