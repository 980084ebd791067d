"""Judges a trained network on a split of the shards, and writes all that is said about it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from pocketaffect.data.shards.split import open_split
from pocketaffect.evaluation.behaviour import measure_behaviour
from pocketaffect.evaluation.evaluate import evaluate_predictions
from pocketaffect.evaluation.intervals import bootstrap_metrics
from pocketaffect.evaluation.outputs import write_evaluation
from pocketaffect.evaluation.predict import predict_split
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.report import write_report
from pocketaffect.evaluation.slices import read_groups, slice_metrics
from pocketaffect.evaluation.tables import Labels
from pocketaffect.files import write_atomically
from pocketaffect.models.network import load_network


def judge_network(
    model: Path, shards: Path, target: Path, *, batch_size: int, resamples: int, behaviour_images: int
) -> None:
    """Metrics with intervals, floors, calibration, priors, slices and behaviour, as files and as one page.

    Args:
        model: What the train stage wrote.
        shards: What the preprocess stage wrote; the network is judged on validation, floors come from training.
        target: The folder to write, replaced as a whole.
        batch_size: Of the prediction.
        resamples: Draws of the bootstrap.
        behaviour_images: Faces that the behavioural checks change, at most.

    Raises:
        PocketAffectError: No model or no shards, or a task has no labelled row.
    """
    network = load_network(model)
    train, validation = open_split(shards, "train"), open_split(shards, "validation")
    predictions = predict_split(network, validation, batch_size=batch_size)
    labels = Labels(validation.expression, validation.valence_arousal)
    evaluation = replace(
        evaluate_predictions(predictions, labels, Labels(train.expression, train.valence_arousal)),
        intervals=bootstrap_metrics(predictions, labels, resamples=resamples),
        slices=slice_metrics(predictions, labels, read_groups(shards, "validation")),
        behaviour=measure_behaviour(network, validation, images=behaviour_images, batch_size=batch_size),
    )
    with (model / "history.csv").open(encoding="utf-8", newline="") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    best = max(history, key=lambda row: row["score"])
    facts = {
        "network": f"{network.spec.architecture} at width {network.spec.width:g}, {network.spec.size} px",
        "training images": f"{len(train):,}",
        "validation images": f"{len(validation):,}",
    }
    table = PredictionTable(validation.paths, predictions, labels)
    with write_atomically(target) as draft:
        write_evaluation(evaluation, table, draft)
        write_report(
            draft / "report.html", evaluation, table, history=history, best_epoch=int(best["epoch"]), facts=facts
        )
