"""The sweep's trial that a version's settings came from, as far as the store knows it.

`pocketaffect sweep` logs a run for each trial in an experiment beside the pipeline's, with the settings that it
searched as the run's parameters, and those that all trials shared at the study's own run; `pocketaffect sweep adopt`
writes a trial's into params.yaml. A version whose settings are a trial's says so, whether they were adopted or typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SUFFIX: Final = "-sweeps"
"""Ending of the experiment's name, beside `register.experiment`: a trial is no candidate for the registry."""

STUDY_TAG: Final = "sweep.study"
TRIAL_TAG: Final = "sweep.trial"
OUTCOME_TAG: Final = "sweep.outcome"
PARENT_TAG: Final = "mlflow.parentRunId"
_DONE: Final = "done"
_SCORE: Final = "score"
_OF_THE_STUDY: Final = {"epochs": "train.epochs", "budget_bytes": "export.budget_bytes"}
"""Parameters of the study's own run that hold for each trial -> the settings that adopting one sets."""


def find_trial(client: MlflowClient, experiment: str, settings: Mapping[str, object]) -> dict[str, str]:
    """Finds study and number of the trial that has these settings, as tags; nothing where no trial has.

    Args:
        client: Client of the store.
        experiment: The pipeline's.
        settings: Under dotted names, all of them.
    """
    found = client.get_experiment_by_name(f"{experiment}{SUFFIX}")
    if found is None:
        return {}
    fitting = [
        run
        for run in _search(client, found.experiment_id, f"tags.`{OUTCOME_TAG}` = '{_DONE}'")
        if run.data.params and _agree(run.data.params, settings)
    ]
    for run in sorted(fitting, key=lambda run: run.data.metrics.get(_SCORE, 0.0), reverse=True):
        study = client.get_run(run.data.tags[PARENT_TAG]).data.params
        asked = {setting: study[name] for name, setting in _OF_THE_STUDY.items() if name in study}
        shared = {name: value for name, value in study.items() if name in settings}
        if _agree({**shared, **asked}, settings):
            return {name: run.data.tags[name] for name in (STUDY_TAG, TRIAL_TAG)}
    return {}


def _search(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while token is None or token:
        page = client.search_runs([experiment_id], wanted, max_results=1000, page_token=token)
        runs.extend(page)
        token = page.token or ""
    return runs


def _agree(logged: Mapping[str, str], settings: Mapping[str, object]) -> bool:
    return all(name in settings and _same(value, settings[name]) for name, value in logged.items())


def _same(logged: str, value: object) -> bool:
    """Tells whether two settings are equal: a trial may have logged 2 where a setting is 2.0."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(logged) == float(value)
        except ValueError:
            return False
    return logged == str(value)
