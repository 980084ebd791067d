"""What each MIL operation computes, in torch; parameters carry MIL's input names.

They are those that our designs convert to; loading a program with another one names it. To teach one, add its function
here and a case to tests/mlpackage/test_ops.py, which compares it with coremltools' own.

Numbers arrive as float32 tensors, Python numbers, strings or lists of numbers. A mode that is not implemented
raises NotImplementedError, which the loader turns into a refusal of the package.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional


def _pad(x: Tensor, pad_type: str, pad: Sequence[int] | None, value: float) -> tuple[Tensor, list[int]]:
    """Pads an image at the sides that differ; also gives what is left to pad evenly: [rows, columns]."""
    if x.dim() != 4 or pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"pad_type {pad_type!r} of rank {x.dim()}")
    top, bottom, left, right = [0] * 4 if pad_type == "valid" or pad is None else pad
    if top == bottom and left == right:
        return x, [top, left]
    return functional.pad(x, [left, right, top, bottom], value=value), [0, 0]


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] = (1, 1),
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    x, even = _pad(x, pad_type, pad, 0.0)
    return functional.conv2d(x, weight, bias, list(strides), even, list(dilations), groups)


def _max_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    x, even = _pad(x, pad_type, pad, -math.inf)
    return functional.max_pool2d(x, list(kernel_sizes), list(strides or [1, 1]), even, 1, ceil_mode)


def _reduce_mean(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
    return x.mean(list(range(x.dim())) if axes is None else list(axes), keep_dims)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    # MIL: a zero keeps the length that the input has at this place.
    return x.reshape([x.shape[axis] if length == 0 else length for axis, length in enumerate(shape)])


def _gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode != "EXACT":
        raise NotImplementedError(f"gelu with mode {mode!r}")
    return functional.gelu(x)


def _cast(x: Tensor, dtype: str) -> Tensor:
    if dtype not in ("fp16", "fp32"):
        raise NotImplementedError(f"cast to {dtype}")
    return x  # float16 values live in float32 tensors; the executor rounds them by the declared type


def _classify(probabilities: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Finds the place of the likeliest class, and the probabilities; `Program.predict` puts the names to them."""
    if probabilities.shape[-1] != len(classes):
        raise TypeError(f"classify: {len(classes)} names for {probabilities.shape[-1]} probabilities")
    return probabilities.argmax(dim=-1), probabilities


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "add": lambda x, y: x + y,
    "cast": _cast,
    "classify": _classify,
    "clip": lambda x, alpha=-math.inf, beta=math.inf: x.clamp(alpha, beta),
    "conv": _conv,
    "gelu": _gelu,
    "linear": lambda x, weight, bias=None: functional.linear(x, weight, bias),
    "max_pool": _max_pool,
    "mul": lambda x, y: x * y,
    "reduce_mean": _reduce_mean,
    "relu": lambda x: torch.relu(x),
    "reshape": _reshape,
    "sigmoid": lambda x: torch.sigmoid(x),
    "sigmoid_hard": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "sub": lambda x, y: x - y,
    "thresholded_relu": lambda x, alpha=1.0: torch.where(x >= alpha, x, torch.zeros_like(x)),
}
"""Operation type to its function."""

EXACT_OPERATIONS: Final = frozenset({"clip", "max_pool", "relu", "reshape"})
"""Operations whose results are among their inputs (or representable like them), so that nothing is rounded."""
