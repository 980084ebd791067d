"""Which trial's settings go into params.yaml, and what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import Value
from pocketaffect.sweep.budget import TITLES
from pocketaffect.sweep.results import TrialRow, best_first


def choose_trial(
    rows: Sequence[TrialRow],
    number: int | None,
    unfit: Collection[int] = (),
    *,
    under: int | None = None,
    macs: int | None = None,
) -> TrialRow:
    """Chooses the trial to adopt: the one of that number, or the best that is not known to be unfit to ship.

    Args:
        rows: The study's trials.
        number: The trial; None for the best.
        unfit: Numbers of the trials whose packages are not fit to ship.
        under: The most bytes that the best may take, in place of the study's budget.
        macs: The most multiply-accumulates of one face likewise.

    Raises:
        PocketAffectError: There is no such trial, or it was not trained to its end within the budget.
    """
    finished = best_first(rows, unfit)
    good = [row for row in finished if _costs_at_most(row, under, macs)]
    if finished and not good:
        wanted = [f"{limit:,} {TITLES[name]}" for name, limit in (("bytes", under), ("macs", macs)) if limit]
        smallest, quickest = (min(finished, key=attrgetter(cost)) for cost in ("bytes", "macs"))
        raise PocketAffectError(
            f"sweep: no finished trial takes at most {' and '.join(wanted)}",
            found=f"the smallest is trial {smallest.number} with {smallest.bytes:,} bytes, the one with fewest "
            f"multiply-accumulates trial {quickest.number} with {quickest.macs or 0:,}",
            todo="set sweep.budget_bytes and sweep.budget_macs to what you want, then pocketaffect sweep --new",
        )
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


def _costs_at_most(row: TrialRow, size: int | None, macs: int | None) -> bool:
    limits = ((row.bytes, size), (row.macs, macs))
    return all(limit is None or (cost is not None and cost <= limit) for cost, limit in limits)


def list_changes(row: TrialRow, asked: Mapping[str, Any], under: int | None = None) -> dict[str, Value]:
    """Lists what params.yaml must say for `dvc repro` to train the trial of a study that asked for these settings.

    Its package is held to `under` bytes, None: to what the study was.
    """
    budget, epochs = under or asked["sweep.budget_bytes"], asked["sweep.epochs"]
    return {**row.settings, "train.epochs": epochs, "export.budget_bytes": budget}
