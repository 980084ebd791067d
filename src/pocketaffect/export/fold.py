"""BatchNorm folded into the convolution or linear layer before it: fewer operations, the same function."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TypeVar

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from pocketaffect.errors import PocketAffectError

Network = TypeVar("Network", bound=nn.Module)


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
    """Names of a layer and of the BatchNorm `node` that alone reads it."""
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
