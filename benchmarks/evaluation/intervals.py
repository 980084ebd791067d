"""Our bootstrap beside scipy's on the same predictions: seconds for 1000 resamples, and whether the intervals agree.

    .venv/bin/python benchmarks/evaluation/intervals.py [--faces 4000]

Ours gives sixteen metrics at once; scipy.stats.bootstrap is asked for one at a time, vectorised where the statistic
can be (accuracy, RMSE) and with scikit-learn's function on each resample where it cannot (macro-F1, AUC). Paired: the
difference between two models. The time is the median of three; set OMP_NUM_THREADS=1 for one core's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from pocketaffect.evaluation.intervals import bootstrap_metrics, compare_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import CLASS_MEAN_VA

RESAMPLES = 1000


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=4000)
    faces = parser.parse_args().faces
    (ours, theirs), labels = _draw(faces)
    one, found = _measure(lambda: bootstrap_metrics(ours, labels, resamples=RESAMPLES))
    two, _ = _measure(lambda: compare_predictions(ours, theirs, labels, resamples=RESAMPLES))
    print(f"{faces:,} faces, {RESAMPLES:,} resamples, seconds\n")
    print(f"| ours, {len(found)} metrics of one model | {one:.2f} |\n| ours, {len(found)} differences | {two:.2f} |")
    scores, true, guess = ours.probabilities, labels.expression, ours.expression
    error = ours.valence_arousal[:, 0] - labels.valence_arousal[:, 0]

    def macro_f1(true: Any, guess: Any) -> float:
        return float(f1_score(true, guess, average="macro"))

    def auc(rows: Any) -> float:
        return float(roc_auc_score(np.eye(8)[true[rows]], scores[rows], average="macro"))

    for name, data, statistic, vectorised, repeats in (
        ("accuracy", (guess == true,), lambda part, axis: part.mean(axis), True, 3),
        ("rmse_valence", (error,), lambda part, axis: np.sqrt((part**2).mean(axis)), True, 3),
        ("macro_f1", (true, guess), macro_f1, False, 1),
        ("auc", (np.arange(faces),), auc, False, 1),
    ):
        seconds, result = _measure(_scipy(data, statistic, vectorised), repeats=repeats)
        low, high = result.confidence_interval
        print(
            f"| scipy, {name} alone | {seconds:.2f} | {low:.4f} to {high:.4f}, "
            f"ours {found[name].low:.4f} to {found[name].high:.4f} |"
        )


def _scipy(data: Any, statistic: Any, vectorised: bool) -> Callable[[], Any]:
    return lambda: stats.bootstrap(
        data,
        statistic,
        method="percentile",
        paired=True,
        vectorized=vectorised,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(0),
    )


def _measure(work: Callable[[], Any], *, repeats: int = 3) -> tuple[float, Any]:
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def _draw(faces: int) -> tuple[tuple[Predictions, Predictions], Labels]:
    rng, means = np.random.default_rng(0), np.array(CLASS_MEAN_VA)
    true = rng.integers(0, 8, faces)
    affect = np.clip(means[true] + rng.normal(0, 0.16, (faces, 2)), -1, 1).astype(np.float32)

    def predict() -> Predictions:
        logits = rng.normal(0, 1.3, (faces, 8))
        logits[np.arange(faces), true] += 2
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return Predictions(scores.astype(np.float32), (scores @ means).astype(np.float32))

    return (predict(), predict()), Labels(true, affect)


if __name__ == "__main__":
    main()
