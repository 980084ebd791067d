"""The metrics that decide as plain text. Light: it is read where torch and matplotlib would be too slow to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

METRIC_TITLES: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "worst_class_recall": "Worst class recall",
    "macro_f1": "Macro F1",
    "kappa": "Cohen's kappa",
    "krippendorff_alpha": "Krippendorff's alpha",
    "auc": "AUC, macro",
    "aucpr": "AUCPR, macro",
    "expected_calibration_error": "Calibration error ↓",
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
        lines.append(f"{title:<{width}}" + "".join(f"  {format_number(row.get(name)):>12}" for row in columns.values()))
    return "\n".join(lines)


def less_is_better(metric: str) -> bool:
    """Whether the smaller value of a metric, by its name, is the better one."""
    return METRIC_TITLES.get(metric, metric).endswith("↓")


def format_number(value: float | None) -> str:
    """Three digits after the point; "n/a" where the metric has no value."""
    return _NONE if value is None else f"{value:.3f}"
