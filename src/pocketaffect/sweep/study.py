"""One study for each question asked: named by a digest of all that decides what a trial's score means.

The same settings go on with the same study; changed ones are refused with the difference, or begin another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import optuna
from optuna import Study
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from pocketaffect import paths
from pocketaffect.config import Params, list_networks
from pocketaffect.data.shards.split import read_summary
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, hash_json
from pocketaffect.precisions import AUTO, PRECISIONS
from pocketaffect.provenance.code import hash_code
from pocketaffect.registry.lineage.lineage import digest_file
from pocketaffect.registry.store.runs import flatten
from pocketaffect.sweep.internals import order_studies
from pocketaffect.sweep.space import FURTHER, SECTIONS

Direction = Literal["minimize", "maximize"]

FEWEST_FINALISTS: Final = 3
"""Fewer pairs have no correlation to speak of."""

SETTINGS_ATTRIBUTE: Final = "settings"
TRIAL: Final = ("pocketaffect.arithmetic", "pocketaffect.sweep.objective", "pocketaffect.sweep.budget")
"""Modules that a trial's suggestion, bytes and score come from."""

ASIDE: Final = frozenset({"trials", "workers", "executor", "storage"})
"""Keys of `sweep` that may change while a study goes on."""

ADOPTED: Final = frozenset({"train.epochs", "export.budget_bytes"})
"""Settings that `adopt` writes beside the searched ones."""

PLACES: Final = frozenset({"train.executor"})
"""Settings that no trial looks at."""

REDUCTION: Final = 3
"""Reduction factor of Hyperband and ASHA: of this many trials that reach an epoch, one goes on."""


@dataclass(frozen=True)
class Question:
    """What a study asks.

    Its settings, by dotted name, are everything that decides which trials there can be and how they are scored.
    """

    settings: Mapping[str, Any]
    prefix: str

    @property
    def name(self) -> str:
        """The study's name, unless another study had to be begun for the same question."""
        return f"{self.prefix}-{hash_json(self.settings)[:12]}"

    def find_same(self, names: Iterable[str]) -> list[str]:
        """Finds the studies that ask this question, oldest first."""
        return [name for name in names if name == self.name or name.startswith(f"{self.name}-")]


def ask_question(params: Params, root: Path = Path()) -> Question:
    """Reads the question that params.yaml, the data and this code ask.

    Raises:
        PocketAffectError: There is no validated data yet.
    """
    import torch

    manifest = root / paths.MANIFEST_TABLE
    if not manifest.is_file():
        raise PocketAffectError(f"{manifest}: no such file", todo="dvc repro preprocess")
    content = params.model_dump(by_alias=True, mode="json")
    sweep = {key: value for key, value in content["sweep"].items() if key not in ASIDE}
    space = sweep.pop("space")
    settings = {f"sweep.{key}": value for key, value in sweep.items()}
    settings |= {f"sweep.space.{key}": value for key, value in space.items()}
    crops = {f"preprocess.{key}": content["preprocess"][key] for key in ("margin", "align", "shard_images", "colour")}
    fixed = {**crops, **{name: content[name.split(".")[0]][name.split(".")[1]] for name in FURTHER}}
    for section in SECTIONS:
        fixed |= flatten(content[section], f"{section}.")
    settings |= {key: value for key, value in fixed.items() if key not in space and key not in ADOPTED | PLACES}
    settings["data"] = hash_file(manifest)[:16]
    for _, network in list_networks(params, searched=True):
        there = (root / network).exists()  # if not, the training will say so
        settings[f"content of {network}"] = digest_file(root / network)[:16] if there else "missing"
    settings["code"] = hash_code(*TRIAL)[:16]
    settings["torch"] = str(torch.__version__)
    return Question(settings, re.sub(r"[^A-Za-z0-9_.-]", "-", params.register_.model_name))


def open_study(storage: BaseStorage, question: Question, params: Params, *, new: bool = False) -> Study:
    """Opens the study of the question: the one there is, or a new one.

    Raises:
        PocketAffectError: The last study asked another question, and `new` was not said; each difference is named.
    """
    present = _studies(storage, question.prefix)
    same = question.find_same(present)
    if same and not new:
        name = same[-1]
    else:
        begun = [name for name in present if storage.get_n_trials(storage.get_study_id_from_name(name))]
        if begun and not new:
            raise _refuse_change(begun[-1], present[begun[-1]], question)
        name = _next_name(question.name, same)
    directions: list[Direction] = ["maximize"]
    if params.sweep.objectives == "score-and-bytes":
        directions.append("minimize")
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=directions,
        sampler=make_sampler(params.sweep.sampler, params.sweep.seed, 0),
        pruner=make_pruner(params.sweep.pruner, params.sweep.epochs, params.train.warmup_epochs),
        load_if_exists=True,
    )
    if SETTINGS_ATTRIBUTE not in study.user_attrs:
        study.set_user_attr(SETTINGS_ATTRIBUTE, dict(question.settings))
    if study.metric_names is None:
        study.set_metric_names(["score", "bytes"][: len(directions)])  # else a dashboard says Objective 0
    return study


def _next_name(name: str, same: Sequence[str]) -> str:
    """Finds a name that none of the studies of this question has, also where the user deleted some of them."""
    numbers = [int(one.removeprefix(name)[1:] or 1) for one in same]
    return f"{name}-{max(numbers) + 1}" if numbers else name


def find_study(storage: BaseStorage, question: Question) -> Study:
    """Finds the study to look at: that of the question, else the last one begun.

    Raises:
        PocketAffectError: There is none.
    """
    present = _studies(storage, question.prefix)
    if not present:
        raise PocketAffectError("no sweep yet", todo="pocketaffect sweep")
    return optuna.load_study(study_name=(question.find_same(present) or list(present))[-1], storage=storage)


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Writes a line for each setting that differs."""
    missing = "nothing"
    return [
        f"{name}: {before.get(name, missing)} -> {now.get(name, missing)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, missing) != now.get(name, missing)
    ]


def make_sampler(name: str, seed: int, trial: int) -> BaseSampler:
    """Makes the sampler for one trial, seeded by its number: a killed sweep goes on with the same suggestions."""
    own = (seed * 1_000_003 + trial) % 2**32
    if name == "gp":
        return optuna.samplers.GPSampler(seed=own, deterministic_objective=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=own, population_size=20)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own, multivariate=True, constant_liar=True)


def make_pruner(name: str, epochs: int, warmup_epochs: float) -> BasePruner:
    """Makes the pruner, whose resource is the epoch.

    It judges from a quarter of the training on, and never by the first epoch or one in which learning rates warm up:
    what learns slowly at first is not yet behind.
    """
    first = max(2, epochs // 4, math.ceil(warmup_epochs) + 1)  # an int: Optuna takes a float for no number at all
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=max(first, epochs), reduction_factor=REDUCTION
        )
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
    return optuna.pruners.NopPruner()


def count_finalists(trials: int) -> int:
    """Counts the trials that train on all faces where `sweep.faces` has the others train on a part: a fifth."""
    return max(FEWEST_FINALISTS, trials // 5)


def require_faces(params: Params, root: Path) -> None:
    """Refuses a part of the faces that is none.

    Raises:
        PocketAffectError: `sweep.faces` are no fewer than there are to train on.
    """
    faces = params.sweep.faces
    if faces is not None and faces >= (there := int(read_summary(root / paths.SHARDS)["images"]["train"])):
        raise PocketAffectError(
            "params.yaml: sweep.faces: no part of the faces to train on",
            found=f"{faces:,} of {there:,}",
            allowed=f"2 to {there - 1:,}, or null for all",
        )


def require_consistent(params: Params) -> None:
    """Refuses what no study can be made of.

    Raises:
        PocketAffectError: Pruning with two objectives, trainings of several processes, too few trials for a part of the
            faces, or a fixed precision whose bytes nobody knows beforehand.
    """
    sweep = params.sweep
    if sweep.objectives == "score-and-bytes" and sweep.pruner != "none":
        raise PocketAffectError(
            "params.yaml: sweep.pruner: Optuna prunes by one objective alone",
            found=f"{sweep.pruner}, with sweep.objectives: {sweep.objectives}",
            allowed="sweep.pruner: none, or sweep.objectives: score",
        )
    if sweep.faces is not None and sweep.trials <= count_finalists(sweep.trials):
        raise PocketAffectError(
            "params.yaml: sweep.trials: with sweep.faces, the last ones train on all faces what did best on a part",
            found=sweep.trials,
            allowed=f"from {FEWEST_FINALISTS + 1}",
        )
    processes = params.train.devices * params.train.nodes
    if processes > 1:
        raise PocketAffectError(
            "params.yaml: train.devices, train.nodes: each worker of a sweep trains alone",
            found=f"{processes} processes",
            allowed="1 and 1",
            todo="set both to 1, and sweep.workers to the number of processors",
        )
    if "export.precision" not in sweep.space and params.export.precision == AUTO:
        raise PocketAffectError(
            "params.yaml: export.precision: its bytes are not known before training",
            found=params.export.precision,
            allowed=", ".join(PRECISIONS),
            todo="name one of these, or search it: sweep.space.export.precision",
        )


def _studies(storage: BaseStorage, prefix: str) -> dict[str, Mapping[str, Any]]:
    """Lists names and settings of this project's studies, oldest first."""
    ours = re.compile(rf"{re.escape(prefix)}-[0-9a-f]{{12}}(-\d+)?")
    return {
        study.study_name: study.user_attrs.get(SETTINGS_ATTRIBUTE, {})
        for study in order_studies(storage)
        if ours.fullmatch(study.study_name)
    }


def _refuse_change(name: str, settings: Mapping[str, Any], question: Question) -> PocketAffectError:
    changes = "\n".join(f"           {line}" for line in describe_changes(settings, question.settings))
    return PocketAffectError(
        f"the last sweep, {name}, was of other settings, data or code: its trials cannot be compared with new ones",
        found=f"since then\n{changes}",
        todo="undo the change, or `pocketaffect sweep --new` to begin another study beside it",
    )
