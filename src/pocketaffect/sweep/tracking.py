"""A sweep in MLflow: one parent run for the study, one child for each trial that came to an end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pocketaffect.registry.lineage.trace import OUTCOME_TAG, PARENT_TAG, STUDY_TAG, SUFFIX, TRIAL_TAG
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import search_all
from pocketaffect.sweep.internals import get_storage
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, count_epochs
from pocketaffect.sweep.storage import hold_study
from pocketaffect.sweep.study import SETTINGS_ATTRIBUTE
from pocketaffect.training.scores import SCORE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from pocketaffect.sweep.run import Sweep

STATUS: Final = {"done": "FINISHED", "stopped early": "KILLED", "over budget": "KILLED", "failed": "FAILED"}


class TrialRuns:
    """Logs each finished trial once, whichever command saw it end, on this machine or another.

    The sweep's storage keeps two machines from logging at the same time.
    """

    def __init__(self, store: Store, sweep: Sweep) -> None:
        plan = sweep.plan
        self.study = plan.study_name
        self.client: MlflowClient = store.client()
        experiment = f"{plan.params.register_.experiment}{SUFFIX}"
        self.experiment = store.experiment_id(
            experiment, "Trials of `pocketaffect sweep`: a run for each, below its study."
        )
        self._held = partial(hold_study, get_storage(sweep.study), f"{self.study} in MLflow", plan.folder / "mlflow")
        with self._held():
            found = self._search(f"tags.`{STUDY_TAG}` = '{self.study}' and tags.`{TRIAL_TAG}` = 'all'")
            self.parent = found[0].info.run_id if found else self._begin(sweep)
            self.client.update_run(self.parent, status="RUNNING")
        self._logged: set[int] = set()

    def update(self, rows: Sequence[TrialRow]) -> None:
        """Logs what came to an end since the last look."""
        if all(row.number in self._logged for row in rows if row.outcome in FINISHED):
            return
        with self._held():
            self._logged = self._find_logged()
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

    def _begin(self, sweep: Sweep) -> str:
        """Begins the study's own run: what was asked, and the settings that all its trials share, by dotted names."""
        tags = {STUDY_TAG: self.study, TRIAL_TAG: "all"}
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=self.study).info.run_id)
        asked = sweep.plan.params.sweep.model_dump(exclude={"storage", "space"})  # an address holds a password
        shared = sweep.study.user_attrs.get(SETTINGS_ATTRIBUTE, {})
        for name, value in {**asked, **{key: shared[key] for key in shared if not key.startswith("sweep.")}}.items():
            self.client.log_param(run_id, name, value)
        return run_id

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

    def _search(self, text: str) -> list[Run]:
        return search_all(self.client.search_runs, [self.experiment], text)

    def _find_logged(self) -> set[int]:
        numbers = set()
        for run in self._search(f"tags.`{PARENT_TAG}` = '{self.parent}'"):
            if run.info.status == "RUNNING":  # its process was killed while it wrote it: it is written again
                self.client.delete_run(run.info.run_id)
            else:
                numbers.add(int(run.data.tags[TRIAL_TAG]))
        return numbers
