"""Compressed weights as plain arrays: the `constexpr_*` operations by which ML Programs hold them.

Function parameters carry MIL's input names, so that an operation's inputs are passed as they are. The formulas
are those of the MIL operation reference; results have the data type that the program declares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Array:
    """Computes scale * (data - zero_point), with scale and zero point scalar or one per index of `axis`."""
    shape = [1] * quantized_data.ndim
    if np.ndim(scale) or np.ndim(zero_point):
        shape[axis] = -1
    shift = np.asarray(zero_point, np.float32).reshape(shape if np.ndim(zero_point) else ())
    step = np.asarray(scale).reshape(shape if np.ndim(scale) else ())
    exact = step.astype(np.float32) * (quantized_data.astype(np.float32) - shift)
    return np.asarray(exact.astype(np.asarray(scale).dtype))


def _lut_to_dense(indices: Array, lut: Array, shape: Array | None = None, vector_axis: int | None = None) -> Array:
    """Palette look-up. iOS 16: packed indices and one palette; iOS 18: a palette per block, maybe of vectors."""
    if shape is not None:
        dimensions = tuple(int(length) for length in shape)
        bits = int(np.log2(lut.size))
        return np.asarray(lut[_unpack(indices, bits, int(np.prod(dimensions)))].reshape(dimensions))
    blocks = lut.shape[:-2]
    repeats = [length // block for length, block in zip(indices.shape, blocks, strict=True)]
    grid = np.indices(indices.shape)
    own_block = tuple(axis // repeat for axis, repeat in zip(grid, repeats, strict=True))
    vectors = lut[(*own_block, indices.astype(np.int64))]
    if vectors.shape[-1] == 1:
        return np.asarray(vectors[..., 0])
    axis = int(vector_axis or 0) % indices.ndim
    merged = list(indices.shape)
    merged[axis] *= vectors.shape[-1]
    return np.asarray(np.moveaxis(vectors, -1, axis + 1).reshape(merged))


def _unpack(packed: Array, bits: int, count: int) -> Array:
    """Unpacks `count` unsigned numbers of `bits` bits each, stored from the least significant bit on."""
    stream = np.unpackbits(packed.view(np.uint8), bitorder="little")[: bits * count]
    weights = (1 << np.arange(bits)).astype(np.uint16)
    return np.asarray((stream.reshape(count, bits) * weights).sum(axis=1))


DECODERS: Final[dict[str, Callable[..., Array]]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_lut_to_dense": _lut_to_dense,
}
"""Operation type to the function that decodes it."""
