"""A network's layers: branches merged and BatchNorm folded to convert it, a package's weights put back afterwards."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.program import Name, Program, Step
from pocketaffect.models.network import AffectNetwork
from pocketaffect.models.paper import Backbone

Network = TypeVar("Network", bound=nn.Module)

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


def reparameterize(network: AffectNetwork) -> AffectNetwork:
    """Copies `network` into the form to export: the same function, fewer and plainer layers.

    RepViT and MobileOne train several parallel convolutions where one suffices afterwards (Ding et al. 2021, arXiv
    2101.03697). timm's other networks put normalisation and activation into one module, which `fold_batchnorm` leaves
    alone because a subclass of BatchNorm may do more than its parent.

    Branches are merged in float64, so that the merged weights are the rounded exact ones on every processor; with
    running statistics as training leaves them, outputs move by less than 1e-4. Networks without branches only have
    timm's normalisation with activation taken apart.

    Returns:
        A float32 copy on the CPU, in evaluation mode, without gradients; `reparameterized` is set. It cannot be
        trained further, nor saved by `save_network`: the checkpoint is the branched network.
    """
    shipped = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    if not isinstance(shipped.backbone, Backbone):
        from timm.utils import reparameterize_model

        with torch.no_grad():
            shipped.backbone = reparameterize_model(shipped.backbone.double(), inplace=True)
        _split_norm_and_activation(shipped.backbone)
    shipped.reparameterized = True
    return shipped.float().eval().requires_grad_(False)


def _split_norm_and_activation(backbone: nn.Module) -> None:
    from timm.layers import BatchNormAct2d

    for name, module in list(backbone.named_modules()):
        # Exact type: what a further subclass adds would be lost.
        if type(module) is not BatchNormAct2d:
            continue
        norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum)
        norm.load_state_dict(module.state_dict())
        backbone.set_submodule(name, nn.Sequential(OrderedDict(norm=norm, drop=module.drop, act=module.act)))


def fold_batchnorm(network: Network) -> Network:
    """Copies `network` in eval mode with every Conv2d+BatchNorm2d and Linear+BatchNorm1d pair made one layer.

    Pairs come from the traced graph, so the order of execution counts and not the order of definition. A
    BatchNorm stays where the layer before it has another reader, or where either of them runs twice.
    coremltools folds convolutions by itself, yet not linear layers (18 KB and six operations each).

    Returns:
        A float32 copy on the CPU, with module names kept: folded BatchNorms are `nn.Identity`.

    Raises:
        PocketAffectError: The network's forward method cannot be traced.
    """
    folded = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    try:
        graph = fx.Tracer().trace(folded)
    except (fx.proxy.TraceError, TypeError) as error:
        raise PocketAffectError(
            f"network {type(network).__name__}: its operations cannot be listed, so BatchNorm cannot be folded",
            found=error,
            todo="write forward() without branches that depend on a tensor",
        ) from None
    modules = dict(folded.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        pair = _pair(node, modules)
        if pair is None or calls[pair[0]] > 1 or calls[pair[1]] > 1:
            continue
        layer, norm = pair
        folded.set_submodule(layer, _fuse(modules[layer], modules[norm]))
        folded.set_submodule(norm, nn.Identity())
    return folded


def _pair(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, str] | None:
    """Finds the names of a layer and of the BatchNorm `node` that alone reads it."""
    if node.op != "call_module" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    layer = node.args[0]
    if layer.op != "call_module" or len(layer.users) != 1:
        return None
    before, norm = modules[str(layer.target)], modules[str(node.target)]
    # Exact types: a subclass (timm's BatchNormAct2d) may do more than its parent.
    if type(before) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
        foldable = norm.running_mean is not None
    elif type(before) is nn.Linear and type(norm) is nn.BatchNorm1d:
        foldable = norm.running_mean is not None and norm.affine and norm.num_features == before.out_features
    else:
        foldable = False
    return (str(layer.target), str(node.target)) if foldable else None


def _fuse(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Fuses in float64, so that the folded weights are the rounded exact ones on every processor."""
    exact, exact_norm = copy.deepcopy(layer).double(), copy.deepcopy(norm).double()
    assert isinstance(exact_norm, nn.BatchNorm1d | nn.BatchNorm2d)
    with torch.no_grad():
        if isinstance(exact, nn.Conv2d):
            return fuse_conv_bn_eval(exact, exact_norm).float().requires_grad_(False)
        assert isinstance(exact, nn.Linear)
        return fuse_linear_bn_eval(exact, exact_norm).float().requires_grad_(False)


def transplant_weights(folded: Network, program: Program) -> Network:
    """Copies a package's decoded weights into a copy of the network, from `fold_batchnorm`, that it was made of.

    Layers are paired by the order in which both execute them and must agree in kind and shape. Constants that
    are not a layer's weights (normalisation, computed prototypes) stay the network's own.

    Raises:
        PocketAffectError: The layers cannot be paired: the package was made of another network.
    """
    network = copy.deepcopy(folded)
    originals = {**dict(network.named_buffers()), **dict(network.named_parameters())}
    decoded = program.decoded_weights()
    copied: dict[str, NDArray[Any]] = {}
    for target, source in _pair_layers(_network_layers(network, program.size), _program_layers(program)):
        for name, array_name in _tensors(target, source, decoded):
            shape, array = tuple(originals[name].shape), decoded[array_name]
            if array.shape != shape and target.kind == "matmul" and source.kind == "linear":
                array = array.T
            if array.shape != shape:
                raise _mismatch(f"{name} has shape {list(shape)}, {array_name} has {list(array.shape)}")
            if name in copied and not np.array_equal(copied[name], array):
                raise _mismatch(f"{name} is used twice and has two values in the package")
            copied[name] = array
    with torch.no_grad():
        for name, array in copied.items():
            originals[name].copy_(torch.from_numpy(array.astype(np.float32)))
    return network


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
    """Yields pairs of the network's and the program's names of one layer's tensors."""
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
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _LAYERS.get(getattr(func, "__name__", ""))
        if kind is not None:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            self.layers.append(_Layer(kind, self._name(given.get("weight")), self._name(given.get("bias"))))
        return func(*args, **kwargs)

    def _name(self, tensor: Tensor | None) -> str | None:
        return self._names.get(id(tensor))
