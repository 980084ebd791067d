"""What cannot be trained, said before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pocketaffect.config import ModelParams, TrainParams
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import NO_EXPRESSION


def refuse_untrainable(shards: Path, train: Split, validation: Split, model: ModelParams, params: TrainParams) -> None:
    """Looks at settings that do not go together, and at data that they cannot learn from.

    Classes without an image are `training.losses`' to refuse, networks that cannot be `models.network`'s.

    Raises:
        PocketAffectError: The first problem.
    """
    for problem in _contradictions(model, params):
        raise problem
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


def _contradictions(model: ModelParams, params: TrainParams) -> Iterator[PocketAffectError]:
    if not params.expression_weight and not params.va_weight:
        yield PocketAffectError(
            "params.yaml: train.expression_weight and train.va_weight are both 0", todo="give one of them a weight"
        )
    if params.task_weights == "learned" and not (params.expression_weight and params.va_weight):
        yield PocketAffectError(
            "params.yaml: train.task_weights: learned begins at train.expression_weight and train.va_weight",
            found=f"{params.expression_weight} and {params.va_weight}",
            allowed="both above 0",
            todo="set train.task_weights: fixed for a single task",
        )
    if params.select == "accuracy" and not params.expression_weight:
        yield PocketAffectError(
            "params.yaml: train.select: accuracy, of a network that learns no expression (train.expression_weight: 0)",
            todo="set train.select: loss",
        )
    if params.logit_adjustment and params.class_weights == "balanced":
        yield PocketAffectError(
            "params.yaml: train.logit_adjustment and train.class_weights: balanced undo the classes' frequencies twice",
            found=f"train.logit_adjustment: {params.logit_adjustment}",
            allowed="one of the two",
            todo="set train.class_weights: none, or train.logit_adjustment: 0.0",
        )
    if model.pretrained is not None and params.start_from is not None:
        yield PocketAffectError(
            "params.yaml: model.pretrained and train.start_from both give the first weights",
            todo="set one of them to null",
        )
    if params.precision == "bf16" and params.accelerator == "cpu" and params.instructions == "avx2":
        yield PocketAffectError(
            "params.yaml: train.precision: bf16 needs instructions that avx2 does not have",
            todo="set train.instructions: native (results then hang on the processor), or train.precision: fp32",
        )


def _refuse_tasks_without_labels(shards: Path, train: Split, validation: Split, params: TrainParams) -> None:
    for name, split in (("training", train), ("validation", validation)):
        soft = name == "training" and params.soft_labels and split.soft is not None
        has_class = soft or bool((split.expression != NO_EXPRESSION).any())
        has_va = not bool(np.isnan(split.valence_arousal).any(axis=1).all())
        for task, weight, labelled in (
            ("expression", params.expression_weight, has_class),
            ("va", params.va_weight, has_va),
        ):
            if weight and not labelled:
                raise PocketAffectError(
                    f"{shards}: no {name} image has {'an expression' if task == 'expression' else 'valence, arousal'}",
                    found=f"train.{task}_weight: {weight:g} in params.yaml",
                    allowed="labels of each task that is trained, in both splits",
                    todo=f"add such images, or set train.{task}_weight: 0.0",
                )
