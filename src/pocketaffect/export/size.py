"""The bytes of a package before anything is trained or converted.

A package is a manifest of fixed length, a weight file whose length follows from the shapes of the tensors (64 bytes,
then 64 for each tensor and its bytes up to the next 64), and the program, which is estimated: a constant for each
design (`size_table`), and what a precision adds for each tensor that it compresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import torch
from torch import nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.compress import divide_channels
from pocketaffect.export.size_table import (
    ALLOWANCE,
    FLOAT32,
    FORMS,
    INLINE_ARRAY,
    PLAIN_HEAD,
    PROGRAMS,
    WIDE_DIMENSION,
)
from pocketaffect.models.network import AffectNetwork, NetworkSpec
from pocketaffect.models.reparameterize import reparameterize
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision, find_precision

MANIFEST: Final = 617
_ALIGNMENT: Final = 64
_FEWEST_IN_FILE: Final = 10
"""Elements: smaller arrays stand in the program."""
_WIDE: Final = 128
_FEWEST_SHARED: Final = 100
"""Elements: equal arrays from here on are stored once."""


class Kernel(NamedTuple):
    """Weights, output and input channels of a matrix or kernel, and the letters of its name in the program."""

    numbers: int
    channels: int
    inputs: int
    letters: int


@dataclass(frozen=True)
class Shapes:
    """What a package's size follows from.

    Attributes:
        spec: Of the network.
        kernels: Every matrix and kernel.
        vectors: Number of elements of every other stored array: biases, of which normalisation leaves one.
        wide: Dimensions of 128 and more among all of them, whose numbers take a byte more.
    """

    spec: NetworkSpec
    kernels: tuple[Kernel, ...]
    vectors: tuple[int, ...]
    wide: int


@lru_cache(maxsize=4096)
def list_shapes(spec: NetworkSpec) -> Shapes:
    """The stored arrays of a network as it ships; builds it with random weights once for each spec, in 0.2 s.

    Raises:
        PocketAffectError: A width or size that the network cannot have.
    """
    with torch.random.fork_rng(devices=[]):
        return read_shapes(reparameterize(AffectNetwork(spec)))


def read_shapes(shipped: AffectNetwork) -> Shapes:
    """The stored arrays of a network whose branches are merged.

    Every normalisation becomes the bias of the layer before it (`fold.fold_batchnorm`), none of which has its own.
    """
    kernels: list[Kernel] = []
    vectors: list[int] = []
    wide = 0
    for name, layer in shipped.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shape = layer.weight.shape
            kernels.append(Kernel(shape.numel(), shape[0], shape[1], len(f"network.{name}.weight")))
            vectors += [] if layer.bias is None else [layer.bias.numel()]
            wide += sum(length >= _WIDE for length in shape)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            vectors.append(layer.num_features)
    if shipped.spec.head == "prototype":
        rows, columns = shipped.prototypes.shape
        kernels.append(Kernel(rows * columns, columns, rows, 0))
    wide += sum(length >= _WIDE for length in vectors)
    return Shapes(shipped.spec, tuple(kernels), tuple(vectors), wide)


def predict_package_bytes(model: NetworkSpec | AffectNetwork | Shapes, precision: str) -> int:
    """The bytes of the `.mlpackage` that the network will ship in, for any width and size, trained or not.

    Never below the truth by more than 512 bytes or 0.5 %, whichever is more (tests/export/test_size.py). Texts of
    params.yaml that go into the package (author, licence) are taken to have the lengths of the shipped ones.

    Args:
        model: A network, or what is needed to build it; from `list_shapes` a guess takes tens of microseconds.
        precision: A key of `precisions.PRECISIONS`.

    Raises:
        PocketAffectError: An unknown precision, one whose size nobody measured (int8-activations), or a network that
            cannot be built.
    """
    if precision not in FORMS:
        found = find_precision(precision).name
        raise PocketAffectError("package size: not known before training", found=found, allowed=", ".join(FORMS))
    if isinstance(model, AffectNetwork):
        model = model.spec
    shapes, form = model if isinstance(model, Shapes) else list_shapes(model), find_precision(precision)
    return _predict(shapes, form)


def _predict(shapes: Shapes, precision: Precision) -> int:
    width = 4 if precision.bits == 32 else 2
    weights, compressed = _ALIGNMENT, 0
    shared: set[int] = set()
    for kernel in shapes.kernels:
        if kernel.numbers <= COMPRESSED_ABOVE or precision.kind == "float":
            weights += _in_file(kernel.numbers * width)
        else:
            compressed += 1
            weights += _compressed_bytes(kernel, precision, shared)
    inline = 0
    for count in shapes.vectors:
        if count < _FEWEST_IN_FILE:
            inline += 1
        else:
            weights += _in_file(count * width)
    form = FORMS[precision.name]
    program = _program_bytes(shapes, precision) + inline * INLINE_ARRAY + shapes.wide * WIDE_DIMENSION
    if compressed:
        program += form.fixed + compressed * form.each
    return MANIFEST + weights + round(program) + ALLOWANCE


def _program_bytes(shapes: Shapes, precision: Precision) -> float:
    """Of the network before compression."""
    spec = shapes.spec
    size = PROGRAMS[spec.architecture] + (PLAIN_HEAD if spec.head == "plain" else 0.0)
    if precision.bits == 32:
        size += FLOAT32.fixed + len(shapes.kernels) * FLOAT32.each
    # What the metadata says of the network: in the description, as input size, in the image's text, as precision.
    return size + len(f"{spec.architecture}{spec.width:g}{precision.name}") + 4 * len(str(spec.size))


def _in_file(size: int) -> int:
    return _ALIGNMENT + -(-size // _ALIGNMENT) * _ALIGNMENT


def _array(count: int, width: int) -> int:
    """An array of `count` elements in the weight file, or nothing where it stands in the program."""
    return _in_file(count * width) if count >= _FEWEST_IN_FILE else 0


def _compressed_bytes(kernel: Kernel, precision: Precision, shared: set[int]) -> int:
    count, channels = kernel.numbers, kernel.channels
    if precision.kind == "linear":
        zeros = 0 if channels in shared else _array(channels, 1)  # one zero point for each channel, all 0
        if channels >= _FEWEST_SHARED:
            shared.add(channels)
        return _in_file(count) + _array(channels, 2) + zeros
    entries = 1 << precision.bits
    group = divide_channels(channels, precision.group) if precision.group else 0
    palettes = channels // group if group else 1
    return _in_file(-(-count * precision.bits // 8)) + _array(palettes * entries, 2)
