"""What one trial does: a suggestion, its bytes, and, where these fit the budget, a training and its score."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.sweep.internals import read_trial
from pocketaffect.sweep.leases import first_number
from pocketaffect.sweep.space import Space, Value, apply_settings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

SETTINGS: Final = "settings"
BYTES: Final = "bytes"
EPOCHS: Final = "epochs"
SECONDS: Final = "seconds"
REPEATS: Final = "repeats"
OVER_BUDGET: Final = "over_budget"
ERROR: Final = "error"
"""Attributes of a trial."""

WORST_SCORE: Final = -math.inf
"""Score of a trial over the budget, which the constraint marks. Plots leave it out, where a number would flatten them,
and a Gaussian process takes the worst score that was trained: under a synthetic budget 40 trials of `gp` found .875
(mean of 8 seeds) where -0.5, the score's worst, gave .864; `tpe` reads the constraint alone and was the same. Pruned
trials `gp` does not see at all."""

MODEL_FOLDER: Final = "model"


@dataclass(frozen=True)
class Plan:
    """What every worker of a sweep must know; it is pickled to them.

    Attributes:
        params: Settings as they were when the sweep began.
        space: The search space.
        study_name: Name of the study.
        root: The repository, an absolute path.
        train: The function that trains; another one for a look at the machinery alone.
    """

    params: Params
    space: Space
    study_name: str
    root: Path
    train: Train = field(default_factory=lambda: train_trial)

    @property
    def folder(self) -> Path:
        """Folder with what the workers of this study need."""
        return self.root / paths.SWEEP / self.study_name

    def trial_folder(self, number: int) -> Path:
        """Names the folder of a trial's checkpoint and network, by the number that it had first."""
        return self.folder / "trials" / f"{number:05d}"


Train = Callable[[Plan, Params, "Trial", Path], float]
"""Trains with a trial's settings, in a folder of its own, and gives the score."""


def run_trial(plan: Plan, study: Study, trial: Trial) -> tuple[float, ...]:
    """Runs one trial.

    Returns:
        The study's values: the score, and with two objectives the bytes.

    Raises:
        TrialPruned: The training was given up.
        PocketAffectError: An impossible network, a loss that is not finite.
    """
    settings = plan.space.suggest(trial)
    trial.set_user_attr(SETTINGS, settings)
    params = prepare_params(plan.params, settings)
    size = _predict(params)
    budget = plan.params.sweep.budget_bytes
    trial.set_user_attr(BYTES, size)
    trial.set_constraint(BYTES, size - budget)
    if size > budget:
        trial.set_user_attr(OVER_BUDGET, size - budget)
        return _values(plan, WORST_SCORE, size)
    same = _find_same(study, settings)
    if same is not None:  # seeded throughout, it would give the same score
        trial.set_user_attr(REPEATS, same.number)
        return tuple(same.values)
    begun = time.monotonic()
    try:
        score = plan.train(plan, params, trial, plan.trial_folder(first_number(read_trial(trial))))
    finally:
        trial.set_user_attr(SECONDS, round(time.monotonic() - begun, 3))
    return _values(plan, score, size)


def prepare_params(params: Params, settings: dict[str, Value]) -> Params:
    """Makes the pipeline's settings as a trial trains with them; what `adopt` writes to params.yaml gives the same."""
    return apply_settings(
        params,
        {**settings, "train.epochs": params.sweep.epochs, "export.budget_bytes": params.sweep.budget_bytes},
    )


def train_trial(plan: Plan, params: Params, trial: Trial, folder: Path) -> float:
    """Trains as the pipeline's `train` stage does, with the pruner listening; the highest score of an epoch."""
    from optuna import TrialPruned

    from pocketaffect.sweep.pruning import PruneByScore
    from pocketaffect.sweep.shards import ensure_shards
    from pocketaffect.training.fit import train_network
    from pocketaffect.training.scores import SCORE

    shards = ensure_shards(params, plan.params.preprocess.image_size, plan.root)
    pruner = PruneByScore(trial)
    listeners = (pruner,) if plan.params.sweep.objectives == "score" else ()  # Optuna takes reports of one objective
    try:
        history = train_network(
            shards,
            params.model,
            params.train,
            work=folder / "work",
            target=folder / MODEL_FOLDER,
            progress=False,
            callbacks=listeners,
        )
    except TrialPruned:
        trial.set_user_attr(EPOCHS, pruner.epochs)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    trial.set_user_attr(EPOCHS, len(history))
    return max(row[SCORE] for row in history)


def _predict(params: Params) -> int:
    from pocketaffect.sweep.budget import predict_bytes

    return predict_bytes(params)


def _values(plan: Plan, score: float, size: int) -> tuple[float, ...]:
    return (score,) if plan.params.sweep.objectives == "score" else (score, float(size))


def _find_same(study: Study, settings: dict[str, Value]) -> FrozenTrial | None:
    """Finds a trained and finished trial of the same settings."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = (trial for trial in done if REPEATS not in trial.user_attrs)
    return next((trial for trial in trained if trial.user_attrs.get(SETTINGS) == settings), None)
