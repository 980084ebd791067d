"""Fine-tuning as the export stage does it: the training split, the training's loss, the form that is to ship."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count

from torch import Tensor, nn

from pocketaffect.config import ExportParams, TrainParams
from pocketaffect.data.shards.batches import Batch, train_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.finetune import finetune_integers, finetune_palette
from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.reparameterize import reparameterize
from pocketaffect.precisions import AUTO, find_precision, list_names, readable_precisions
from pocketaffect.training.objective import Objective

logger = logging.getLogger(__name__)


def finetune_for_export(
    network: AffectNetwork, train: Split, params: ExportParams, recipe: TrainParams
) -> nn.Module | None:
    """What `export.finetune` asks for: a copy of the network, trained on in the form of `export.precision`.

    Images, augmentation and loss are those of the training; the batches are those of the epochs after it.

    Args:
        network: The trained network.
        train: What it was trained on.
        params: `export` of params.yaml.
        recipe: `train` of params.yaml.

    Returns:
        The `finetuned` of `export.export_network`; None where no fine-tuning is wanted.

    Raises:
        PocketAffectError: The precision is not one that this fine-tuning is for, or the loss is not finite.
    """
    require_suited(params)
    if params.finetune == "none":
        return None
    form = reparameterize(network)
    steps, rate, seed = params.finetune_steps, params.finetune_learning_rate, recipe.seed
    logger.info("%d steps of %s for %s", steps, params.finetune, params.precision)
    batches, loss = _draw(train, recipe), _make_loss(train, recipe)
    if params.finetune == "dkm":
        return finetune_palette(
            form, batches, loss, precision=params.precision, steps=steps, learning_rate=rate, seed=seed
        )
    size = network.spec.size
    return finetune_integers(form, batches, loss, size=size, steps=steps, learning_rate=rate, seed=seed)


def require_suited(params: ExportParams) -> None:
    """Refuses a precision and a fine-tuning that do not go together.

    Raises:
        PocketAffectError: They do not; what each goes with is named.
    """
    integers = params.precision != AUTO and find_precision(params.precision).integer_activations
    readable = readable_precisions(params.deployment_target)
    palettes = [one for one in readable if one.kind == "palette" and not one.sparsity]
    suited = {
        "none": not integers,
        "dkm": params.precision in {one.name for one in palettes},
        "qat": integers,
    }
    if suited[params.finetune]:
        return
    allowed = {
        "none": "with export.finetune: none every precision but int8-activations",
        "dkm": f"with export.finetune: dkm a palette without pruning: {list_names(palettes)}",
        "qat": "with export.finetune: qat int8-activations (iOS17)",
    }
    raise PocketAffectError(
        f"params.yaml: export.finetune {params.finetune} does not go with export.precision {params.precision}",
        allowed="; ".join(allowed[name] for name in dict.fromkeys((params.finetune, "qat" if integers else "none"))),
        todo="change one of the two",
    )


def _draw(train: Split, recipe: TrainParams) -> Iterator[Batch]:
    for epoch in count(recipe.epochs):
        yield from train_batches(
            train,
            recipe.batch_size,
            recipe.augment,
            seed=recipe.seed,
            epoch=epoch,
            soft_labels=recipe.soft_labels,
        )


def _make_loss(train: Split, recipe: TrainParams) -> Callable[[nn.Module, Batch], Tensor]:
    objective = Objective(recipe, train.expression)

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        total: Tensor = objective(network(batch.images), batch).total
        return total

    return loss
