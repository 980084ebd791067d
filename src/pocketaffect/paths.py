"""Where the pipeline keeps things, relative to the repository's root. `dvc.yaml` names the same places."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLE: Final = Path("sample")
DATA: Final = Path("data")
DATA_FILE: Final = Path("data.dvc")
LOCK_FILE: Final = Path("dvc.lock")

OUTPUTS: Final = Path("out")
MANIFEST: Final = OUTPUTS / "manifest"
SHARDS: Final = OUTPUTS / "shards"
MODEL: Final = OUTPUTS / "model"
EVALUATION: Final = OUTPUTS / "evaluation"
EXPORT: Final = OUTPUTS / "export"
REGISTERED: Final = OUTPUTS / "registered.json"

MANIFEST_TABLE: Final = MANIFEST / "manifest.parquet"
QUARANTINE_TABLE: Final = MANIFEST / "quarantine.parquet"
CONTRACT_REPORT: Final = MANIFEST / "contract.json"
PACKAGE: Final = EXPORT / "PocketAffect.mlpackage"
VERIFICATION: Final = EXPORT / "verification.json"

WORK: Final = Path(".work")
"""Not tracked by git or DVC: checkpoints, and what a failed stage leaves to look at."""

CHECKPOINTS: Final = WORK / "train"
