"""A training in several processes that computes what one process would.

The network's answers of all processes are joined before the loss, which is then that of the whole batch in each of
them; DDP averages the gradients, and the sums behind it make that average the gradient of the one loss. Normalisation
takes its statistics over the whole batch likewise. What differs is the order of additions, and dropout's noise, which
each process draws for itself.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytorch_lightning as pl
import torch
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pocketaffect.data.shards.batches import Batch
from pocketaffect.training.objective import Outputs

_BATCH_NORM: Final = inspect.signature(functional.batch_norm)
_LABELS: Final = ("expression", "valence_arousal", "soft", "rows")
"""Parts of a `Batch` that are joined; `rated` holds places in one process's part, and is looked for anew."""


def join_processes(
    module: pl.LightningModule, outputs: Outputs, batch: Batch, guidance: Outputs | None
) -> tuple[Outputs, Batch, Outputs | None]:
    """Joins the outputs, labels and teacher's answers of all processes, in the order of the whole batch.

    Gradients flow back into the outputs of every process.
    """
    if module.trainer.world_size == 1:
        return outputs, batch, guidance
    whole = _gather(module, outputs[0], sync_grads=True), _gather(module, outputs[1], sync_grads=True)
    if guidance is not None:
        guidance = _gather(module, guidance[0]), _gather(module, guidance[1])
    return whole, _gather_labels(module, batch), guidance


def in_order(
    module: pl.LightningModule, predicted: Sequence[tuple[torch.Tensor, torch.Tensor, Batch]]
) -> tuple[Outputs, Batch]:
    """Puts the predictions of a split and its labels in the split's order, each row once.

    `predicted` are this process's logits, valence-arousal and labels, batch by batch.
    """
    logits, prediction = torch.cat([part[0] for part in predicted]), torch.cat([part[1] for part in predicted])
    first = predicted[0][2]
    labels = _change_labels(first, lambda name: torch.cat([getattr(part[2], name) for part in predicted]))
    if module.trainer.world_size == 1:
        return (logits, prediction), labels
    labels = _gather_labels(module, labels)
    order = labels.rows.argsort()
    is_first = labels.rows[order].diff(prepend=labels.rows.new_tensor([-1])) > 0
    once = order[is_first]
    outputs = _gather(module, logits)[once], _gather(module, prediction)[once]
    return outputs, _change_labels(labels, lambda name: getattr(labels, name)[once])


def _gather(module: pl.LightningModule, tensor: torch.Tensor, *, sync_grads: bool = False) -> torch.Tensor:
    gathered: torch.Tensor = module.all_gather(tensor, sync_grads=sync_grads)
    return gathered.flatten(0, 1)


def _gather_labels(module: pl.LightningModule, batch: Batch) -> Batch:
    return _change_labels(batch, lambda name: _gather(module, getattr(batch, name)))


def _change_labels(batch: Batch, change: Callable[[str], torch.Tensor]) -> Batch:
    present = [name for name in _LABELS if getattr(batch, name) is not None]
    return replace(batch, rated=None, **{name: change(name) for name in present})


class GlobalBatchNorm(TorchFunctionMode):
    """Within it, batch normalisation in training takes its statistics over the batches of all processes.

    torch.nn.SyncBatchNorm knows no CPU, and would replace timm's modules that normalise and activate in one.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answers `torch.nn.functional.batch_norm` itself, and leaves the rest."""
        del types
        if func is functional.batch_norm:
            given = _BATCH_NORM.bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments["training"]:
                return _normalize(**given.arguments)
        return func(*args, **(kwargs or {}))


def _add_up(tensor: torch.Tensor) -> torch.Tensor:
    """Sums over all processes; gradients flow back into each."""
    total: torch.Tensor = all_reduce(tensor)  # type: ignore[no-untyped-call]
    return total


def _normalize(
    input: torch.Tensor,  # noqa: A002  the names of torch.nn.functional.batch_norm
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    del training
    places = [0, *range(2, input.ndim)]
    shape = [1, -1, *(1 for _ in places[1:])]
    count = input.numel() // input.shape[1] * torch.distributed.get_world_size()
    wide = input.float()  # sums of half-precision numbers would be worth little
    mean = _add_up(wide.sum(places)) / count
    centred = wide - mean.view(shape)
    variance = _add_up(centred.square().sum(places)) / count
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * count / max(count - 1, 1), momentum)
    normal = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        normal = normal * weight.view(shape)
    return (normal if bias is None else normal + bias.view(shape)).to(input.dtype)
