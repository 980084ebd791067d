"""A study's trials as rows: what became of each, the best, and the fronts of score and cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from optuna.trial import TrialState

from pocketaffect.recipes import Value
from pocketaffect.sweep.objective import (
    BYTES,
    DEATHS,
    EPOCHS,
    ERROR,
    FACES,
    HISTORY,
    MACS,
    OVER_BUDGET,
    PART,
    REPEATS,
    SECONDS,
    SETTINGS,
    first_number,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

Cost = Literal["bytes", "macs"]
Outcome = Literal["done", "stopped early", "over budget", "failed", "running", "waiting"]

FINISHED: Final = ("done", "stopped early", "over budget", "failed")


@dataclass(frozen=True)
class TrialRow:
    """One trial; a repetition stands for all that it repeats.

    `first` is the number before any repetition, which its folder is named by. The score is the highest of an epoch
    (`training.scores.SCORE`), the last of a trial that was stopped early, None where nothing was trained; `curve` has
    it by epoch. `bytes` are predicted, as are `macs`, multiply-accumulates of one face; None before the suggestion. The
    remark says why it failed, whose score it repeats, or that it is over `sweep.budget_macs`. `faces` were trained
    on, None: all; `part` is the trial of the same settings that trained on a part before.
    """

    number: int
    first: int
    outcome: Outcome
    score: float | None
    bytes: int | None
    macs: int | None
    settings: Mapping[str, Value]
    epochs: int
    seconds: float | None
    remark: str
    curve: Mapping[int, float]
    faces: int | None = None
    part: int | None = None


def read_rows(study: Study) -> list[TrialRow]:
    """Reads all trials by number, those left out that another one repeats."""
    trials = study.get_trials(deepcopy=False)
    repeated = find_repeated(trials)
    firsts = {trial.number: first_number(trial) for trial in trials}
    return [_read_row(trial, firsts) for trial in trials if trial.number not in repeated]


def find_repeated(trials: Iterable[FrozenTrial]) -> set[int]:
    """Finds the numbers of the trials that another one repeats."""
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, [])}


def best_first(rows: Sequence[TrialRow], unfit: Collection[int] = ()) -> list[TrialRow]:
    """Sorts the finished trials within the budget: highest score, among equals fewest bytes, then the first.

    Unfit trials are left out, and with them those that repeat their scores; trainings on a part of the faces once
    there is one on all.
    """
    aside = {row.first for row in rows if row.number in unfit}
    done = [row for row in rows if row.outcome == "done" and row.first not in aside]
    if any(row.outcome == "done" and row.faces is None for row in rows):
        done = [row for row in done if row.faces is None]
    return sorted(done, key=lambda row: (-(row.score or 0.0), row.bytes or 0, row.number))


def find_front(rows: Sequence[TrialRow], cost: Cost = "bytes") -> list[TrialRow]:
    """Finds the Pareto front, the cheapest first: each has a higher score than all that cost less."""
    front: list[TrialRow] = []
    for row in sorted(best_first(rows), key=lambda row: (getattr(row, cost) or 0, -(row.score or 0.0), row.number)):
        if not front or (row.score or 0.0) > (front[-1].score or 0.0):
            front.append(row)
    return front


def pair_parts(rows: Sequence[TrialRow]) -> list[tuple[TrialRow, TrialRow]]:
    """Pairs the networks that were trained to their end on a part of the faces and on all, in this order."""
    done = {row.number: row for row in rows if row.outcome == "done"}
    return [(done[row.part], row) for row in done.values() if row.part in done]


def count_epochs(rows: Sequence[TrialRow]) -> int:
    """Counts the epochs that were trained in all; a repeated score cost none."""
    return sum(row.epochs for row in rows)


def _read_row(trial: FrozenTrial, firsts: Mapping[int, int]) -> TrialRow:
    attributes = trial.user_attrs
    outcome = _outcome(trial)
    curve = dict(sorted(trial.intermediate_values.items()))
    score = trial.values[0] if outcome == "done" else None
    if outcome == "stopped early":
        score = list(curve.values())[-1] if curve else None
    remark = str(attributes.get(ERROR, ""))
    if outcome == "failed" and not remark:
        deaths = int(attributes.get(DEATHS, 0)) + 1
        remark = f"{deaths} worker(s) died of it: killed, or out of memory"
    over = attributes.get(OVER_BUDGET)
    if isinstance(over, list) and MACS in over:  # version 0.1 kept the excess of bytes, a number
        remark = f"{attributes[MACS]:,} multiply-accumulates are over sweep.budget_macs"
    if REPEATS in attributes:
        remark = f"as trial {attributes[REPEATS]}"
    return TrialRow(
        number=trial.number,
        first=firsts[attributes.get(REPEATS, trial.number)],
        outcome=outcome,
        score=score,
        bytes=attributes.get(BYTES),
        macs=attributes.get(MACS),
        settings=attributes.get(SETTINGS, {}),
        epochs=int(attributes.get(EPOCHS, 0)),
        seconds=attributes.get(SECONDS),
        remark=remark.splitlines()[0] if remark else "",
        curve=curve,
        faces=attributes.get(FACES),
        part=attributes.get(PART),
    )


def _outcome(trial: FrozenTrial) -> Outcome:
    if trial.state == TrialState.COMPLETE:
        return "over budget" if OVER_BUDGET in trial.user_attrs else "done"
    states: dict[TrialState, Outcome] = {
        TrialState.PRUNED: "stopped early",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
    }
    return states[trial.state]
