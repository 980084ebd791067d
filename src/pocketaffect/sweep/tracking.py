"""A sweep in MLflow: one parent run for the study, one child for each trial that came to an end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pocketaffect.config import Params
from pocketaffect.registry.store import Store
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, count_epochs
from pocketaffect.training.scores import SCORE

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_TAG: Final = "sweep.study"
TRIAL_TAG: Final = "sweep.trial"
OUTCOME_TAG: Final = "sweep.outcome"
PARENT_TAG: Final = "mlflow.parentRunId"
SUFFIX: Final = "-sweeps"
"""Of the experiment, beside `register.experiment`: a trial is no candidate for the registry."""

STATUS: Final = {"done": "FINISHED", "stopped early": "KILLED", "over budget": "KILLED", "failed": "FAILED"}
PAGE: Final = 1000


class TrialRuns:
    """Logs each finished trial once, whichever command saw it end.

    Args:
        store: MLflow's.
        params: For the experiment's name and the parent's parameters.
        study: The study's name.
    """

    def __init__(self, store: Store, params: Params, study: str) -> None:
        self.store = store
        self.study = study
        self.client: MlflowClient = store.client()
        self.experiment = store.experiment_id(f"{params.register_.experiment}{SUFFIX}")
        with store.locked():
            found = self._search(f"tags.`{STUDY_TAG}` = '{study}' and tags.`{TRIAL_TAG}` = 'all'")
            self.parent = found[0] if found else self._begin(params)
            self._logged = {*self._logged_trials()}

    def update(self, rows: Sequence[TrialRow]) -> None:
        """Logs what came to an end since the last look."""
        new = [row for row in rows if row.outcome in FINISHED and row.number not in self._logged]
        for row in new:
            self._log(row)
            self._logged.add(row.number)
        if not new:
            return
        self.client.log_metric(self.parent, "epochs", count_epochs(rows), step=len(self._logged))
        for best in best_first(rows)[:1]:
            self.client.log_metric(self.parent, "best_score", best.score or 0.0, step=len(self._logged))
            self.client.log_metric(self.parent, "best_bytes", best.bytes or 0, step=len(self._logged))
            self.client.set_tag(self.parent, "sweep.best_trial", str(best.number))

    def finish(self, *, interrupted: bool = False) -> None:
        """Ends the parent run; a later call of the same sweep goes on with it."""
        self.client.set_terminated(self.parent, "KILLED" if interrupted else "FINISHED")

    def _begin(self, params: Params) -> str:
        tags = {STUDY_TAG: self.study, TRIAL_TAG: "all"}
        run = self.client.create_run(self.experiment, tags=tags, run_name=self.study)
        for name, value in params.sweep.model_dump(exclude={"storage", "space"}).items():  # an address holds a password
            self.client.log_param(run.info.run_id, name, value)
        return str(run.info.run_id)

    def _log(self, row: TrialRow) -> None:
        from mlflow.entities import Metric, Param

        tags = {STUDY_TAG: self.study, TRIAL_TAG: str(row.number), OUTCOME_TAG: row.outcome, PARENT_TAG: self.parent}
        if row.remark:
            tags["sweep.remark"] = row.remark
        run_id = self.client.create_run(self.experiment, tags=tags, run_name=f"trial {row.number}").info.run_id
        now = int(time.time() * 1000)
        metrics = [Metric(f"epoch_{SCORE}", value, now, step) for step, value in row.curve.items()]
        numbers = {SCORE: row.score, "bytes": row.bytes, "epochs": row.epochs, "seconds": row.seconds}
        metrics += [Metric(name, value, now, 0) for name, value in numbers.items() if value is not None]
        params = [Param(name, str(value)) for name, value in row.settings.items()]
        self.client.log_batch(run_id, metrics=metrics, params=params)
        self.client.set_terminated(run_id, STATUS[row.outcome])

    def _search(self, text: str) -> list[str]:
        return [run.info.run_id for run in self.client.search_runs([self.experiment], text)]

    def _logged_trials(self) -> list[int]:
        numbers: list[int] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{PARENT_TAG}` = '{self.parent}'", max_results=PAGE, page_token=token
            )
            # One without an end was being written when its process was killed: it is written again.
            numbers += [int(run.data.tags[TRIAL_TAG]) for run in page if run.info.status != "RUNNING"]
            token = page.token
            if not token:
                return numbers
