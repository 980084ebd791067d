"""The best trial's real package: converted, compressed, executed against PyTorch, and weighed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.files import write_atomically, write_json
from pocketaffect.provenance.code import hash_code
from pocketaffect.sweep.objective import MODEL_FOLDER, Plan, prepare_params
from pocketaffect.sweep.results import TrialRow, best_first, find_front
from pocketaffect.sweep.space import Choice, Space

WINNER_FILE: Final = "winner.json"
PACKAGE_FOLDER: Final = "winner"


@dataclass(frozen=True)
class Winner:
    """What was measured of the best trial.

    Attributes:
        trial: Its number.
        score: While it trained, in PyTorch.
        predicted_bytes: Before the training.
        bytes: Of the package.
        agreement: Share of validation faces that the package and PyTorch call the same.
        balanced_accuracy: Of the package on the validation split.
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
    from pocketaffect.export.tune import require_suited
    from pocketaffect.precisions import find_precision, require_readable

    dimension = space.dimensions.get("export.precision", Choice((params.export.precision,)))
    for name in dimension.corners():
        export = params.export.model_copy(update={"precision": name})
        require_readable(find_precision(str(name)), export.deployment_target)
        require_suited(export)


def measure_winner(plan: Plan, rows: Sequence[TrialRow]) -> Winner:
    """Exports the best trial as the pipeline's `export` stage does; remembers it, so that a repeated call is quick.

    Other settings or other code of the export measure it anew. A network that lies on another machine is trained again:
    the seed makes it the same.

    Raises:
        PocketAffectError: The package is over the budget, or not fit to ship; the message has value and limit.
    """
    row = best_first(rows)[0]
    known = plan.folder / WINNER_FILE
    made_from = {
        "trial": row.number,
        "export": prepare_params(plan.params, dict(row.settings)).export.model_dump(mode="json"),
        "sources": hash_code("pocketaffect.export.export", "pocketaffect.export.tune"),
    }
    if known.is_file():
        content = json.loads(known.read_text(encoding="utf-8"))
        if content.get("made_from") == made_from:
            return Winner(**content["winner"])
    winner = _export(plan, row)
    write_json(known, {"made_from": made_from, "winner": asdict(winner)})
    return winner


def tidy_trials(plan: Plan, rows: Sequence[TrialRow]) -> None:
    """Removes the networks of trials that neither won nor stand on the front; the seed could make them again."""
    kept = {plan.trial_folder(row.first) for row in (*best_first(rows)[:1], *find_front(rows))}
    for folder in (plan.folder / "trials").glob("*"):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _export(plan: Plan, row: TrialRow) -> Winner:
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.export.export import export_network
    from pocketaffect.export.tune import finetune_for_export
    from pocketaffect.mlpackage.package import package_bytes
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
    network = load_network(model)
    finetuned = finetune_for_export(network, open_split(shards, "train"), params.export, params.train)
    with write_atomically(plan.folder / PACKAGE_FOLDER) as draft:
        draft.mkdir()
        verification = export_network(
            network,
            open_split(shards, "validation"),
            params.export,
            margin=params.preprocess.margin,
            lineage=describe_origin(params, plan.root),
            folder=draft,
            rejects=plan.folder / "rejected",
            finetuned=finetuned,
        )
        size = package_bytes(draft / paths.PACKAGE.name)
    return Winner(
        trial=row.number,
        score=row.score or 0.0,
        predicted_bytes=row.bytes or 0,
        bytes=size,
        agreement=verification.shipped.agreement,
        balanced_accuracy=verification.shipped_quality.balanced_accuracy,
    )
