"""A few more steps of training with the weights as the package will hold them, for budgets that rounding alone misses.

Differentiable k-means (DKM, Cho et al. 2022, arXiv 2108.12659) moves weights and palettes together. It is coremltools'
own, run here on the form that ships: BatchNorm folded, dropout gone, so that nothing is left for the converter to fold
once the weights are no longer plain arrays.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketaffect.config import ExportParams, TrainParams
from pocketaffect.data.shards.batches import Batch, train_batches
from pocketaffect.data.shards.split import Split
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.convert import Palettize, divide_channels
from pocketaffect.export.layers import fold_batchnorm, reparameterize
from pocketaffect.mlpackage.quiet import import_coremltools
from pocketaffect.models.network import AffectNetwork
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision, find_precision
from pocketaffect.training.objective import Objective

logger = logging.getLogger(__name__)

Samples = TypeVar("Samples")
Network = TypeVar("Network", bound=nn.Module)

_LEAST_SOFTNESS: Final = 1e-12


def finetune_for_export(
    network: AffectNetwork, split: Split, export: ExportParams, train: TrainParams
) -> AffectNetwork:
    """Copies the network and trains it on, in the form of `export.precision`.

    Images, augmentation and loss are those of the training; the batches are those of the epochs after it.

    Raises:
        PocketAffectError: The precision is not one that fine-tuning is for, or the loss is not finite.
    """
    logger.info("%d steps of %s for %s", export.finetune_steps, export.finetune, export.precision)
    objective = Objective(train, split.expression)

    def loss(tuned: nn.Module, batch: Batch) -> Tensor:
        total: Tensor = objective(tuned(batch.images), batch).total
        return total

    return finetune_palette(
        reparameterize(network),
        _draw(split, train),
        loss,
        precision=export.precision,
        steps=export.finetune_steps,
        learning_rate=export.finetune_learning_rate,
        seed=train.seed,
    )


def _draw(split: Split, train: TrainParams) -> Iterator[Batch]:
    for epoch in count(train.epochs):
        yield from train_batches(
            split, train.batch_size, train.augment, seed=train.seed, epoch=epoch, soft_labels=train.soft_labels
        )


def finetune_palette(
    network: Network,
    batches: Iterable[Samples],
    loss: Callable[[nn.Module, Samples], Tensor],
    *,
    precision: str,
    steps: int,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Network:
    """Trains a network, reparameterised, on with its large tensors drawn from palettes; `network` stays as it is.

    The result repeats bit for bit with the same batches, at least `steps` of them, on one thread. `loss` gives the
    scalar to lower from a network and a batch; `precision` is a palette, such as "palette4"; Adam's learning rate has a
    cosine decay.

    Returns:
        A copy in evaluation mode, BatchNorm folded, whose weights convert to `precision` without further loss but
        for float16's rounding.

    Raises:
        PocketAffectError: Another precision, too few batches, or a loss that is not finite.
    """
    chosen = find_precision(precision)
    if chosen.kind != "palette":
        raise PocketAffectError("fine-tuning of palettes", found=precision, allowed="a palette")
    palettization = import_coremltools("coremltools.optimize.torch.palettization")
    folded = fold_batchnorm(network)
    configs = {
        name: _palette_config(palettization, chosen, layer)
        for name, layer in folded.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.numel() > COMPRESSED_ABOVE
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = palettization.DKMPalettizerConfig(module_name_configs=configs)
        palettizer = palettization.DKMPalettizer(folded.requires_grad_(True), config)
        prepared = palettizer.prepare(inplace=False).eval()
        for module in prepared.modules():
            # Only the palettes are soft while training; nothing else has a training mode any more.
            module.train(isinstance(module, palettization.FakePalettize))
        _train(prepared, batches, loss, steps, learning_rate, palettizer.step)
        finished = palettizer.finalize(inplace=False)
    return _with_state(folded, finished.state_dict())


def _palette_config(palettization: Any, precision: Precision, layer: nn.Module) -> Any:
    weight = layer.get_parameter("weight").detach().numpy()
    group = divide_channels(len(weight), precision.group)
    return palettization.ModuleDKMPalettizerConfig(
        n_bits=precision.bits,
        cluster_dim=1,
        weight_threshold=COMPRESSED_ABOVE,
        granularity="per_grouped_channel" if group else "per_tensor",
        group_size=group or None,
        # The optimum, which is the same on every run; the default draws starting points for larger tensors.
        kmeans_init="opt1d",
        # The softness of the assignment, in squared weights. coremltools' 1e-4 blurs a layer of small weights so much
        # that its palette is another one once it is made hard.
        palett_tau=max(_palette_error(weight, precision.bits, group), _LEAST_SOFTNESS),
        prune_threshold=0.0,
    )


def _palette_error(weight: NDArray[Any], bits: int, group: int) -> float:
    """Computes the mean squared error of the best palettes, one for each `group` of output channels or one for all."""
    palettize = Palettize(bits)
    error = 0.0
    for part in np.split(weight, len(weight) // group) if group else [weight]:
        palette, indices = palettize(part)
        error += float(np.square(palette[indices] - part.reshape(-1)).sum())
    return error / weight.size


def _train(
    network: nn.Module,
    batches: Iterable[Samples],
    loss: Callable[[nn.Module, Samples], Tensor],
    steps: int,
    learning_rate: float,
    advance: Callable[[], None],
) -> None:
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    taken = 0
    for batch in islice(batches, steps):
        advance()
        value = loss(network, batch)
        if not bool(torch.isfinite(value)):
            raise PocketAffectError(
                f"fine-tuning: loss is {float(value.detach())} at step {taken + 1}",
                allowed="a finite number",
                todo="lower the learning rate of the fine-tuning",
            )
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        taken += 1
    if taken < steps:
        raise PocketAffectError("fine-tuning: too few batches", found=taken, allowed=f"{steps} (its steps)")


def _with_state(folded: Network, state: dict[str, Any]) -> Network:
    """Returns a copy of `folded` with the weights in `state`, which may hold more than that."""
    finished = copy.deepcopy(folded)
    finished.load_state_dict({name: state[name] for name in finished.state_dict()})
    return finished.eval().requires_grad_(False)
