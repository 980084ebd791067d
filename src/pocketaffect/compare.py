"""Compares what runs, registered versions and folders predicted, each with the first, as numbers and as text."""

from __future__ import annotations

import functools
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Comparison, compare_predictions
from pocketaffect.evaluation.metrics import METRIC_TITLES, list_missing
from pocketaffect.evaluation.prediction_table import PREDICTIONS_FILE, PredictionTable, match_rows, read_predictions
from pocketaffect.files import to_plain
from pocketaffect.registry.store.store import Store, require_store
from pocketaffect.registry.store.versions import artifact_path, get_version
from pocketaffect.tables import render_table

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

    A run is a folder or file of predictions, the id of an MLflow run, or the number or alias of a version of
    `model_name`. What exists as a path is taken for one; `@champion` is never a path. A file holds one form alone.

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
        if found := [place for place in places if place.is_file()]:
            return found[0]
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

    @functools.cached_property
    def _store(self) -> Store:
        return require_store(self._root)


@dataclass(frozen=True)
class ModelComparison:
    """One model against the first: each metric, where `ours` is this model's and `theirs` the first's.

    `same_class` is the share of all faces that both give the same class.
    """

    name: str
    metrics: Mapping[str, Comparison]
    same_class: float

    def to_dict(self) -> dict[str, Any]:
        """Gives the comparison as JSON's types; a metric without an interval stands beside `metrics`."""
        pairs = {name: {"first": row.theirs, "this": row.ours} for name, row in self.metrics.items()}
        full = {
            name: pairs.pop(name)
            | {"difference": row.difference, "low": row.low, "high": row.high, "verdict": row.verdict}
            for name, row in self.metrics.items()
            if math.isfinite(row.low)
        }
        return {"same_class": self.same_class, "metrics": full, **pairs}


@dataclass(frozen=True)
class ModelComparisons:
    """Models against the first, on the same faces, labelled or not; `resamples` draws are behind the intervals."""

    first: str
    faces: int
    expression_rows: int
    valence_arousal_rows: int
    resamples: int
    others: tuple[ModelComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON's types, rounded."""
        others = {other.name: other.to_dict() for other in self.others}
        plain: dict[str, Any] = to_plain(
            {"first": self.first, "faces": self.faces, "resamples": self.resamples, "others": others}
        )
        return plain

    def to_text(self) -> str:
        """Renders a table for each model but the first."""
        lines = [
            f"{self.faces:,} faces: {self.expression_rows:,} with an expression, "
            f"{self.valence_arousal_rows:,} with valence and arousal",
            f"first: {self.first}",
        ]
        for other in self.others:
            rows = [("", "first", "this", "difference", "95 % interval", "")]
            rows += [
                (title, *_describe(other.metrics[name]))
                for name, title in METRIC_TITLES.items()
                if name in other.metrics
            ]
            lines += [
                "",
                f"{other.name}, against the first (the same class for {other.same_class:.1%} of the faces)",
                render_table(rows, "lrrrll"),
            ]
        if self.others and (missing := list_missing(self.others[0].metrics)):
            lines += ["", f"not measured, since no face has the labels: {', '.join(missing)}"]
        lines += [
            "",
            f"↓ less is better. Intervals of the difference: {self.resamples:,} draws of faces, the same for both.",
            "An interval that holds 0 decides nothing. Of twenty metrics in which two models are equal, one looks",
            "otherwise. Intervals say what other faces would change, not what another training would.",
        ]
        return "\n".join(lines)


def _describe(row: Comparison) -> tuple[str, str, str, str, str]:
    verdict = "" if row.verdict == "undecided" else row.verdict
    interval = f"{row.low:+.3f} to {row.high:+.3f}" if math.isfinite(row.low) else ""
    return f"{row.theirs:.3f}", f"{row.ours:.3f}", f"{row.difference:+.3f}", interval, verdict


def compare_models(tables: Mapping[str, PredictionTable], *, resamples: int) -> ModelComparisons:
    """Compares every model, by its name, with the first, on the same draws of the same faces.

    Raises:
        PocketAffectError: Other faces or labels.
    """
    first, *others = match_rows(tables)
    first_name, *names = tables
    labels = first.labels
    return ModelComparisons(
        first=first_name,
        faces=len(labels),
        expression_rows=int(labels.has_expression.sum()),
        valence_arousal_rows=int(labels.has_valence_arousal.sum()),
        resamples=resamples,
        others=tuple(
            ModelComparison(
                name,
                compare_predictions(other.predictions, first.predictions, labels, resamples=resamples),
                float((other.predictions.expression == first.predictions.expression).mean()),
            )
            for name, other in zip(names, others, strict=True)
        ),
    )
