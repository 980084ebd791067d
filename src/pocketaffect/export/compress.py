"""A float16 Core ML model to the same model with its large tensors compressed; the same bytes on every run."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision

_CHANNELS_AT_ONCE: Final = 8
"""Groups are whole multiples of this, as the networks' channels are."""


def compress(model: Any, precision: Precision) -> Any:
    """Compresses every matrix and kernel of more than `COMPRESSED_ABOVE` weights.

    Where a tensor's output channels cannot be divided into groups of the precision's size, the next smaller multiple
    of 8 is taken; where none divides them, the tensor gets one palette.

    Args:
        model: A float16 `coremltools.models.MLModel`, converted for `precision.target`; it stays as it is.
        precision: What to make of it.

    Returns:
        A new model; `model` itself for a precision of kind "float".
    """
    if precision.kind == "float":
        return model
    optimize = import_coremltools("coremltools.optimize.coreml")
    config = optimize.OptimizationConfig()
    with quiet_conversion():
        for name, weight in optimize.get_weights_metadata(model, weight_threshold=COMPRESSED_ABOVE).items():
            if weight.val.ndim > 1:  # a very wide network's biases are that large too
                config.set_op_name(name, _configure(optimize, precision, weight.val.shape))
        if precision.kind == "linear":
            return optimize.linear_quantize_weights(model, config)
        return optimize.palettize_weights(model, config)


def _configure(optimize: Any, precision: Precision, shape: tuple[int, ...]) -> Any:
    """What coremltools takes for one tensor, whose axis 0 is the output channels'."""
    if precision.kind == "linear":
        return optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=f"int{precision.bits}",
            granularity="per_channel",
            weight_threshold=COMPRESSED_ABOVE,
        )
    group = divide_channels(shape[0], precision.group)
    return optimize.OpPalettizerConfig(
        mode="custom",
        lut_function=Palettize(precision.bits),
        granularity="per_grouped_channel" if group else "per_tensor",
        group_size=group or 1,
        weight_threshold=COMPRESSED_ABOVE,
    )


def divide_channels(channels: int, wanted: int) -> int:
    """Size of a group: the largest multiple of 8, up to `wanted`, that divides the channels, or 0."""
    sizes = range(wanted, 0, -_CHANNELS_AT_ONCE)
    return next((size for size in sizes if channels % size == 0), 0)


class Palettize:
    """The palette with the least squared error, and each weight's place in it.

    coremltools' own "kmeans" mode hands tensors of less than 10,000 weights to scikit-learn, whose result is a
    local optimum that depends on the number of threads. In one dimension the optimum itself is computable.
    """

    def __init__(self, bits: int) -> None:
        """A palette of 2 ** `bits` values."""
        self.entries = 1 << bits

    def __call__(self, weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Maps any shape to (palette [entries], indices [weights]); unused entries are 0."""
        from coremltools._deps import kmeans1d

        values, places, counts = np.unique(weights.reshape(-1), return_inverse=True, return_counts=True)
        found = kmeans1d.cluster(values, min(self.entries, len(values)), weights=counts)
        palette = np.zeros(self.entries, weights.dtype)
        palette[: len(found.centroids)] = found.centroids
        return palette, np.asarray(found.clusters, np.uint8)[places]
