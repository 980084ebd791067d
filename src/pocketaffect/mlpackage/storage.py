"""How a file holds a tensor of weights, and how far correct rounding to that form may move each weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_HALF_STEP: Final = 2.0**-11
"""Half a step of float16, as a share of a normal number."""
_SMALLEST_HALF_STEP: Final = 2.0**-25


@dataclass(frozen=True)
class Stored:
    """How the file holds one constant.

    Attributes:
        bits: Of each stored weight.
        operations: MIL operations that decode it, first to last; none for a plain array.
        inputs: What the first of them reads, by MIL's names.
        mask: Which weights are stored; None if all are.
    """

    bits: int
    operations: tuple[str, ...] = ()
    inputs: Mapping[str, Array] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None

    @property
    def form(self) -> str:
        """The operations in one line; fp16 or fp32 for a plain array."""
        return ", ".join(self.operations) or f"fp{self.bits}"


def rounding_ratio(original: Array, decoded: Array, stored: Stored, *, on_grid: bool = False) -> float | None:
    """How far a stored tensor lies from the original, in units of what correct rounding explains.

    Weights must be the nearest that their scale or palette can say; a scale must come from the largest weight of
    its block, a palette's value must be the mean of its weights, and pruned weights must be smaller than all kept
    ones. So a change of any stored bit that matters gives more than 1.

    Args:
        original: The tensor before compression.
        decoded: The tensor as the file's reader gets it, of the same shape.
        stored: How the file holds it.
        on_grid: Whether the original may lie on a grid of integers with scales of its own, which the form then holds
            exactly but for float16's rounding.

    Returns:
        The largest ratio over the tensor, NaN if it holds a NaN; None where no bound is known.
    """
    weights, found = original.astype(np.float64), decoded.astype(np.float64)
    kept = np.ones(weights.shape, bool) if stored.mask is None else stored.mask
    dropped = _dropped_ratio(weights, found, kept)
    first = stored.operations[0] if stored.operations else ""
    if first in ("", "constexpr_sparse_to_dense", "constexpr_cast"):
        limit = np.abs(weights) * 2.0**-24 + 1e-45 if stored.bits == 32 else _half_step(weights)
        ratio: float | None = _largest(np.abs(found - weights)[kept] / limit[kept])
    elif first in ("constexpr_lut_to_dense", "constexpr_lut_to_sparse"):
        ratio = _palette_ratio(weights, found, stored.inputs["lut"], kept)
    elif first in ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"):
        ratio = by_scale = _linear_ratio(weights, found, stored)
        if on_grid:
            ratio = min(by_scale, _largest(np.abs(found - weights) / (3 * _half_step(weights))))
    else:
        ratio = None
    return None if ratio is None else _largest(np.array([ratio, dropped]))


def _half_step(numbers: Array) -> Array:
    """How far rounding to float16 may move a number, normal or subnormal."""
    return np.asarray(np.abs(numbers) * _HALF_STEP + _SMALLEST_HALF_STEP)


def _largest(ratios: Array) -> float:
    return float(np.max(ratios, initial=0.0))  # unlike max, hands a NaN on


def _dropped_ratio(weights: Array, found: Array, kept: NDArray[np.bool_]) -> float:
    """Pruned weights against the smallest kept one."""
    if kept.all():
        return 0.0
    if np.any(found[~kept]):
        return float("inf")
    smallest = np.abs(weights[kept]).min(initial=np.inf)
    return _largest(np.abs(weights[~kept]) / (smallest + 2 * _half_step(smallest)))


def _palette_ratio(weights: Array, found: Array, lut: Array, kept: NDArray[np.bool_]) -> float | None:
    """One palette for the whole tensor, or for each group along the first axis."""
    if lut.ndim > 1 and (lut.shape[-1] != 1 or any(count != 1 for count in lut.shape[1:-2])):
        return None
    palettes = lut.reshape(1, -1) if lut.ndim == 1 else lut.reshape(lut.shape[0], -1)
    ratios = []
    groups = (np.split(array, len(palettes)) for array in (weights, found, kept))
    for palette, own, decoded, present in zip(palettes.astype(np.float64), *groups, strict=True):
        wanted, got = own[present], decoded[present]
        nearest = _nearest(wanted, np.unique(palette))
        # Clustering saw float16 weights, and exact means that float16 then rounded.
        slack = 2 * _half_step(wanted) + _half_step(got) + _half_step(nearest)
        ratios += [_largest(np.abs(got - wanted) / (np.abs(nearest - wanted) + slack)), _mean_ratio(wanted, got)]
    return _largest(np.array(ratios))


def _nearest(numbers: Array, values: Array) -> Array:
    """For each number the nearest of the sorted values."""
    above = np.searchsorted(values, numbers).clip(1, max(len(values) - 1, 1))
    low, high = values[above - 1], values[np.minimum(above, len(values) - 1)]
    return np.asarray(np.where(np.abs(numbers - low) <= np.abs(high - numbers), low, high))


def _mean_ratio(wanted: Array, got: Array) -> float:
    """Each value that is in use against the mean of its weights."""
    values, places, counts = np.unique(got, return_inverse=True, return_counts=True)
    means = np.bincount(places, wanted, len(values)) / counts
    steps = np.bincount(places, _half_step(wanted), len(values)) / counts
    return _largest(np.abs(values - means) / (_half_step(values) + steps))


def _linear_ratio(weights: Array, found: Array, stored: Stored) -> float:
    """Integers symmetric around zero, times a scale for the tensor or for each block of it.

    Integers with a shift have steps of another width, of which only the size is known.
    """
    scale = np.asarray(stored.inputs["scale"], np.float64)
    shifted = any(np.any(stored.inputs[name]) for name in ("zero_point", "offset") if name in stored.inputs)
    if scale.ndim == 1 and weights.ndim > 1:
        shape = [1] * weights.ndim
        shape[int(stored.inputs["axis"])] = -1
        scale = scale.reshape(shape)
    elif scale.ndim == 0:
        scale = scale.reshape([1] * weights.ndim)
    highest = 2 ** (stored.bits - 1) - 1
    step = _block_maximum(np.abs(weights), scale.shape) / highest
    wide = step
    for axis, (length, count) in enumerate(zip(weights.shape, scale.shape, strict=True)):
        wide = np.repeat(wide, length // count, axis)
    # Half a step; float16 rounds the weight before, the scale, and the product.
    limit = 0.5 * wide + highest * 3 * (wide * _HALF_STEP + _SMALLEST_HALF_STEP)
    if shifted:
        return _largest(np.abs(found - weights) / limit)
    of_scale = np.abs(scale - step) / (3 * step * _HALF_STEP + 2 * _SMALLEST_HALF_STEP)
    return _largest(np.array([_largest(np.abs(found - weights) / limit), _largest(of_scale)]))


def _block_maximum(numbers: Array, blocks: tuple[int, ...]) -> Array:
    """The largest number of each block, where `blocks` says how many there are along each axis."""
    for axis, (length, count) in enumerate(zip(numbers.shape, blocks, strict=True)):
        split = [*numbers.shape[:axis], count, length // count, *numbers.shape[axis + 1 :]]
        numbers = numbers.reshape(split).max(axis + 1)
    return numbers
