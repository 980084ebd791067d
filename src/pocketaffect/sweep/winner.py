"""The real package of the best trial that is fit to ship: converted, compressed, executed and weighed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError, UnfitError
from pocketaffect.files import write_json
from pocketaffect.precisions import require_usable
from pocketaffect.provenance.code import hash_code
from pocketaffect.sweep.objective import MODEL_FOLDER, Plan, prepare_params
from pocketaffect.sweep.results import TrialRow, best_first, find_front
from pocketaffect.sweep.space import Choice, Space

WINNER_FILE: Final = "winner.json"
PACKAGE_FOLDER: Final = "winner"
MOST_ATTEMPTS: Final = 5
"""Trials that are exported at most; when so many are unfit, the limits or the space are to blame."""


@dataclass(frozen=True)
class Winner:
    """What was measured of the best trial.

    Score and predicted bytes are from before the export. `agreement` is the share of validation faces that the package
    and PyTorch call the same; the balanced accuracy is the package's on that split.
    """

    trial: int
    score: float
    predicted_bytes: int
    bytes: int
    agreement: float
    balanced_accuracy: float


def require_exportable(params: Params, space: Space) -> None:
    """Refuses, before any training, a precision that the winner could not be exported in.

    Raises:
        PocketAffectError: Systems of `export.deployment_target` do not read it, or `export.finetune` is not for it.
    """
    dimension = space.get("export.precision", Choice((params.export.precision,)))
    for name in dimension.corners():
        require_usable(str(name), params.export.deployment_target, params.export.finetune)


def measure_winner(plan: Plan, rows: Sequence[TrialRow]) -> tuple[Winner | None, dict[int, str]]:
    """Exports the best trial as the pipeline's `export` stage does, or the next best where that is not fit to ship.

    Each attempt is remembered, so that a repeated call is quick; other settings or other code of the export measure
    it anew. A network that lies on another machine is trained again: the seed makes it the same.

    Returns:
        The winner, None where `MOST_ATTEMPTS` trials were unfit; and why each better trial was, by its number.
    """
    attempts = _read_attempts(plan.folder)
    unfit: dict[int, str] = {}
    for _ in range(MOST_ATTEMPTS):
        row = next(iter(best_first(rows, unfit)), None)
        if row is None:
            break
        made_from = {
            "trial": row.number,
            "export": prepare_params(plan.params, dict(row.settings)).export.model_dump(mode="json"),
            "sources": hash_code("pocketaffect.export.export"),
        }
        attempt = next((one for one in attempts if one["made_from"] == made_from), None)
        if attempt is None:
            attempt = {"made_from": made_from, "winner": None, "problem": ""}
            try:
                attempt["winner"] = asdict(_export(plan, row))
            except UnfitError as error:
                attempt["problem"] = error.in_one_line()
            attempts.append(attempt)
            write_json(plan.folder / WINNER_FILE, {"attempts": attempts})
        if attempt["winner"] is not None:
            return Winner(**attempt["winner"]), unfit
        unfit[row.number] = attempt["problem"]
    return None, unfit


def refuse_all(unfit: Mapping[int, str]) -> PocketAffectError:
    """Makes the error for trials none of whose packages is fit to ship."""
    return PocketAffectError(
        f"sweep: the packages of the best {len(unfit)} trials are not fit to ship",
        found="".join(f"\n           trial {number}: {problem}" for number, problem in unfit.items()),
        allowed="the limits under export in params.yaml",
        todo="search another export.precision in sweep.space, or change the limits",
    )


def read_unfit(folder: Path) -> dict[int, str]:
    """Reads which trials of the study in a folder had no package fit to ship when last exported, and why."""
    last = {one["made_from"]["trial"]: one for one in _read_attempts(folder)}
    return {trial: one["problem"] for trial, one in last.items() if one["winner"] is None}


def _read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Reads what earlier calls exported; version 0.1 kept the winner alone, which is exported again."""
    file = folder / WINNER_FILE
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return list(content.get("attempts", []))


def tidy_trials(plan: Plan, rows: Sequence[TrialRow], winner: Winner) -> None:
    """Removes the networks of trials that neither won nor stand on the front; the seed could make them again."""
    won = [row for row in rows if row.number == winner.trial]
    kept = {plan.trial_folder(row.first) for row in (*won, *find_front(rows))}
    for folder in (plan.folder / "trials").glob("*"):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _export(plan: Plan, row: TrialRow) -> Winner:
    from pocketaffect.data.shards.split import open_choosing, open_split
    from pocketaffect.export.export import export_network
    from pocketaffect.models.network import WEIGHTS_FILE, load_network
    from pocketaffect.provenance.origin import describe_origin
    from pocketaffect.sweep.shards import ensure_shards
    from pocketaffect.training.fit import train_network

    params = prepare_params(plan.params, dict(row.settings))
    shards = ensure_shards(params, plan.params.preprocess.image_size, plan.root)
    folder = plan.trial_folder(row.first)
    model = folder / MODEL_FOLDER
    if not (model / WEIGHTS_FILE).is_file():
        train_network(shards, params.model, params.train, work=folder / "work", target=model, progress=False)
    verification = export_network(
        load_network(model),
        open_split(shards, "train"),
        open_choosing(shards),
        open_split(shards, "validation"),
        export=params.export,
        train=params.train,
        margin=params.preprocess.margin,
        lineage=describe_origin(params, plan.root),
        target=plan.folder / PACKAGE_FOLDER,
        rejects=plan.folder / "rejected",
    )
    return Winner(
        trial=row.number,
        score=row.score or 0.0,
        predicted_bytes=row.bytes or 0,
        bytes=verification.package_bytes,
        agreement=verification.shipped.agreement,
        balanced_accuracy=verification.shipped_quality.balanced_accuracy,
    )
