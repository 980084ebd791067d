"""What cannot be trained, said before the first step; and a loss that is no number, with the images it happened at."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from pocketaffect.config import ModelParams, TrainParams, find_contradictions, refuse_problems
from pocketaffect.data.shards.batches import Batch
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION
from pocketaffect.training.losses import count_classes
from pocketaffect.training.objective import Losses, Outputs

NAMED_ROWS: Final = 5


def refuse_untrainable(shards: Path, train: Split, validation: Split, model: ModelParams, params: TrainParams) -> None:
    """Looks at settings that do not go together, and at data that they cannot learn from.

    Networks that cannot be are `models.network`'s to refuse. Classes without an image are not learnt, and said.

    Raises:
        PocketAffectError: The first problem.
    """
    problems = find_contradictions(model, params, find_device(params))
    if problems:
        raise refuse_problems(problems)
    if not len(validation):
        raise PocketAffectError(f"{shards}: no validation image", todo="add validation images with a label")
    if len(train) < params.batch_size:
        raise PocketAffectError(
            "params.yaml: train.batch_size is larger than the training split",
            found=f"{params.batch_size} against {len(train)} images",
            allowed=f"2 to {len(train)}",
            todo="lower train.batch_size, or give `pocketaffect train` a smaller --batch",
        )
    _refuse_tasks_without_labels(shards, train, validation, params)
    absent = [name for name, count in zip(EXPRESSIONS, count_classes(train.expression), strict=True) if not count]
    if 0 < len(absent) < len(EXPRESSIONS):
        logging.getLogger(__name__).warning("no training image of %s: the network never learns it", ", ".join(absent))


def find_device(params: TrainParams) -> str:
    """Finds what `train.accelerator` is on this machine: "cuda", "mps" or "cpu".

    Raises:
        PocketAffectError: `gpu`, and there is none.
    """
    if params.accelerator == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    if params.accelerator == "gpu":
        raise PocketAffectError(
            "params.yaml: train.accelerator: gpu, where PyTorch finds none",
            found=f"PyTorch {torch.__version__} without a CUDA or MPS device",
            allowed="cpu, auto (a GPU where there is one), or gpu on a machine that has one",
            todo="set train.accelerator: auto, or look whether nvidia-smi lists the GPU and its driver suits PyTorch",
        )
    return "cpu"


def refuse_uneven(batch_size: int, processes: int) -> None:
    """Refuses a batch that several processes cannot share.

    Raises:
        PocketAffectError: It does not divide, or a process would get less than two images.
    """
    if batch_size % processes or batch_size < 2 * processes:
        fitting = max(2 * processes, batch_size // processes * processes)
        raise PocketAffectError(
            f"params.yaml: train.batch_size cannot be shared by {processes} processes (train.devices x train.nodes)",
            found=batch_size,
            allowed=f"a multiple of {processes}, from {2 * processes}; {fitting}, for example",
        )


def _refuse_tasks_without_labels(shards: Path, train: Split, validation: Split, params: TrainParams) -> None:
    """Leaves out, and says, a task that no image has a label of; refuses one that only one split has labels of."""
    learnt = []
    for task, label, weight in (
        ("expression", "an expression", params.expression_weight),
        ("va", "valence, arousal", params.va_weight),
    ):
        has = [_has_labels(split, task, soft=params.soft_labels and split is train) for split in (train, validation)]
        if weight and all(has):
            learnt.append(task)
        elif weight and any(has):
            raise PocketAffectError(
                f"{shards}: no {'validation' if has[0] else 'training'} image has {label}",
                found=f"train.{task}_weight: {weight:g} in params.yaml",
                allowed="labels of each task that is trained, in both splits",
                todo=f"add such images, or set train.{task}_weight: 0.0",
            )
        elif weight:
            logging.getLogger(__name__).warning("no image has %s: the network does not learn it", label)
    if not learnt:
        raise PocketAffectError(f"{shards}: no label of a task that is trained", todo="give one of them a weight")
    if params.select == "accuracy" and "expression" not in learnt:
        raise PocketAffectError(
            "params.yaml: train.select: accuracy, where no image has an expression", todo="set train.select: score"
        )


def _has_labels(split: Split, task: str, *, soft: bool) -> bool:
    if task == "va":
        return not bool(np.isnan(split.valence_arousal).any(axis=1).all())
    return bool((split.expression != NO_EXPRESSION).any()) or (soft and split.soft is not None)


class Step(NamedTuple):
    """What is kept of a step until somebody looks; all of it may still be on its way from a GPU.

    `losses` are float [3], those of `Losses`; `broken` is bool [n], images for which the network's answers are not
    finite; `rows` are int64 [n], the images' places in their split.
    """

    losses: torch.Tensor
    broken: torch.Tensor
    rows: torch.Tensor


def note_step(losses: Losses, outputs: Outputs, labels: Batch) -> Step:
    """Keeps what a message about a step would need."""
    finite = torch.isfinite(outputs[0]).all(dim=1) & torch.isfinite(outputs[1]).all(dim=1)
    return Step(torch.stack(losses).detach(), ~finite, labels.rows)


def require_finite(steps: Sequence[Step], paths: Sequence[str] | None, name_place: Callable[[int], str]) -> None:
    """Passes finite losses.

    Looking at the steps waits for a GPU. Without paths, those of the training images, no row is named; `name_place`
    says epoch and step of a place in `steps`.

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
