"""What `pocketaffect sweep` and the DVC stage do: check all, run the trials, weigh the winner, write the report."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout
from optuna import Study
from optuna.exceptions import StorageInternalError

from pocketaffect import paths
from pocketaffect.arithmetic import pinned_children
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.executor.interface import LOOK_SECONDS, Executor, Worker, end_workers, find_executor
from pocketaffect.recipes import apply_settings
from pocketaffect.registry.store.store import Store, open_store
from pocketaffect.sweep.budget import enqueue_first_trials, require_fit
from pocketaffect.sweep.objective import Plan, Train, train_trial
from pocketaffect.sweep.references import list_references
from pocketaffect.sweep.report import write_sweep_report
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, read_rows
from pocketaffect.sweep.shards import ensure_all_shards
from pocketaffect.sweep.space import Choice, read_space
from pocketaffect.sweep.storage import JOURNAL, JOURNAL_FILE, open_storage
from pocketaffect.sweep.study import (
    SETTINGS_ATTRIBUTE,
    ask_question,
    describe_changes,
    find_study,
    open_study,
    require_consistent,
    require_faces,
)
from pocketaffect.sweep.table import watch
from pocketaffect.sweep.tracking import TrialRuns
from pocketaffect.sweep.winner import (
    Winner,
    measure_winner,
    read_unfit,
    refuse_all,
    require_exportable,
    tidy_trials,
)
from pocketaffect.sweep.worker import quieten, requeue_silent, run_worker

logger = logging.getLogger(__name__)

FRUITLESS_DEATHS: Final = 3
"""Workers that may die one after another, times their number, without any trial coming to an end."""


Watcher = Callable[[Sequence[TrialRow]], None]
"""Sees the trials now and then, while workers are at it and once more at the end."""


@dataclass(frozen=True)
class Sweep:
    """A sweep whose settings are checked and whose study is open."""

    plan: Plan
    study: Study
    executor: Executor

    def rows(self) -> list[TrialRow]:
        """Lists all trials as they are now.

        Raises:
            PocketAffectError: The storage does not answer any more.
        """
        try:
            return read_rows(self.study)
        except StorageInternalError as error:
            raise PocketAffectError(
                "params.yaml: sweep.storage: the database does not answer any more",
                found=" ".join(str(error.__cause__ or error).split("(Background")[0].split()),
                todo="start it again and repeat the command: it goes on",
            ) from None


@dataclass(frozen=True)
class Seen:
    """A study to look at.

    `asked` are the settings that it was begun with, `changes` the differences between its settings, data and code and
    those now; `unfit` says which packages were not fit to ship, and why.
    """

    study: Study
    rows: list[TrialRow]
    asked: Mapping[str, Any]
    unfit: Mapping[int, str]
    changes: list[str]


def run_sweep(params: Params, root: Path = Path(), *, new: bool = False) -> Winner:
    """Runs the sweep, or goes on with it, to a measured winner and a report.

    Raises:
        KeyboardInterrupt: Ctrl-C; the same call goes on.
        PocketAffectError: What `prepare_sweep`, `hold_driver` and `run_trials` refuse, or no package is fit to ship.
    """
    sweep = prepare_sweep(params, root, new=new)
    with hold_driver(sweep.plan.folder):
        store = open_store(root)
        runs = TrialRuns(store, sweep)
        try:
            winner = _find_winner(sweep, runs, root, store)
        except BaseException:
            runs.finish(interrupted=True)
            raise
        runs.finish()
    return winner


def _find_winner(sweep: Sweep, runs: TrialRuns, root: Path, store: Store) -> Winner:
    plan, report = sweep.plan, root / paths.SWEEP_REPORT
    with watch(plan.params.sweep) as table:
        rows = run_trials(sweep, [table, runs.update])
    winner, unfit = None, read_unfit(plan.folder)
    try:
        winner, unfit = measure_winner(plan, rows)
    finally:  # the trials are worth a look all the same
        references = list_references(plan.params, root, store)
        write_sweep_report(plan, sweep.study, rows, winner, unfit, references, report)
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
    if params.sweep.storage == JOURNAL and not (root / paths.SWEEP / JOURNAL_FILE).is_file():
        raise PocketAffectError("no sweep yet", todo="pocketaffect sweep")
    question = ask_question(params, root)
    study = find_study(open_storage(params.sweep.storage, root / paths.SWEEP), question)
    asked = study.user_attrs.get(SETTINGS_ATTRIBUTE, {})
    unfit = read_unfit(root / paths.SWEEP / study.study_name)
    return Seen(study, read_rows(study), asked, unfit, describe_changes(asked, question.settings))


def prepare_sweep(params: Params, root: Path = Path(), *, new: bool = False, train: Train = train_trial) -> Sweep:
    """Checks settings, budget, data, storage and executor, and opens the study; nothing is trained.

    Raises:
        PocketAffectError: Anything that would keep the sweep from its end and can be known now.
    """
    quieten()
    require_consistent(params)
    space = read_space(params)
    executor = find_executor(params.sweep.executor)
    if params.sweep.storage == JOURNAL:
        executor.require_shared_folder("sweep.storage: journal")
    require_exportable(params, space)
    require_fit(params, space)
    require_faces(params, root)
    question = ask_question(params, root)
    storage = open_storage(params.sweep.storage, root / paths.SWEEP, requeue_silent)
    study = open_study(storage, question, params, new=new)
    plan = Plan(params, space, study.study_name, root.resolve(), train)
    if params.sweep.warm_start:
        enqueue_first_trials(study, params, space, plan.folder)
    return Sweep(plan, study, executor)


def run_trials(sweep: Sweep, watchers: Sequence[Watcher] = ()) -> list[TrialRow]:
    """Works until as many trials as wanted have come to an end; what an earlier call did counts.

    Raises:
        KeyboardInterrupt: Ctrl-C; the workers have ended, and given their trials back.
        PocketAffectError: The workers cannot work; or no trial came to a good end.
    """
    plan = sweep.plan
    left = plan.params.sweep.trials - sum(row.outcome in FINISHED for row in sweep.rows())
    if left > 0:
        _cut_shards(sweep)
        _work(sweep, min(plan.params.sweep.workers, left), watchers)
    rows = sweep.rows()
    for watcher in watchers:
        watcher(rows)
    if not any(row.faces is None for row in best_first(rows)):
        raise _no_winner(plan, rows)
    return rows


def _work(sweep: Sweep, count: int, watchers: Sequence[Watcher]) -> None:
    start = partial(_start_worker, sweep)
    workers: list[Worker] = []
    finished, deaths = 0, 0
    try:
        workers.extend(start() for _ in range(count))  # keeps those that started before one that fails
        while workers:
            workers[0].wait(LOOK_SECONDS)
            ended = [one for one in workers if one.wait(0)]
            rows = sweep.rows()  # holds all that the ended ones did
            for watcher in watchers:
                watcher(rows)
            now = sum(row.outcome in FINISHED for row in rows)
            finished, deaths = now, 0 if now > finished else deaths
            for worker in ended:
                workers.remove(worker)
                failure = worker.failure()
                if failure is None:
                    continue
                deaths += 1
                if not failure.startswith("killed") or deaths > FRUITLESS_DEATHS * count:
                    raise PocketAffectError(f"sweep: {worker.name} ended", found=failure, todo="see the lines above")
                logger.warning("%s was %s; another takes its place", worker.name, failure)
                _replace(workers, start)
    finally:
        end_workers(workers)


def _start_worker(sweep: Sweep) -> Worker:
    """Starts one more process, which counts with as many threads as a trial may have, whatever script this one runs."""
    train = sweep.plan.params.train
    with pinned_children(threads=train.threads, instructions=train.instructions):
        return sweep.executor.start(partial(run_worker, sweep.plan), accelerator=train.accelerator)


def _replace(workers: list[Worker], start: Callable[[], Worker]) -> None:
    try:
        workers.append(start())
    except PocketAffectError:  # a cluster that lost a node may have no room: the others go on
        if not workers:
            raise
        logger.warning("there is no room for another; %d go on", len(workers))


@contextlib.contextmanager
def hold_driver(folder: Path) -> Iterator[None]:
    """Lets one command a study and machine run: two would show everything twice, and remove each other's networks.

    Raises:
        PocketAffectError: Another command holds it; its process is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "driver.lock")
    note = folder / "driver.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PocketAffectError(
            "another `pocketaffect sweep` works on this study",
            found=f"process {note.read_text().strip() if note.is_file() else 'unknown'}",
            todo="wait for it or end it; `pocketaffect sweep status` looks at it; sweep.workers sets how many work",
        ) from None
    try:
        note.write_text(f"{os.getpid()}\n")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _cut_shards(sweep: Sweep) -> None:
    """Cuts the shards of every input size that a trial may ask for, before any worker needs them.

    In a process of its own: what this one has loaded would count against `preprocess.memory_mb`.
    """
    plan = sweep.plan
    own = plan.params.preprocess.image_size
    dimension = plan.space.get("preprocess.image_size", Choice((own,)))
    wanted = [apply_settings(plan.params, {"preprocess.image_size": size}) for size in dimension.corners()]
    worker = sweep.executor.start(partial(ensure_all_shards, wanted, own, plan.root))
    try:
        while not worker.wait(LOOK_SECONDS):
            pass
    finally:
        end_workers([worker])
    if (failure := worker.failure()) is not None:
        raise PocketAffectError(failure)


def _no_winner(plan: Plan, rows: Sequence[TrialRow]) -> PocketAffectError:
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in FINISHED}
    reasons = dict.fromkeys(row.remark for row in rows if row.outcome == "failed")
    listed = "".join(f"\n           {reason}" for reason in list(reasons)[:3])
    return PocketAffectError(
        "sweep: no trial was trained to its end within the budget",
        found=", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) + listed,
        todo=f"raise sweep.trials above {plan.params.sweep.trials} and repeat the command, or change sweep.space",
    )
