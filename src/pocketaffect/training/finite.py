"""Stops a training whose loss is not a number, and names the images at which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from pocketaffect.data.shards.batches import Batch
from pocketaffect.errors import PocketAffectError
from pocketaffect.training.objective import Losses, Outputs

NAMED_ROWS: Final = 5


def require_finite(losses: Losses, outputs: Outputs, labels: Batch, paths: Sequence[str] | None, place: str) -> None:
    """Passes a finite loss.

    Args:
        losses: Of a batch.
        outputs: The network's answers for it.
        labels: The batch.
        paths: Of the training images; None for the validation split, whose rows are not named.
        place: Epoch and step.

    Raises:
        PocketAffectError: The loss is infinite or not a number.
    """
    if bool(torch.isfinite(losses.total)):
        return
    total, by_expression, by_va = (float(loss.detach()) for loss in losses)
    broken = ~(torch.isfinite(outputs[0]).all(dim=1) & torch.isfinite(outputs[1]).all(dim=1))
    answers = f"{int(broken.sum())} of {len(broken)} answers of the network not finite"
    rows = labels.rows[broken] if bool(broken.any()) else labels.rows
    named = "" if paths is None else f"; training rows {_name(rows.tolist(), paths)}"
    raise PocketAffectError(
        f"training: loss is {total} in {place}",
        found=f"expression loss {by_expression}, VA loss {by_va}; {answers}{named}",
        allowed="a finite number",
        todo="lower train.learning_rate in params.yaml"
        + (", or set train.clip_norm; where a few rows alone are named, look at their images" if named else ""),
    )


def _name(rows: list[int], paths: Sequence[str]) -> str:
    listed = ", ".join(f"{row} ({paths[row]})" if row < len(paths) else str(row) for row in rows[:NAMED_ROWS])
    more = len(rows) - NAMED_ROWS
    return f"{listed} and {more} more" if more > 0 else listed
