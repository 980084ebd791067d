"""Figures of Hewitt & Gunes 2018 (arXiv 1807.08775), to stand beside ours in a report."""

from __future__ import annotations

from typing import Final

PAPER_SOURCE: Final = "Hewitt & Gunes 2018, AffectNet validation, not this data"

PAPER_METRICS: Final[dict[str, dict[str, float]]] = {
    "AlexNet variant": {
        "accuracy": 0.56,
        "macro_f1": 0.56,
        "kappa": 0.50,
        "krippendorff_alpha": 0.50,
        "auc": 0.90,
        "aucpr": 0.61,
        "rmse_valence": 0.41,
        "rmse_arousal": 0.39,
        "corr_valence": 0.59,
        "corr_arousal": 0.53,
        "sagr_valence": 0.73,
        "sagr_arousal": 0.74,
        "ccc_valence": 0.54,
        "ccc_arousal": 0.43,
    },
    "VGGNet variant": {
        "accuracy": 0.58,
        "macro_f1": 0.58,
        "kappa": 0.52,
        "krippendorff_alpha": 0.52,
        "auc": 0.90,
        "aucpr": 0.62,
        "rmse_valence": 0.41,
        "rmse_arousal": 0.37,
        "corr_valence": 0.62,
        "corr_arousal": 0.56,
        "sagr_valence": 0.75,
        "sagr_arousal": 0.75,
        "ccc_valence": 0.57,
        "ccc_arousal": 0.48,
    },
    "MobileNet variant": {
        "accuracy": 0.56,
        "macro_f1": 0.56,
        "kappa": 0.50,
        "krippendorff_alpha": 0.50,
        "auc": 0.89,
        "aucpr": 0.60,
        "rmse_valence": 0.42,
        "rmse_arousal": 0.38,
        "corr_valence": 0.59,
        "corr_arousal": 0.53,
        "sagr_valence": 0.73,
        "sagr_arousal": 0.74,
        "ccc_valence": 0.55,
        "ccc_arousal": 0.47,
    },
}
"""Each column is a pair of networks, one per task, of up to 15 MB each."""
