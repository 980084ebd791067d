"""Judges the trained network on the validation split, beside its floor rows."""

import csv

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """out/model/ and out/shards/ to out/evaluation/: metrics, tables for plots, predictions, a report."""
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.evaluation.evaluate import evaluate_predictions
    from pocketaffect.evaluation.outputs import write_evaluation
    from pocketaffect.evaluation.predict import predict_split
    from pocketaffect.evaluation.report import write_report
    from pocketaffect.evaluation.tables import Labels
    from pocketaffect.files import write_atomically
    from pocketaffect.models.network import load_network

    network = load_network(paths.MODEL)
    train, validation = open_split(paths.SHARDS, "train"), open_split(paths.SHARDS, "validation")
    predictions = predict_split(network, validation, batch_size=params.evaluate.batch_size)
    labels = Labels(validation.expression, validation.valence_arousal)
    evaluation = evaluate_predictions(predictions, labels, Labels(train.expression, train.valence_arousal))
    with (paths.MODEL / "history.csv").open(encoding="utf-8", newline="") as stream:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    best = max(history, key=lambda row: row["score"])
    facts = {
        "network": f"{network.spec.architecture} at width {network.spec.width:g}, {network.spec.size} px",
        "training images": f"{len(train):,}",
        "validation images": f"{len(validation):,}",
    }
    with write_atomically(paths.EVALUATION) as draft:
        write_evaluation(evaluation, predictions, labels, draft, validation.paths)
        write_report(
            draft / "report.html",
            evaluation,
            predictions,
            labels,
            history=history,
            best_epoch=int(best["epoch"]),
            facts=facts,
        )


if __name__ == "__main__":
    run_stage("evaluate", main)
