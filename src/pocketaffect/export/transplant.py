"""A package's weights put back into the network that it was made of, and how far rounding moved them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.program import Name, Program, Step
from pocketaffect.mlpackage.storage import rounding_ratio

_LAYERS: Final = {
    "conv2d": "conv",
    "linear": "linear",
    "matmul": "matmul",
    "__matmul__": "matmul",
    "mm": "matmul",
}


@dataclass(frozen=True)
class _Layer:
    """One call with weights: names in the network, or in the program. No name: weights that are computed."""

    kind: str
    weight: str | None
    bias: str | None


@dataclass(frozen=True)
class Transplant:
    """The network with a package's decoded weights.

    Attributes:
        network: A copy with the weights of the package.
        rounding: The largest `storage.rounding_ratio` of a tensor: at most 1 unless weights were altered. None if
            no form has such a bound.
    """

    network: nn.Module
    rounding: float | None


def transplant_weights(folded: nn.Module, program: Program, *, on_grid: bool = False) -> Transplant:
    """Copies the program's decoded weights into a copy of the network that it was converted from.

    Layers are paired by the order in which both execute them and must agree in kind and shape. Constants that
    are not a layer's weights (normalisation, computed prototypes) stay the network's own.

    Args:
        folded: What `fold_batchnorm` made of the network.
        program: The package.
        on_grid: See `storage.rounding_ratio`.

    Raises:
        PocketAffectError: The layers cannot be paired: the package was made of another network.
    """
    network = copy.deepcopy(folded)
    originals = {**dict(network.named_buffers()), **dict(network.named_parameters())}
    decoded = program.decoded_weights()
    copied: dict[str, NDArray[Any]] = {}
    ratios = []
    for target, source in _pair_layers(_network_layers(network, program.size), _program_layers(program)):
        for name, array_name in _tensors(target, source, decoded):
            original, array = originals[name], decoded[array_name]
            stored = program.stored(array_name)
            if array.shape != tuple(original.shape) and target.kind == "matmul" and source.kind == "linear":
                ratio = rounding_ratio(original.numpy().T, array, stored, on_grid=on_grid)
                array = array.T
            elif array.shape == tuple(original.shape):
                ratio = rounding_ratio(original.numpy(), array, stored, on_grid=on_grid)
            if array.shape != tuple(original.shape):
                raise _mismatch(f"{name} has shape {list(original.shape)}, {array_name} has {list(array.shape)}")
            if name in copied and not np.array_equal(copied[name], array):
                raise _mismatch(f"{name} is used twice and has two values in the package")
            copied[name] = array
            if ratio is not None:
                ratios.append(ratio)
    with torch.no_grad():
        for name, array in copied.items():
            originals[name].copy_(torch.from_numpy(array.astype(np.float32)))
    # np.max, unlike max, hands a NaN on.
    return Transplant(network, float(np.max(ratios)) if ratios else None)


def _pair_layers(ours: Sequence[_Layer], theirs: Sequence[_Layer]) -> Iterator[tuple[_Layer, _Layer]]:
    if len(ours) != len(theirs):
        raise _mismatch(f"{len(ours)} layers with weights in the network, {len(theirs)} in the package")
    for place, (target, source) in enumerate(zip(ours, theirs, strict=True)):
        # The converter writes a product with a constant matrix as a linear layer.
        if target.kind != source.kind and (target.kind, source.kind) != ("matmul", "linear"):
            raise _mismatch(f"layer {place} is {target.kind} in the network and {source.kind} in the package")
        if target.weight is not None:
            yield target, source


def _tensors(target: _Layer, source: _Layer, decoded: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, str]]:
    """Pairs of the network's and the program's names of one layer's tensors."""
    assert target.weight is not None
    if source.weight is None:
        raise _mismatch(f"{target.weight} is not a constant in the package")
    yield target.weight, source.weight
    if target.bias is not None:
        if source.bias is None:
            raise _mismatch(f"{target.bias} is missing in the package")
        yield target.bias, source.bias
    elif source.bias is not None and np.any(decoded[source.bias]):
        raise _mismatch(f"the layer of {target.weight} has no bias, in the package it has {source.bias}")


def _mismatch(found: str) -> PocketAffectError:
    return PocketAffectError(
        "the package's weights cannot be put back into the network",
        found=found,
        allowed="a package that was converted from this network",
        todo="export the model again (`dvc repro export`)",
    )


def _program_layers(program: Program) -> list[_Layer]:
    constants = program.decoded_weights()

    def constant(step: Step, key: str) -> str | None:
        value = step.inputs.get(key)
        return value.text if isinstance(value, Name) and value.text in constants else None

    return [
        _Layer(step.kind, constant(step, "y" if step.kind == "matmul" else "weight"), constant(step, "bias"))
        for step in program.steps
        if step.kind in _LAYERS.values()
    ]


def _network_layers(network: nn.Module, size: int) -> list[_Layer]:
    recorder = _LayerRecorder(network)
    with recorder, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    return recorder.layers


class _LayerRecorder(TorchFunctionMode):
    """Notes which of a network's tensors each convolution, linear layer and matrix product reads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        tensors = [*network.named_buffers(), *network.named_parameters()]
        self._names = {id(tensor): name for name, tensor in tensors}
        self.layers: list[_Layer] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        kind = _LAYERS.get(getattr(func, "__name__", ""))
        if kind is not None:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            self.layers.append(_Layer(kind, self._name(given.get("weight")), self._name(given.get("bias"))))
        return func(*args, **kwargs)

    def _name(self, tensor: Tensor | None) -> str | None:
        return self._names.get(id(tensor))
