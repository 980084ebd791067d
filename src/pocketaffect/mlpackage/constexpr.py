"""Compressed weights as plain arrays: each `constexpr_*` operation of ML Programs for iOS 16 and iOS 18.

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
    """The value scale * (data - zero_point), with scale and zero point scalar or one per index of `axis`."""
    shape = [1] * quantized_data.ndim
    if np.ndim(scale) or np.ndim(zero_point):
        shape[axis] = -1
    shift = np.asarray(zero_point, np.float32).reshape(shape if np.ndim(zero_point) else ())
    step = np.asarray(scale).reshape(shape if np.ndim(scale) else ())
    exact = step.astype(np.float32) * (quantized_data.astype(np.float32) - shift)
    return np.asarray(exact.astype(np.asarray(scale).dtype))


def _cast(source_val: Array, output_dtype: str) -> Array:
    return source_val.astype({"fp16": np.float16, "fp32": np.float32}[output_dtype])


def _unpack(packed: Array, bits: int, count: int) -> Array:
    """`count` unsigned numbers of `bits` bits each, stored from the least significant bit on."""
    stream = np.unpackbits(packed.view(np.uint8), bitorder="little")[: bits * count]
    weights = (1 << np.arange(bits)).astype(np.uint16)
    return np.asarray((stream.reshape(count, bits) * weights).sum(axis=1))


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


def sparse_mask(mask: Array, shape: Array | None = None) -> NDArray[np.bool_]:
    """Which elements a sparse tensor stores. iOS 16: packed bits and a shape; iOS 18: one element per bit."""
    if shape is None:
        return mask.astype(bool)
    dimensions = tuple(int(length) for length in shape)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    return np.asarray(bits[: int(np.prod(dimensions))].astype(bool).reshape(dimensions))


def _sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Values at the set bits of `mask`, zero elsewhere."""
    present = sparse_mask(mask, shape)
    dense = np.zeros(present.shape, nonzero_data.dtype)
    dense[present] = nonzero_data
    return dense


def _blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """The value scale * (data - offset), each scale and offset valid for a block of `data`."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - _spread(offset, data.shape)
    return np.asarray((_spread(scale, data.shape) * shifted).astype(scale.dtype))


def _spread(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Repeats each block's number over the block, in float32."""
    spread = blocks.astype(np.float32)
    for axis, (length, count) in enumerate(zip(shape, blocks.shape, strict=True)):
        spread = np.repeat(spread, length // count, axis)
    return spread


def _lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> tuple[Array, Array]:
    dense = _lut_to_dense(_sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask
    if vector_axis is not None and lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], axis=vector_axis)
    return mask, dense[mask.astype(bool)]


def _sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    dense = _blockwise_shift_scale(_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask.astype(bool)]


DECODERS: Final[dict[str, Callable[..., Array | tuple[Array, Array]]]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
"""Operation type to the function that decodes it."""
