"""Which trial's settings go into params.yaml, and what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import Value
from pocketaffect.sweep.results import TrialRow, best_first


def choose_trial(rows: Sequence[TrialRow], number: int | None, unfit: Collection[int] = ()) -> TrialRow:
    """Chooses the trial to adopt: the one of that number, or the best that is not known to be unfit to ship.

    Raises:
        PocketAffectError: There is no such trial, or it was not trained to its end within the budget.
    """
    good = best_first(rows, unfit)
    if number is None:
        if not good:
            raise PocketAffectError("sweep: no trial was trained to its end yet", todo="pocketaffect sweep")
        return good[0]
    row = next((row for row in rows if row.number == number), None)
    if row is None or row.outcome != "done":
        listed = ", ".join(str(one.number) for one in good[:10])
        raise PocketAffectError(
            f"sweep: trial {number} cannot be adopted",
            found="no such trial" if row is None else f"{row.outcome}{row.remark and ': ' + row.remark}",
            allowed=f"a trial that was trained to its end, best first: {listed or 'none yet'}",
        )
    return row


def list_changes(row: TrialRow, asked: Mapping[str, Any]) -> dict[str, Value]:
    """Lists what params.yaml must say for `dvc repro` to train the trial of a study that asked for these settings."""
    budget, epochs = asked["sweep.budget_bytes"], asked["sweep.epochs"]
    return {**row.settings, "train.epochs": epochs, "export.budget_bytes": budget}
