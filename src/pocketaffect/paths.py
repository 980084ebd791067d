"""Where the pipeline keeps things, relative to the repository's root. `dvc.yaml` names the same places."""

from pathlib import Path
from typing import Final

SAMPLE: Final = Path("sample")
DATA: Final = Path("data")
DATA_FILE: Final = Path("data.dvc")
PIPELINE_FILE: Final = Path("dvc.yaml")
LOCK_FILE: Final = Path("dvc.lock")
PIPELINES: Final = Path("pipelines")

OUTPUTS: Final = Path("out")
MANIFEST: Final = OUTPUTS / "manifest"
SHARDS: Final = OUTPUTS / "shards"
MODEL: Final = OUTPUTS / "model"
EVALUATION: Final = OUTPUTS / "evaluation"
EXPORT: Final = OUTPUTS / "export"
REGISTERED: Final = OUTPUTS / "registered.json"

MANIFEST_TABLE: Final = MANIFEST / "manifest.parquet"
QUARANTINE_TABLE: Final = MANIFEST / "quarantine.parquet"
DROPPED_TABLE: Final = MANIFEST / "dropped.parquet"
DUPLICATES_TABLE: Final = MANIFEST / "duplicates.parquet"
EVIDENCE_TABLE: Final = MANIFEST / "evidence.parquet"
CONTRACT_SUITE: Final = MANIFEST / "suite.json"
CONTRACT_VALIDATION: Final = MANIFEST / "validation.json"
DATA_PROFILE: Final = MANIFEST / "profile.json"
CONTRACT_REPORT: Final = MANIFEST / "contract.json"
BEHAVIOUR: Final = EVALUATION / "behaviour.csv"
PACKAGE: Final = EXPORT / "PocketAffect.mlpackage"
CLASSIFIER: Final = EXPORT / "PocketAffectClassifier.mlpackage"
TWIN: Final = EXPORT / "PocketAffect.onnx"
SHIPPED_PREDICTIONS: Final = EXPORT / "predictions.parquet"
VERIFICATION: Final = EXPORT / "verification.json"

REPORTS: Final = Path("reports")
DATA_REPORT: Final = REPORTS / "data"
FACES_REPORT: Final = REPORTS / "faces"
"""Pictures hold faces of the data set: DVC keeps them, git does not."""

SCORE_REPORT: Final = REPORTS / "score"

WORK: Final = Path(".work")
"""Files that neither git nor DVC tracks: checkpoints, and what a failed stage leaves to look at."""

REFUSED_DATA: Final = WORK / "validate"
"""The report on data that broke a limit."""

CHECKPOINTS: Final = WORK / "train"
TRAINING_TIME: Final = CHECKPOINTS / "time.json"
"""When the last training began and ended, and hash of its weights: its outputs must not say it."""

SHARD_DRAFTS: Final = WORK / "preprocess"

RANKS: Final = WORK / "ranks"
"""Folder in which the processes of one training on a cluster find each other."""

SWEEP: Final = WORK / "sweep"
"""The journal of all sweeps, and a folder for each with what its workers need."""

SWEEP_REPORT: Final = REPORTS / "sweep"

WEB: Final = WORK / "web"
"""Files that the page needs from npm, fetched at set-up (`make web`)."""

STUDY: Final = Path("study")
"""Ignored by git, and nobody's scratch: what participants and listeners answered, and an imported catalogue."""

STUDY_STORE: Final = STUDY / "study.db"
STUDY_ROWS: Final = STUDY / "rows.csv"
STUDY_REPORT: Final = STUDY / "report.html"
LISTENERS: Final = STUDY / "listeners.db"
IMPORTED_CATALOGUE: Final = STUDY / "catalogue.csv"
