"""What `pocketaffect sweep` and the DVC stage do: run the trials, log them, weigh the winner, write the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store.store import open_store
from pocketaffect.sweep.report import write_sweep_report
from pocketaffect.sweep.results import TrialRow, read_rows
from pocketaffect.sweep.run import Sweep, hold_driver, prepare_sweep, run_trials
from pocketaffect.sweep.storage import JOURNAL_FILE, is_journal, open_storage
from pocketaffect.sweep.study import SETTINGS_ATTRIBUTE, ask_question, describe_changes, find_study
from pocketaffect.sweep.table import watch
from pocketaffect.sweep.tracking import TrialRuns
from pocketaffect.sweep.winner import Winner, measure_winner, read_unfit, refuse_all, tidy_trials
from pocketaffect.sweep.worker import quieten

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Seen:
    """A study to look at.

    Attributes:
        study: The study of the present settings, or the last one.
        rows: Its trials.
        asked: The settings that it was begun with.
        unfit: Trials whose packages were not fit to ship, and why.
        changes: Differences between the study's settings, data and code and those now.
    """

    study: Study
    rows: list[TrialRow]
    asked: Mapping[str, Any]
    unfit: Mapping[int, str]
    changes: list[str]


def run_sweep(params: Params, root: Path = Path(), *, new: bool = False) -> Winner:
    """Runs the sweep, or goes on with it, to a measured winner and a report.

    Args:
        params: All settings.
        root: The repository.
        new: Begin another study.

    Raises:
        KeyboardInterrupt: Ctrl-C; the same call goes on.
        PocketAffectError: See `run.prepare_sweep`, `run.hold_driver`, `run.run_trials` and `winner.measure_winner`.
    """
    sweep = prepare_sweep(params, root, new=new)
    with hold_driver(sweep.plan.folder):
        runs = TrialRuns(open_store(root), sweep)
        try:
            winner = _find_winner(sweep, runs, root)
        except BaseException:
            runs.finish(interrupted=True)
            raise
        runs.finish()
    return winner


def _find_winner(sweep: Sweep, runs: TrialRuns, root: Path) -> Winner:
    plan, report = sweep.plan, root / paths.SWEEP_REPORT
    with watch(plan.params.sweep) as table:
        rows = run_trials(sweep, [table, runs])
    winner, unfit = None, read_unfit(plan.folder)
    try:
        winner, unfit = measure_winner(plan, rows)
    finally:  # the trials are worth a look all the same
        write_sweep_report(plan, sweep.study, rows, winner, unfit, report)
    if winner is None:
        raise refuse_all(unfit)
    tidy_trials(plan, rows, winner)
    return winner


def look_at_sweep(params: Params, root: Path = Path()) -> Seen:
    """Looks up the study of the present settings, or the last one, without touching it.

    Raises:
        PocketAffectError: There is none, or the storage cannot be reached.
    """
    quieten()
    if is_journal(params.sweep.storage) and not (root / paths.SWEEP / JOURNAL_FILE).is_file():
        raise PocketAffectError("no sweep yet", todo="pocketaffect sweep")
    question = ask_question(params, root)
    study = find_study(open_storage(params.sweep.storage, root / paths.SWEEP), question)
    asked = study.user_attrs.get(SETTINGS_ATTRIBUTE, {})
    unfit = read_unfit(root / paths.SWEEP / study.study_name)
    return Seen(study, read_rows(study), asked, unfit, describe_changes(asked, question.settings))
