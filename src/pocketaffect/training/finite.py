"""Stops a training whose loss is not a number, and names the images at which it happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch

from pocketaffect.data.shards.batches import Batch
from pocketaffect.errors import PocketAffectError
from pocketaffect.training.objective import Losses, Outputs

NAMED_ROWS: Final = 5


class Step(NamedTuple):
    """What is kept of a step until somebody looks; all of it may still be on its way from a GPU.

    Attributes:
        losses: float [3], those of `Losses`.
        broken: bool [n], images for which the network's answers are not finite.
        rows: int64 [n], the images' places in their split.
    """

    losses: torch.Tensor
    broken: torch.Tensor
    rows: torch.Tensor


def note_step(losses: Losses, outputs: Outputs, labels: Batch) -> Step:
    """Keeps what a message about a step would need.

    Args:
        losses: The batch's.
        outputs: The network's answers for it.
        labels: The batch.
    """
    finite = torch.isfinite(outputs[0]).all(dim=1) & torch.isfinite(outputs[1]).all(dim=1)
    return Step(torch.stack(losses).detach(), ~finite, labels.rows)


def require_finite(steps: Sequence[Step], paths: Sequence[str] | None, name_place: Callable[[int], str]) -> None:
    """Passes finite losses.

    Args:
        steps: In their order; looking at them waits for a GPU.
        paths: Paths of the training images; None for the validation split, whose rows are not named.
        name_place: Epoch and step, from the place in `steps`.

    Raises:
        PocketAffectError: A loss is infinite or not a number; the first such step is named.
    """
    finite = torch.isfinite(torch.stack([step.losses[0] for step in steps]))
    if bool(finite.all()):
        return
    place = finite.tolist().index(False)
    step = steps[place]
    total, by_expression, by_va = step.losses.tolist()
    answers = f"{int(step.broken.sum())} of {len(step.broken)} answers of the network not finite"
    rows = step.rows[step.broken] if bool(step.broken.any()) else step.rows
    named = "" if paths is None else f"; training rows {_name(rows.tolist(), paths)}"
    raise PocketAffectError(
        f"training: loss is {total} in {name_place(place)}",
        found=f"expression loss {by_expression}, VA loss {by_va}; {answers}{named}",
        allowed="a finite number",
        todo="lower train.learning_rate in params.yaml"
        + (", or set train.clip_norm; where a few rows alone are named, look at their images" if named else ""),
    )


def _name(rows: list[int], paths: Sequence[str]) -> str:
    listed = ", ".join(f"{row} ({paths[row]})" if row < len(paths) else str(row) for row in rows[:NAMED_ROWS])
    more = len(rows) - NAMED_ROWS
    return f"{listed} and {more} more" if more > 0 else listed
