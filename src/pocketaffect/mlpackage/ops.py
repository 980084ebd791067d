"""What each MIL operation computes, in torch; parameters carry MIL's input names.

Numbers arrive as float32 tensors, Python numbers, strings or lists of numbers. A mode that is not implemented
raises NotImplementedError, which the loader turns into a refusal of the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pocketaffect.mlpackage.ops_quantize import QUANTIZE_OPERATIONS
from pocketaffect.mlpackage.ops_shape import SHAPE_OPERATIONS

Number = Tensor | float


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, y: compute(_tensor(x), _tensor(y))


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x: compute(_tensor(x))


def _reduction(compute: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
        return compute(x, list(range(x.dim())) if axes is None else list(axes), keep_dims)

    return reduce


_CONVOLUTIONS: Final = {3: functional.conv1d, 4: functional.conv2d}
_MAX_POOLS: Final = {3: functional.max_pool1d, 4: functional.max_pool2d}


def _padding(
    pad_type: str, pad: Sequence[int] | None, lengths: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and after each spatial axis; `spans` are the kernel's lengths with dilation."""
    if pad_type == "valid":
        return [(0, 0) for _ in lengths]
    if pad_type == "custom":
        assert pad is not None
        return [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(len(lengths))]
    if pad_type not in ("same", "same_lower"):
        raise NotImplementedError(f"pad_type {pad_type!r}")
    pairs = []
    for length, span, stride in zip(lengths, spans, strides, strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + span - length, 0)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if pad_type == "same" else (more, less))
    return pairs


def _pad_spatial(x: Tensor, pairs: Sequence[tuple[int, int]], value: float) -> Tensor:
    if not any(before or after for before, after in pairs):
        return x
    return functional.pad(x, [side for pair in reversed(pairs) for side in pair], value=value)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    if x.dim() not in _CONVOLUTIONS:
        raise NotImplementedError(f"convolution of rank {x.dim()}")
    axes = x.dim() - 2
    strides, dilations = list(strides or [1] * axes), list(dilations or [1] * axes)
    spans = [(length - 1) * step + 1 for length, step in zip(weight.shape[2:], dilations, strict=True)]
    pairs = _padding(pad_type, pad, x.shape[2:], spans, strides)
    convolution = _CONVOLUTIONS[x.dim()]
    if all(before == after for before, after in pairs):
        padding = [before for before, _ in pairs]
        return convolution(x, weight, bias, strides, padding, dilations, groups)
    return convolution(_pad_spatial(x, pairs, 0.0), weight, bias, strides, 0, dilations, groups)


def _max_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    if x.dim() not in _MAX_POOLS:
        raise NotImplementedError(f"pooling of rank {x.dim()}")
    strides = list(strides or [1] * len(kernel_sizes))
    pairs = _padding(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    pool = _MAX_POOLS[x.dim()]
    if all(before == after and before <= size // 2 for (before, after), size in zip(pairs, kernel_sizes, strict=True)):
        return pool(x, list(kernel_sizes), strides, [before for before, _ in pairs], 1, ceil_mode)
    if ceil_mode:
        raise NotImplementedError("max_pool with ceil_mode and asymmetric padding")
    return pool(_pad_spatial(x, pairs, -math.inf), list(kernel_sizes), strides)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    if x.dim() != 4:
        raise NotImplementedError(f"pooling of rank {x.dim()}")
    strides = list(strides or [1] * len(kernel_sizes))
    pairs = _padding(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    if any(before != after for before, after in pairs):
        raise NotImplementedError("avg_pool with asymmetric padding")
    padding = [before for before, _ in pairs]
    return functional.avg_pool2d(x, list(kernel_sizes), strides, padding, ceil_mode, not exclude_padding_from_average)


def _matmul(x: Number, y: Number, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    left, right = _tensor(x), _tensor(y)
    return torch.matmul(left.mT if transpose_x else left, right.mT if transpose_y else right)


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


def _layer_norm(
    x: Tensor,
    axes: Sequence[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    dims = [axis % x.dim() for axis in (range(x.dim()) if axes is None else axes)]
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    shape = [length if axis in dims else 1 for axis, length in enumerate(x.shape)]
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _cast(x: Number, dtype: str) -> Tensor:
    kinds = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
    if dtype not in kinds:
        raise NotImplementedError(f"cast to {dtype}")
    # float16 values live in float32 tensors; the executor rounds them by the declared type.
    return _tensor(x).to(kinds[dtype])


def _classify(probabilities: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Place of the likeliest class, and the probabilities; `Program.predict` puts the names to them."""
    if probabilities.shape[-1] != len(classes):
        raise TypeError(f"classify: {len(classes)} names for {probabilities.shape[-1]} probabilities")
    return probabilities.argmax(dim=-1), probabilities


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * _tensor(alpha).reshape(-1, *[1] * (x.dim() - 2)))


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    **QUANTIZE_OPERATIONS,
    **SHAPE_OPERATIONS,
    "abs": _unary(torch.abs),
    "add": _binary(torch.add),
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "cast": _cast,
    "ceil": _unary(torch.ceil),
    "clamped_relu": lambda x, alpha, beta: torch.where(x >= 0, x, alpha * x).clamp(max=beta),
    "classify": _classify,
    "clip": lambda x, alpha=-math.inf, beta=math.inf: x.clamp(alpha, beta),
    "conv": _conv,
    "cos": _unary(torch.cos),
    "elu": lambda x, alpha=1.0: functional.elu(x, alpha),
    "equal": _binary(torch.eq),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "floor": _unary(torch.floor),
    "floor_div": _binary(torch.floor_divide),
    "gelu": _gelu,
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "identity": _unary(lambda x: x),
    "inverse": lambda x, epsilon=1e-4: 1 / (x + epsilon),
    "layer_norm": _layer_norm,
    "leaky_relu": lambda x, alpha=0.01: functional.leaky_relu(x, alpha),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "linear": functional.linear,
    "linear_activation": lambda x, alpha, beta=0.0: alpha * x + beta,
    "log": lambda x, epsilon=1e-45: torch.log(x + epsilon),
    "logical_and": _binary(torch.logical_and),
    "logical_not": _unary(torch.logical_not),
    "logical_or": _binary(torch.logical_or),
    "matmul": _matmul,
    "max_pool": _max_pool,
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mul": _binary(torch.mul),
    "not_equal": _binary(torch.ne),
    "pow": _binary(torch.pow),
    "prelu": _prelu,
    "real_div": _binary(torch.true_divide),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_max": _reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "reduce_mean": _reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "reduce_min": _reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "reduce_sum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "reduce_sum_square": _reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "relu": _unary(torch.relu),
    "relu6": _unary(functional.relu6),
    "round": _unary(torch.round),
    "rsqrt": lambda x, epsilon=1e-12: torch.rsqrt(x + epsilon),
    "scaled_tanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "select": lambda cond, a, b: torch.where(_tensor(cond), _tensor(a), _tensor(b)),
    "sigmoid": _unary(torch.sigmoid),
    "sigmoid_hard": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "sign": _unary(torch.sign),
    "silu": _unary(functional.silu),
    "sin": _unary(torch.sin),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "softplus": _unary(functional.softplus),
    "softsign": _unary(functional.softsign),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "threshold": lambda x, alpha: x.clamp(min=alpha),
    "thresholded_relu": lambda x, alpha=1.0: torch.where(x >= alpha, x, torch.zeros_like(x)),
}
"""Operation type to its function."""

EXACT_OPERATIONS: Final = frozenset(SHAPE_OPERATIONS) | {
    "abs", "clip", "identity", "max_pool", "maximum", "minimum", "reduce_max", "reduce_min", "relu", "select",
}  # fmt: skip
"""Operations whose results are among their inputs (or representable like them), so that nothing is rounded."""
