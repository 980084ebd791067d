"""Scores a model on labelled data, by the boxes that the data gives and by our own detector: the outside measure."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pocketaffect.config import ValidateParams
from pocketaffect.data.contract.check import ContractResult, check_contract
from pocketaffect.data.faces.crop import FaceBox, crop_face
from pocketaffect.data.faces.images import RGB, decode_image
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.progress import show_progress
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.evaluate import Evaluation, evaluate_predictions
from pocketaffect.evaluation.intervals import bootstrap_metrics
from pocketaffect.evaluation.judge import write_evaluation, write_report
from pocketaffect.evaluation.metrics import METRIC_TITLES
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.slices import Groups, group_faces, slice_metrics
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.files import to_plain, write_atomically, write_json
from pocketaffect.labels import BOX_COLUMNS, DERIVED_VA, PLACE_COLUMNS, VALENCE_AROUSAL
from pocketaffect.names import show_name
from pocketaffect.predict.models import AffectModel
from pocketaffect.predict.reader import AffectReader
from pocketaffect.predict.tracks import LEAST_OVERLAP, overlap
from pocketaffect.tables import render_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

GIVEN: Final = "given-box"
DETECTED: Final = "own-detector"
WAYS: Final = (GIVEN, DETECTED)
"""Ways to find the face of a picture: by the data's box, or the whole picture where it gives none; or as `predict`."""

FACES_AT_ONCE: Final = 256
SOURCES: Final = "folder"
MOST_SOURCES: Final = 24
"""More folders than that are no sources to slice by, as in AffectNet."""

NOTHING_REFUSED: Final = ValidateParams(
    max_quarantine_fraction=1, min_validation_per_class=0, near_duplicate_distance=-1, profile="none", max_drift=1
)


@dataclass(frozen=True)
class Score:
    """What one of WAYS gave, and the predictions that it is of.

    `missed` pictures have a face in the data where none was found; they are in no metric.
    """

    way: str
    missed: int
    evaluation: Evaluation
    table: PredictionTable

    @property
    def found(self) -> float:
        """Share of the faces that were found."""
        return len(self.table.paths) / (len(self.table.paths) + self.missed)


@dataclass(frozen=True)
class ScoreReport:
    """A model's scores on a data set, one for each way that found a face, and the folder with all that was written."""

    facts: dict[str, str]
    scores: tuple[Score, ...]
    folder: Path

    def to_text(self) -> str:
        """Writes the facts; each way's metrics with 95 % intervals beside the constant floor; accuracy by source."""
        lines = [f"{name}: {value}" for name, value in self.facts.items()]
        for score in self.scores:
            intervals, floor = score.evaluation.intervals, score.evaluation.floors["constant"]
            rows = [[score.way, "", "95 %", "constant"], ["faces found", f"{score.found:.3f}", "", ""]]
            for name, value in score.evaluation.metrics.items():
                between = f"{intervals[name].low:.3f} to {intervals[name].high:.3f}" if name in intervals else ""
                rows.append(
                    [METRIC_TITLES[name], f"{value:.3f}", between, f"{floor[name]:.3f}" if name in floor else ""]
                )
            for part in score.evaluation.slices:
                if part.kind == SOURCES and part.accuracy is not None:
                    between = f"{part.low:.3f} to {part.high:.3f}"
                    rows.append([f"Accuracy, {part.name}", f"{part.accuracy:.3f}", between, ""])
            lines += ["", render_table(rows, "lr")]
        return "\n".join([*lines, "", *(f"{self.folder / score.way / 'report.html'}" for score in self.scores)])


def score_model(
    model: str,
    data: Path,
    *,
    split: Literal["train", "validation", "all"],
    ways: tuple[str, ...],
    target: Path,
    resamples: int,
    threads: int = 1,
    root: Path = Path(),
) -> ScoreReport:
    """Runs a model on the labelled faces of a data set, and writes metrics, tables and a page for each way.

    Every row is held to the data contract; rows that break it are counted, and are in no metric. Pictures are decoded
    in full and cut as `predict` cuts them. Nothing is registered. `target` is replaced as a whole; floors come from the
    training rows.

    Raises:
        PocketAffectError: No such model, no known layout, or no row to judge that has a label.
    """
    reader = AffectReader(model, threads=threads, root=root)
    annotations = read_annotations(DataFolder.open(data))
    with show_progress("pictures looked at", len(annotations.rows)) as progress:
        workers = min(2, os.cpu_count() or 1)
        probes = probe_images(data, annotations.rows, workers=workers, progress=progress)
    result = check_contract(annotations, probes, NOTHING_REFUSED, None)
    kept, training = result.kept, result.kept[(result.kept["split"] == "train").to_numpy()]
    if split != "all":
        kept = kept[(kept["split"] == split).to_numpy()].reset_index(drop=True)
    labels = _read_labels(kept)
    if not (labels.has_expression.any() or labels.has_valence_arousal.any()):
        raise PocketAffectError(
            f"{data}: no face to score by in the {split} rows",
            found=f"{len(kept):,} rows without a label; {len(result.quarantine):,} break the data contract",
            allowed="at least one row with one of the eight expressions, or with valence and arousal",
        )
    floors = _read_labels(training) if len(training) else labels
    scores = []
    for way in ways:
        found, predictions = (_read_given if way == GIVEN else _read_detected)(reader, data, kept)
        if not len(predictions):
            logger.warning("%s: no face was found", way)
            continue
        scores.append(_judge(way, found, predictions, kept, floors, resamples))
    report = ScoreReport(_describe(reader.model, data, split, kept, result), tuple(scores), target)
    _write(report)
    return report


def _read_labels(rows: pd.DataFrame) -> Labels:
    return Labels(rows["expression"].to_numpy(np.int64), rows[list(VALENCE_AROUSAL)].to_numpy(np.float32))


def _open_pictures(data: Path, rows: pd.DataFrame) -> Iterator[RGB]:
    with show_progress("faces", len(rows)) as progress:
        for place in rows[list(PLACE_COLUMNS)].itertuples(index=False):
            yield decode_image(read_place(data, Place(*place))).pixels
            progress(1)


def _read_boxes(rows: pd.DataFrame) -> list[FaceBox | None]:
    boxes = rows[list(BOX_COLUMNS)].to_numpy(np.float64)
    return [FaceBox(*box.tolist()) if np.isfinite(box).all() else None for box in boxes]


def _read_given(reader: AffectReader, data: Path, rows: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], Predictions]:
    """Reads every face by the data's box, cut as in training; the whole picture where there is none."""
    model, parts = reader.model, []
    pictures = zip(_open_pictures(data, rows), _read_boxes(rows), strict=True)
    while some := list(itertools.islice(pictures, FACES_AT_ONCE)):
        parts.append(model.predict(np.stack([crop_face(*each, margin=model.margin, size=model.size) for each in some])))
    probabilities, affect = ([getattr(part, name) for part in parts] for name in ("probabilities", "valence_arousal"))
    return np.ones(len(rows), bool), Predictions(np.concatenate(probabilities), np.concatenate(affect))


def _read_detected(reader: AffectReader, data: Path, rows: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], Predictions]:
    """Reads the faces that `predict` finds: the one that lies on the data's box, the largest where it gives none."""
    chosen = []
    for faces, given in zip(reader.read_many(_open_pictures(data, rows)), _read_boxes(rows), strict=True):
        near = [(overlap(face.box, given), face) for face in faces if face.box is not None and given is not None]
        share, best = max(near, key=lambda one: one[0], default=(1.0, faces[0] if faces and given is None else None))
        chosen.append(best if share >= LEAST_OVERLAP else None)
    found = [face for face in chosen if face is not None]
    probabilities = np.array([list(face.probabilities.values()) for face in found], np.float32).reshape(-1, 8)
    affect = np.array([(face.valence, face.arousal) for face in found], np.float32).reshape(-1, 2)
    return np.array([face is not None for face in chosen]), Predictions(probabilities, affect)


def _judge(
    way: str, found: npt.NDArray[np.bool_], predictions: Predictions, rows: pd.DataFrame, floors: Labels, resamples: int
) -> Score:
    judged = rows[found].reset_index(drop=True)
    labels = _read_labels(judged)
    evaluation = replace(
        evaluate_predictions(predictions, labels, floors),
        intervals=bootstrap_metrics(predictions, labels, resamples=resamples),
        slices=slice_metrics(predictions, labels, _group(judged)),
    )
    table = PredictionTable(tuple(map(show_name, judged["path"])), predictions, labels)
    return Score(way, int((~found).sum()), evaluation, table)


def _group(rows: pd.DataFrame) -> Groups:
    sides = rows[list(BOX_COLUMNS[2:])].to_numpy(np.float64).min(axis=1)
    whole = rows[["image_width", "image_height"]].to_numpy(np.float64).min(axis=1)
    groups = group_faces(
        rows["list"].astype(str).tolist(), np.where(np.isfinite(sides), sides, whole), rows["warnings"].tolist()
    )
    sources = _name_sources(rows["path"].tolist())
    known = sorted(set(sources))
    if 1 < len(known) <= MOST_SOURCES:
        groups = {SOURCES: {name: np.array([one == name for one in sources]) for name in known}, **groups}
    return groups


def _name_sources(paths: list[str]) -> list[str]:
    """Names the first folder in which the paths differ; a dot where a path has none there."""
    folders = [path.split("/")[:-1] for path in paths]
    depth = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False)))
    return ["/".join(parts[: depth + 1]) or "." for parts in folders]


def _describe(model: AffectModel, data: Path, split: str, rows: pd.DataFrame, result: ContractResult) -> dict[str, str]:
    return {
        "model": model.title,
        "trained on": model.trained_on or "not known",
        "data": show_name(data.name),
        "rows": f"{len(rows):,} ({split}); {len(result.quarantine):,} break the data contract, "
        f"{len(result.dropped):,} have no label to judge by",
        **({"labels": DERIVED_VA} if result.derived_va else {}),
    }


def _write(report: ScoreReport) -> None:
    with write_atomically(report.folder) as draft:
        draft.mkdir()
        summary: dict[str, Any] = {"facts": report.facts}
        for score in report.scores:
            write_evaluation(score.evaluation, score.table, draft / score.way)
            facts = report.facts | {"faces": f"{score.way}, {score.found:.1%} found"}
            title = f"{report.facts['model']} on {report.facts['data']}"
            write_report(draft / score.way / "report.html", score.evaluation, score.table, facts=facts, title=title)
            values = {"found": score.found, "missed": score.missed, "metrics": score.evaluation.metrics}
            summary[score.way] = to_plain(values | {"intervals": score.evaluation.intervals})
        write_json(draft / "score.json", summary)


def log_report(model: str, report: ScoreReport, *, root: Path = Path()) -> str:
    """Adds the report to the run of the model's version, and says its title and the place among the run's artifacts.

    Raises:
        PocketAffectError: There is no store, or the model is no registered version, nor the package of one.
    """
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.registry.lineage.lineage import digest_file
    from pocketaffect.registry.store.store import require_store
    from pocketaffect.registry.store.versions import find_version, get_version

    store, name = require_store(root, to_write=True), load_params(root / PARAMS_FILE).register_.model_name
    path = Path(model)
    version = find_version(store, name, digest_file(path)) if path.exists() else get_version(store, name, model)
    if version is None:
        raise PocketAffectError(
            f"{model}: not the package of a registered version", todo="name a version, or leave --log out"
        )
    place = f"score/{report.facts['data']}"
    store.client().log_artifacts(version.run_id, str(report.folder), place)
    return f"{version.model_name} version {version.version}: {place}"
