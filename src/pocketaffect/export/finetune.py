"""A few more steps of training with the weights as the package will hold them, for budgets that rounding alone misses.

Palettes: differentiable k-means (DKM, Cho et al. 2022, arXiv 2108.12659) moves weights and palettes together. Integers:
quantisation-aware training of int8 weights and activations (Jacob et al. 2018, arXiv 1712.05877). Both are
coremltools' own, run here on the form that ships: BatchNorm folded, dropout gone, so that nothing is left for the
converter to fold once the weights are no longer plain arrays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.compress import Palettize, divide_channels
from pocketaffect.export.fold import fold_batchnorm
from pocketaffect.mlpackage.quiet import import_coremltools
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision, find_precision

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)

_SETTLED: Final = 0.75
"""Share of the steps after which the ranges of activations are fixed."""
_LEAST_SOFTNESS: Final = 1e-12
_WATCHED: Final = 0.1
"""Share of the steps in which they are only watched."""


def finetune_palette(
    network: Network,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    precision: str,
    steps: int,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Network:
    """Trains a network on with its large tensors drawn from palettes.

    The result repeats bit for bit with the same batches on one thread.

    Args:
        network: The trained one, reparameterised; it stays as it is.
        batches: At least `steps` of them.
        loss: From a network and a batch to the scalar to lower.
        precision: A palette without pruning, such as "palette4".
        steps: Of Adam, with a cosine decay of the learning rate.
        learning_rate: At the first step.
        seed: Of what DKM draws.

    Returns:
        A copy in evaluation mode, BatchNorm folded, whose weights convert to `precision` without further loss but
        for float16's rounding.

    Raises:
        PocketAffectError: Another precision, too few batches, or a loss that is not finite.
    """
    chosen = find_precision(precision)
    if chosen.kind != "palette" or chosen.sparsity:
        raise PocketAffectError("fine-tuning of palettes", found=precision, allowed="a palette without pruning")
    palettization = import_coremltools("coremltools.optimize.torch.palettization")
    folded = fold_batchnorm(network)
    with _seeded(seed):
        config = palettization.DKMPalettizerConfig(
            module_name_configs={
                name: _palette_config(palettization, chosen, layer) for name, layer in _large_layers(folded)
            }
        )
        palettizer = palettization.DKMPalettizer(_trainable(folded), config)
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
    """Mean squared error of the best palettes, one for each `group` of output channels or one for all."""
    palettize = Palettize(bits)
    error = 0.0
    for part in np.split(weight, len(weight) // group) if group else [weight]:
        palette, indices = palettize(part)
        error += float(np.square(palette[indices] - part.reshape(-1)).sum())
    return error / weight.size


def _large_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.numel() > COMPRESSED_ABOVE:
            yield name, layer


class IntegerNetwork(nn.Module):
    """A network that was trained on for int8 weights and activations; `convert` makes "int8-activations" of it.

    Called, it computes in float32 what the package computes in integers: its weights lie on the integers' grid,
    and its activations are rounded on their way.

    Attributes:
        integer_form: The same network in the form that coremltools converts.
    """

    def __init__(self, simulated: nn.Module, integer_form: nn.Module) -> None:
        super().__init__()
        self.simulated = simulated
        # Not a submodule: its weights are the same ones once more.
        object.__setattr__(self, "integer_form", integer_form)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and valence-arousal, as the network that it was made of."""
        outputs: tuple[Tensor, Tensor] = self.simulated(images)
        return outputs


def finetune_integers(
    network: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    size: int,
    steps: int,
    learning_rate: float = 1e-4,
    seed: int = 0,
    part: str = "backbone",
) -> IntegerNetwork:
    """Trains a network on with int8 weights and activations in one part of it.

    Normalisation of the pixels and the heads keep float16 activations: 256 steps are too few for scores that a
    softmax reads, and the whole network is no faster for two small layers.

    The arguments are those of `finetune_palette`, and:

    Args:
        network: See there.
        batches: See there.
        loss: See there.
        size: Pixels a side.
        steps: See there.
        learning_rate: See there.
        seed: See there.
        part: Name of the submodule; it takes one tensor and gives one.

    Raises:
        PocketAffectError: Too few batches, or a loss that is not finite.
    """
    quantization = import_coremltools("coremltools.optimize.torch.quantization")
    simulated = fold_batchnorm(network)
    frozen = _freeze(simulated.get_submodule(part))
    with _seeded(seed):
        settings = quantization.ModuleLinearQuantizerConfig(
            quantization_scheme="symmetric",
            weight_per_channel=True,
            milestones=[0, int(steps * _WATCHED), int(steps * _SETTLED), steps + 1],
        )
        config = quantization.LinearQuantizerConfig(global_config=settings)
        quantizer = quantization.LinearQuantizer(frozen, config)
        prepared = quantizer.prepare(example_inputs=(_input_of(simulated, part, size),)).eval()
        simulated.set_submodule(part, prepared)
        _train(_trainable(simulated), batches, loss, steps, learning_rate, quantizer.step)
        prepared.apply(torch.ao.quantization.disable_observer)
        simulated.eval().requires_grad_(False)
        _round_scales(prepared)
        integer_form = copy.deepcopy(simulated)
        integer_form.set_submodule(part, quantizer.finalize(inplace=False).eval())
    return IntegerNetwork(_bake_weights(simulated), integer_form).eval()


def _input_of(network: nn.Module, part: str, size: int) -> Tensor:
    """What the submodule gets for a black image."""
    taken: list[Tensor] = []
    hook = network.get_submodule(part).register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    hook.remove()
    return taken[0]


def _freeze(network: nn.Module) -> fx.GraphModule:
    """The module's graph in evaluation mode: nothing with a training mode of its own, nothing between the layers.

    An identity where a BatchNorm was would keep a convolution and its ReLU from being rounded as one.
    """
    frozen = fx.GraphModule(network, fx.Tracer().trace(network.eval()))
    for node in list(frozen.graph.nodes):
        if node.op == "call_module" and isinstance(frozen.get_submodule(node.target), nn.Identity | nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            frozen.graph.erase_node(node)
    frozen.recompile()
    return frozen


def _round_scales(prepared: nn.Module) -> None:
    """Gives every range the width at which its scale is a float16 number, as the package stores it."""
    from torch.ao.quantization import FakeQuantize

    for module in prepared.modules():
        if isinstance(module, FakeQuantize):
            observer = module.activation_post_process
            exact, _ = observer.calculate_qparams()
            factor = (exact.half().float() / exact).reshape(observer.min_val.shape)
            observer.min_val.mul_(factor)
            observer.max_val.mul_(factor)
            rounded, _ = observer.calculate_qparams()
            module.scale.copy_(rounded)


def _bake_weights(prepared: nn.Module) -> nn.Module:
    """Weights as their rounding to integers leaves them, in place of that rounding."""
    baked = copy.deepcopy(prepared)
    for module in baked.modules():
        rounding = getattr(module, "weight_fake_quant", None)
        if isinstance(rounding, nn.Module) and isinstance(module.weight, Tensor):
            with torch.no_grad():
                module.weight.copy_(rounding(module.weight))
            module.weight_fake_quant = nn.Identity()
    return baked


def _trainable(network: nn.Module) -> nn.Module:
    return network.requires_grad_(True)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _train(
    network: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    steps: int,
    learning_rate: float,
    advance: Callable[[], None],
) -> None:
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    taken = 0
    for step, batch in enumerate(batches):
        if step == steps:
            break
        advance()
        value = loss(network, batch)
        if not bool(torch.isfinite(value)):
            raise PocketAffectError(
                f"fine-tuning: loss is {float(value.detach())} at step {step + 1}",
                allowed="a finite number",
                todo="lower the learning rate of the fine-tuning",
            )
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        taken = step + 1
    if taken < steps:
        raise PocketAffectError("fine-tuning: too few batches", found=taken, allowed=f"{steps} (its steps)")


def _with_state(folded: Network, state: dict[str, Any]) -> Network:
    """A copy of `folded` with the weights in `state`, which may hold more than that."""
    finished = copy.deepcopy(folded)
    finished.load_state_dict({name: state[name] for name in finished.state_dict()})
    return finished.eval().requires_grad_(False)
