"""What a study teaches beside its winner: which settings mattered, and whether a part of the faces ranks as all do."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import optuna
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from pocketaffect.evaluation.intervals import Interval
from pocketaffect.sweep.objective import FACES, OVER_BUDGET, REPEATS, SETTINGS
from pocketaffect.sweep.results import TrialRow, pair_parts

FEWEST_TRIALS: Final = 10
"""Trained to the end: of fewer nobody can tell what mattered."""

DRAWS: Final = 200
"""How often the bootstrap behind each 95 % interval draws trials, by a seed of its own."""

CORRELATIONS: Final = {"Spearman": stats.spearmanr, "Kendall": stats.kendalltau}


def list_comparable(study: Study) -> list[FrozenTrial]:
    """Lists the trials whose scores can be compared: trained to the end, each once, on a part of the faces if any was.

    Trials over a budget are left out: their worst value says what is large, not what is bad.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = [one for one in done if OVER_BUDGET not in one.user_attrs and REPEATS not in one.user_attrs]
    return [one for one in trained if FACES in one.user_attrs] or trained


def measure_importance(trials: Sequence[FrozenTrial]) -> dict[str, Interval]:
    """Measures how much each setting tells the best tenth of the trials from the rest, summing to 1, most first.

    PED-ANOVA (Watanabe et al., IJCAI 2023), with the interval of a bootstrap over trials. Empty for fewer than
    `FEWEST_TRIALS`, or where all scores are equal.
    """
    if len(trials) < FEWEST_TRIALS or len({one.values[0] for one in trials}) == 1:
        return {}
    shares = _measure_shares(trials)
    draws = np.random.default_rng(0).integers(len(trials), size=(DRAWS, len(trials)))
    found = [_measure_shares([trials[place] for place in draw]) for draw in draws]
    intervals = {name: _interval(share, [one.get(name, np.nan) for one in found]) for name, share in shares.items()}
    return dict(sorted(intervals.items(), key=lambda item: -item[1].value))


def _measure_shares(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    alone = optuna.create_study(direction="maximize")
    alone.add_trials(
        [create_trial(value=one.values[0], params=one.params, distributions=one.distributions) for one in trials]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(alone, evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in shares.items()}


def describe_lessons(importance: Mapping[str, Interval], trials: Sequence[FrozenTrial]) -> list[str]:
    """Writes a sentence for each setting that mattered, and one on the others."""
    if not importance:
        return [f"Of fewer than {FEWEST_TRIALS} comparable trainings, or of equal ones, nobody can tell what mattered."]
    even = 1 / len(importance)
    clear = [name for name, share in importance.items() if share.low > even]
    best = sorted(trials, key=lambda one: -one.values[0])[: max(3, len(trials) // 10)]
    said = [
        f"{name} mattered: {_say(importance[name])} of what sets the best tenth apart, an even share being {even:.2f}; "
        f"the best {len(best)} have {_span(name, best)}, all {len(trials)} {_span(name, trials)}."
        for name in clear
    ]
    rest = [f"{name} {_say(share)}" for name, share in importance.items() if name not in clear]
    return [*said, *([f"Not told apart from an even share of {even:.2f}: {'; '.join(rest)}."] if rest else [])]


def correlate_parts(rows: Sequence[TrialRow]) -> tuple[int, dict[str, Interval]]:
    """Correlates the ranks of networks that were trained on a part of the faces and on all.

    Returns:
        How many networks; and each coefficient with the interval of a bootstrap over them, none for fewer than three.
    """
    scores = np.array([(part.score, whole.score) for part, whole in pair_parts(rows)], dtype=float)
    if len(scores) < 3:
        return len(scores), {}
    draws = np.random.default_rng(0).integers(len(scores), size=(DRAWS, len(scores)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # draws of one network alone have no ranks
        return len(scores), {
            name: _interval(float(measure(*scores.T)[0]), [float(measure(*scores[draw].T)[0]) for draw in draws])
            for name, measure in CORRELATIONS.items()
        }


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.nanquantile(drawn, (0.025, 0.975)) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def _say(share: Interval) -> str:
    return f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"


def _span(name: str, trials: Sequence[FrozenTrial]) -> str:
    values = [one.user_attrs[SETTINGS][name] for one in trials]
    if isinstance(values[0], bool | str):
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        return ", ".join(f"{value} {count} times" for value, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{min(values):.4g} to {max(values):.4g}"
