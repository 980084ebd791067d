"""What one trial does: a suggestion, its costs, and, where these fit the budgets, a training and its score."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.trial import TrialState

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.recipes import Value, apply_settings
from pocketaffect.sweep.internals import read_trial
from pocketaffect.sweep.space import Space, suggest_settings

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

SETTINGS: Final = "settings"
BYTES: Final = "bytes"
MACS: Final = "macs"
EPOCHS: Final = "epochs"
FACES: Final = "faces"
PART: Final = "part"
SECONDS: Final = "seconds"
REPEATS: Final = "repeats"
OVER_BUDGET: Final = "over_budget"
ERROR: Final = "error"
WORKER: Final = "worker"
DEATHS: Final = "deaths"
"""Attributes of a trial. `FACES` says how many it trained on, if not on all; `PART` the trial of the same settings that
trained on a part before it; the last two, the worker that has it, and how many workers died of it, or during it."""

HISTORY: Final = "retry_history"
"""Optuna's own attribute for the numbers of the trials that a trial repeats."""

WORST_SCORE: Final = -math.inf
"""Score of a trial over the budget, which the constraint marks. Plots leave it out, where a number would flatten them,
and a Gaussian process takes the worst score that was trained: under a synthetic budget 40 trials of `gp` found .875
(mean of 8 seeds) where -0.5, the score's worst, gave .864; `tpe` reads the constraint alone and was the same. Pruned
trials `gp` does not see at all."""

MODEL_FOLDER: Final = "model"


@dataclass(frozen=True)
class Plan:
    """What every worker of a sweep must know; it is pickled to them.

    The settings are those when the sweep began, and `root` is absolute; `train` is another function for a look at the
    machinery alone.
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
    from pocketaffect.sweep.budget import measure_excess, predict_cost

    settings = suggest_settings(plan.space, trial)
    trial.set_user_attr(SETTINGS, settings)
    params = prepare_params(plan.params, settings)
    cost = predict_cost(params)
    trial.set_user_attr(BYTES, cost.bytes)
    trial.set_user_attr(MACS, cost.macs)
    excess = measure_excess(cost, plan.params.sweep)
    for name, share in excess.items():
        trial.set_constraint(name, share)
    if over := [name for name, share in excess.items() if share > 0]:
        trial.set_user_attr(OVER_BUDGET, over)
        return _values(plan, WORST_SCORE, cost.bytes)
    whole = plan.params.sweep.faces is None or PART in trial.user_attrs
    if not whole:
        trial.set_user_attr(FACES, plan.params.sweep.faces)
    same = _find_same(study, settings, whole=whole)
    if same is not None:  # seeded throughout, it would give the same score
        trial.set_user_attr(REPEATS, same.number)
        return tuple(same.values)
    begun = time.monotonic()
    try:
        score = plan.train(plan, params, trial, plan.trial_folder(first_number(read_trial(trial))))
    finally:
        trial.set_user_attr(SECONDS, round(time.monotonic() - begun, 3))
    return _values(plan, score, cost.bytes)


def prepare_params(params: Params, settings: dict[str, Value]) -> Params:
    """Makes the pipeline's settings as a trial trains with them; what `adopt` writes to params.yaml gives the same."""
    return apply_settings(
        params,
        {**settings, "train.epochs": params.sweep.epochs, "export.budget_bytes": params.sweep.budget_bytes},
    )


def train_trial(plan: Plan, params: Params, trial: Trial, folder: Path) -> float:
    """Trains as the pipeline's `train` stage does, with the pruner listening; the highest score of an epoch."""
    from pytorch_lightning.callbacks import LambdaCallback

    from pocketaffect.data.shards.split import Part
    from pocketaffect.sweep.shards import ensure_shards
    from pocketaffect.training.fit import train_network
    from pocketaffect.training.scores import SCORE

    sweep = plan.params.sweep
    faces = trial.user_attrs.get(FACES)
    shards = ensure_shards(params, plan.params.preprocess.image_size, plan.root)
    pruner = PruneByScore(trial)
    # Optuna takes reports of one objective alone.
    listeners = [LambdaCallback(on_train_epoch_end=pruner)] if sweep.objectives == "score" else []
    try:
        history = train_network(
            shards,
            params.model,
            params.train,
            work=folder / "work",
            target=folder / MODEL_FOLDER,
            part=None if faces is None else Part(faces, sweep.seed),
            progress=False,
            callbacks=listeners,
        )
    except optuna.TrialPruned:
        trial.set_user_attr(EPOCHS, pruner.epochs)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    trial.set_user_attr(EPOCHS, len(history))
    return max(row[SCORE] for row in history)


class PruneByScore:
    """Reports each epoch's validation score to the study and ends the training when the pruner says so.

    A training that goes on from a checkpoint reports the epochs before it too. The last epoch is never pruned: it is
    paid for. Nor is a training on all faces that a part chose: its epochs are not to be compared with a part's.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.epochs = 0

    def __call__(self, trainer: Any, module: Any) -> None:
        """Reports what was just measured, as Lightning calls it at the end of an epoch.

        Raises:
            TrialPruned: The pruner gives the trial up.
        """
        from pocketaffect.training.scores import SCORE

        history = module.history
        for row in history[self.epochs :]:
            self.trial.report(row[SCORE], step=int(row["epoch"]))
        self.epochs = len(history)
        chosen = PART in self.trial.user_attrs
        if not chosen and self.epochs < (trainer.max_epochs or 0) and self.trial.should_prune():
            raise optuna.TrialPruned(f"score {history[-1][SCORE]:.3f} after epoch {self.epochs}")


def first_number(trial: FrozenTrial) -> int:
    """Finds the number that the trial had before any repetition."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def _values(plan: Plan, score: float, size: int) -> tuple[float, ...]:
    return (score,) if plan.params.sweep.objectives == "score" else (score, float(size))


def _find_same(study: Study, settings: dict[str, Value], *, whole: bool) -> FrozenTrial | None:
    """Finds a trained and finished trial of the same settings and faces."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = (trial for trial in done if REPEATS not in trial.user_attrs and whole == (FACES not in trial.user_attrs))
    return next((trial for trial in trained if trial.user_attrs.get(SETTINGS) == settings), None)
