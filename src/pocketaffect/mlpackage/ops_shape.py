"""MIL operations that move numbers without computing new ones; parameters carry MIL's input names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional


def _integers(value: Any) -> list[int]:
    flat = value.reshape(-1).tolist() if isinstance(value, Tensor) else list(value)
    return [int(number) for number in flat]


def _reshape(x: Tensor, shape: Any) -> Tensor:
    lengths = _integers(shape)
    # MIL: a zero keeps the length that the input has at this place.
    return x.reshape([x.shape[axis] if length == 0 else length for axis, length in enumerate(lengths)])


def _expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    if axes is None:
        axes = [axis for axis, length in enumerate(x.shape) if length == 1]
    return x.squeeze([axis % x.dim() for axis in axes])


def _concat(values: Sequence[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise NotImplementedError("concat with interleave")
    return torch.cat(list(values), axis)


def _split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), axis)
    assert num_splits is not None
    return torch.tensor_split(x, num_splits, axis)


def _slice_by_index(
    x: Tensor,
    begin: Any,
    end: Any,
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    first, last = _integers(begin), _integers(end)
    index: list[slice | int] = []
    for axis in range(x.dim()):
        step = stride[axis] if stride else 1
        if step < 1:
            raise NotImplementedError("slice_by_index with a negative stride")
        if squeeze_mask and squeeze_mask[axis]:
            index.append(first[axis])
            continue
        start = None if begin_mask and begin_mask[axis] else first[axis]
        stop = None if end_mask and end_mask[axis] else last[axis]
        index.append(slice(start, stop, step))
    return x[tuple(index)]


def _slice_by_size(x: Tensor, begin: Any, size: Any) -> Tensor:
    pairs = zip(_integers(begin), _integers(size), strict=True)
    return x[tuple(slice(start, None if length == -1 else start + length) for start, length in pairs)]


def _pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    if mode not in ("constant", "reflect", "replicate"):
        raise NotImplementedError(f"pad with mode {mode!r}")
    pairs = [tuple(pad[place : place + 2]) for place in range(0, len(pad), 2)]
    sides = [side for pair in reversed(pairs) for side in pair]
    if mode == "constant":
        return functional.pad(x, sides, value=constant_val)
    # torch pads only trailing axes in these modes, MIL also names leading ones with zeros.
    while sides[-2:] == [0, 0]:
        sides = sides[:-2]
    return functional.pad(x, sides, mode=mode) if sides else x


def _gather(x: Tensor, indices: Any, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    del validate_indices  # torch checks them anyway
    if batch_dims:
        raise NotImplementedError("gather with batch_dims")
    places = torch.as_tensor(indices).long()
    taken = x.index_select(axis, places.reshape(-1) % x.shape[axis])
    axis %= x.dim()
    return taken.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


SHAPE_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "concat": _concat,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "pad": _pad,
    "reshape": _reshape,
    "reverse": lambda x, axes=None: x.flip(list(range(x.dim())) if axes is None else list(axes)),
    "shape": lambda x: torch.tensor(x.shape, dtype=torch.int32),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda values, axis: torch.stack(list(values), axis),
    "tile": lambda x, reps: x.tile(_integers(reps)),
    "transpose": lambda x, perm: x.permute(list(perm)),
}
"""Operation type to its function."""
