"""MIL operations between numbers and 8-bit integers; parameters carry MIL's input names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

_RANGES: Final = {"int8": (-128, 127), "uint8": (0, 255)}


def _along_axis(value: Any, x: Tensor, axis: int | None) -> Tensor:
    """One number for all of `x`, or one for each index of `axis`, in a shape that broadcasts."""
    numbers = torch.as_tensor(value, dtype=torch.float32)
    if not numbers.dim():
        return numbers
    if axis is None:
        raise NotImplementedError("several scales without an axis")
    shape = [1] * x.dim()
    shape[axis] = -1
    return numbers.reshape(shape)


def _quantize(
    input: Tensor,  # noqa: A002
    scale: Any,
    output_dtype: str,
    zero_point: Sequence[int] | int = 0,
    axis: int | None = None,
) -> Tensor:
    if output_dtype not in _RANGES:
        raise NotImplementedError(f"quantize to {output_dtype}")
    low, high = _RANGES[output_dtype]
    steps = torch.round(input / _along_axis(scale, input, axis)) + _along_axis(zero_point, input, axis)
    return steps.clamp(low, high)


def _dequantize(
    input: Tensor,  # noqa: A002
    scale: Any,
    zero_point: Sequence[int] | int = 0,
    axis: int | None = None,
) -> Tensor:
    return (input - _along_axis(zero_point, input, axis)) * _along_axis(scale, input, axis)


QUANTIZE_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {"dequantize": _dequantize, "quantize": _quantize}
"""Operation type to its function."""
