"""The sweep's page and pictures: one HTML file that needs nothing beside it, and each figure as PNG."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import optuna
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from pocketaffect.figures import inline_svg, page_template, render_png, render_svg
from pocketaffect.files import write_atomically
from pocketaffect.sweep.objective import OVER_BUDGET, Plan
from pocketaffect.sweep.plots import draw_front, draw_history, draw_importance, draw_parallel
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, count_epochs, find_front
from pocketaffect.sweep.table import describe_settings
from pocketaffect.sweep.winner import Winner

FEWEST_TRIALS: Final = 10
"""Trained to the end: of fewer nobody can tell what mattered."""

REPORT_FILE: Final = "report.html"


def write_sweep_report(
    plan: Plan, study: Study, rows: list[TrialRow], winner: Winner | None, unfit: Mapping[int, str], target: Path
) -> None:
    """Writes the page and its figures into folder `target`, which is replaced.

    `unfit` names better trials whose packages were not fit to ship, and why; there may be no winner.

    Raises:
        PocketAffectError: The folder cannot be written.
    """
    budget = plan.params.sweep.budget_bytes
    figures = {
        "history": draw_history(rows),
        "pareto_front": draw_front(rows, budget),
        "importance": draw_importance(measure_importance(study)),
        "parallel_coordinates": draw_parallel(rows, plan.space),
    }
    filters = {
        "number": lambda value: "" if value is None else f"{value:.4f}",
        "bytes": lambda value: "" if value is None else f"{value:,}",
    }
    page = page_template("sweep/report.html.jinja", filters).render(
        study=plan.study_name,
        sweep=plan.params.sweep,
        space={name: describe_dimension(raw) for name, raw in plan.params.sweep.space.items()},
        rows=sorted(rows, key=lambda row: row.number),
        front=find_front(rows),
        best=[*best_first(rows, unfit), *best_first(rows)][0],
        winner=winner,
        unfit=unfit,
        epochs=count_epochs(rows),
        counts={outcome: sum(row.outcome == outcome for row in rows) for outcome in FINISHED},
        describe=describe_settings,
        figures={name: inline_svg(render_svg(figure), name) for name, figure in figures.items()},
    )
    with write_atomically(target) as draft:
        draft.mkdir()
        (draft / REPORT_FILE).write_text(page, encoding="utf-8")
        for name, figure in figures.items():
            (draft / f"{name}.png").write_bytes(render_png(figure))


def measure_importance(study: Study) -> dict[str, float]:
    """Measures how much each setting tells the best tenth of the trained trials from the rest, summing to 1.

    PED-ANOVA (Watanabe et al., IJCAI 2023). Trials that trained nothing are left out: their worst value says what is
    large, not what is bad. Empty for fewer than `FEWEST_TRIALS`, or where all scores are equal.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = [trial for trial in done if OVER_BUDGET not in trial.user_attrs]
    if len(trained) < FEWEST_TRIALS or len({trial.values[0] for trial in trained}) == 1:
        return {}
    alone = optuna.create_study(direction="maximize")
    alone.add_trials(
        [create_trial(value=one.values[0], params=one.params, distributions=one.distributions) for one in trained]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importance = get_param_importances(alone, evaluator=PedAnovaImportanceEvaluator())
    return {name.split(".", 1)[-1]: float(share) for name, share in importance.items()}


def describe_dimension(raw: object) -> str:
    """Describes a dimension of the space in words."""
    if isinstance(raw, Mapping):
        further = ", logarithmic" if raw.get("log") else f" by {raw['step']}" if "step" in raw else ""
        return f"{raw['low']} to {raw['high']}{further}"
    return ", ".join(str(value) for value in raw) if isinstance(raw, list) else str(raw)
