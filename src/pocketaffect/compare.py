"""Finds what a run, a registered version or a folder predicted, and compares several of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.comparison import ModelComparisons, compare_models
from pocketaffect.evaluation.prediction_table import PREDICTIONS_FILE, PredictionTable, read_predictions
from pocketaffect.registry.store.store import Store, require_store
from pocketaffect.registry.store.versions import artifact_path, get_version

Form = Literal["shipped", "network"]
"""shipped: what our interpreter computes with the Core ML file; network: what PyTorch computes."""

_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_IN_RUN: Final = {"shipped": PREDICTIONS_FILE, "network": f"evaluation/{PREDICTIONS_FILE}"}
_IN_FOLDER: Final = {
    "shipped": (f"export/{PREDICTIONS_FILE}", PREDICTIONS_FILE),
    "network": (f"evaluation/{PREDICTIONS_FILE}", PREDICTIONS_FILE),
}


def compare_runs(
    runs: Sequence[str], *, form: Form, model_name: str, root: Path = Path(), resamples: int
) -> ModelComparisons:
    """Compares runs, versions, folders and files on the faces that all were judged on.

    Args:
        runs: Folders or files of predictions, ids of MLflow runs, or numbers or aliases of versions. What exists as a
            path is taken for one; `@champion` is never a path.
        form: The predictions to take from a run, version or folder; a file holds one form alone.
        model_name: The registered model.
        root: The repository with the store.
        resamples: Number of bootstrap draws.

    Raises:
        PocketAffectError: A run is not found or has no such predictions, or they are not of the same faces.
    """
    if len(runs) < 2:
        raise PocketAffectError("compare: nothing to compare with", found=", ".join(runs), allowed="two runs or more")
    finder = _Finder(form, model_name, root)
    tables: dict[str, PredictionTable] = {}
    for run in runs:
        title, table = finder.find(run)
        if title in tables:
            raise PocketAffectError("compare: the same is named twice", found=f"{run}: {title}", allowed="each once")
        tables[title] = table
    return compare_models(tables, resamples=resamples)


class _Finder:
    """Looks for predictions; opens MLflow's store when the first name asks for it."""

    def __init__(self, form: Form, model_name: str, root: Path) -> None:
        self._form, self._model_name, self._root = form, model_name, root
        self._opened: Store | None = None

    def find(self, run: str) -> tuple[str, PredictionTable]:
        """Finds a name to show, and the table."""
        path = Path(run)
        if path.is_file():
            return run, read_predictions(path)
        if path.is_dir():
            return f"{run} ({self._form})", read_predictions(self._in_folder(path))
        if "/" in run or path.suffix == ".parquet":
            raise PocketAffectError(f"{run}: no such file or folder")
        if _RUN_ID.fullmatch(run):
            return f"run {run[:8]} ({self._form})", self._read_artifact(run, f"run {run}")
        return self._find_version(run)

    def _in_folder(self, folder: Path) -> Path:
        places = [folder / name for name in _IN_FOLDER[self._form]]
        for place in places:
            if place.is_file():
                return place
        raise PocketAffectError(
            f"{folder}: no predictions of the {self._form} model",
            allowed=" or ".join(str(place) for place in places),
            todo="`dvc repro`, or name the file itself",
        )

    def _find_version(self, name: str) -> tuple[str, PredictionTable]:
        version = get_version(self._store, self._model_name, name)
        known = f"{self._model_name} version {version.version}"
        aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
        title = f"{known} ({self._form}{aliases})"
        file = artifact_path(self._store, version, _IN_RUN[self._form])
        return title, self._read_artifact(version.run_id, known) if file is None else read_predictions(file)

    def _read_artifact(self, run_id: str, title: str) -> PredictionTable:
        from mlflow.exceptions import MlflowException

        client = self._store.client()
        try:
            client.get_run(run_id)
        except MlflowException as error:
            raise PocketAffectError(
                f"{title}: no such run in this repository's MLflow store",
                found=error.message,
                allowed="a run's id, a version's number or alias, a folder or a file",
            ) from None
        with tempfile.TemporaryDirectory(prefix="pocketaffect-compare-") as scratch:
            try:
                file = Path(client.download_artifacts(run_id, _IN_RUN[self._form], scratch))
            except (MlflowException, OSError) as error:
                other = "network" if self._form == "shipped" else "shipped"
                raise PocketAffectError(
                    f"{title}: keeps no predictions of the {self._form} model ({_IN_RUN[self._form]})",
                    found=" ".join(str(error).split())[:200],
                    todo=f"try --of {other}; runs of older versions of pocketaffect kept the network's alone",
                ) from None
            return read_predictions(file)

    @property
    def _store(self) -> Store:
        self._opened = self._opened or require_store(self._root)
        return self._opened
