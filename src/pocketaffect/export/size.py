"""What a network costs on the phone before it is trained or converted: bytes of its package, numbers, multiplications.

A package is a manifest of fixed length, a weight file whose length follows from the shapes of the tensors (64 bytes,
then 64 for each tensor and its bytes up to the next 64), and the program, which was measured once for each design
(`program_bytes.json`): its length in each format, and what each precision adds for a tensor that it compresses.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from pocketaffect.designs import CATALOGUE, find_design
from pocketaffect.export.convert import divide_channels
from pocketaffect.export.layers import reparameterize
from pocketaffect.mlpackage.package import ALIGNMENT, aligned_bytes
from pocketaffect.models.network import AffectNetwork, NetworkSpec, count_macs, count_parameters
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision, find_precision
from pocketaffect.tables import render_table

WIDTHS: Final = (0.25, 0.5, 1.0)
LISTED: Final = ("fp16", "int8")
"""Widths and precisions that `pocketaffect models` shows."""

MEASURED: Final = Path(__file__).with_name("program_bytes.json")
"""What `benchmarks/export/fit_size.py` measured of each design."""
MANIFEST: Final = 617
_FEWEST_IN_FILE: Final = 10
"""Elements: smaller arrays stand in the program."""
_INLINE_ARRAY: Final = -15
"""Bytes of the program for each array that stands in it, not in the weight file."""
_WIDE: Final = 128
_WIDE_DIMENSION: Final = 3.2
"""Bytes of the program for each dimension of `_WIDE` and more: its number takes a byte more wherever it stands."""
_FEWEST_SHARED: Final = 100
"""Elements: equal arrays from here on are stored once."""
_ALLOWANCE: Final = 64
"""Rather over the truth than under it."""


class Kernel(NamedTuple):
    """A matrix or kernel: number of its weights, and of its output channels."""

    numbers: int
    channels: int


@dataclass(frozen=True)
class Shapes:
    """What a package's size follows from: its network, and every matrix and kernel.

    `vectors` has the number of elements of every other stored array, biases, of which normalisation leaves one; `wide`
    counts the dimensions of 128 and more among all of them, whose numbers take a byte more.
    `macs` are multiply-accumulates of one image, on which no size depends.
    """

    spec: NetworkSpec
    kernels: tuple[Kernel, ...]
    vectors: tuple[int, ...]
    wide: int
    macs: int

    @property
    def compressed(self) -> int:
        """Counts the kernels that a precision with compression compresses."""
        return sum(kernel.numbers > COMPRESSED_ABOVE for kernel in self.kernels)

    def program_bytes(self, precision: str) -> float:
        """Counts bytes of the program that depend on widths, and on texts about the network in the metadata."""
        spec = self.spec
        inline = sum(count < _FEWEST_IN_FILE for count in self.vectors)
        # What the metadata says of the network: in the description, as input size, in the image's text, as precision.
        texts = len(f"{spec.architecture}{spec.width:g}{precision}") + 4 * len(str(spec.size))
        return inline * _INLINE_ARRAY + self.wide * _WIDE_DIMENSION + texts


@lru_cache(maxsize=4096)
def list_shapes(spec: NetworkSpec) -> Shapes:
    """Lists the stored arrays of a network as it ships; builds it with random weights once for each spec, in 0.2 s.

    Raises:
        PocketAffectError: A width or size that the network cannot have.
    """
    with torch.random.fork_rng(devices=[]):
        return read_shapes(reparameterize(AffectNetwork(spec)))


def read_shapes(shipped: AffectNetwork) -> Shapes:
    """Lists the stored arrays of a network whose branches are merged.

    Every normalisation becomes the bias of the layer before it (`layers.fold_batchnorm`), none of which has its own.
    """
    kernels: list[Kernel] = []
    vectors: list[int] = []
    wide = 0
    for layer in shipped.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            shape = layer.weight.shape
            kernels.append(Kernel(shape.numel(), shape[0]))
            vectors += [] if layer.bias is None else [layer.bias.numel()]
            wide += sum(length >= _WIDE for length in shape)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            vectors.append(layer.num_features)
    if shipped.spec.head == "prototype":
        rows, columns = shipped.prototypes.shape
        kernels.append(Kernel(rows * columns, columns))
    wide += sum(length >= _WIDE for length in vectors)
    return Shapes(shipped.spec, tuple(kernels), tuple(vectors), wide, count_macs(shipped, shipped.spec.size))


def predict_package_bytes(model: NetworkSpec | AffectNetwork | Shapes, precision: str) -> int:
    """Predicts the bytes of the `.mlpackage` that the network will ship in, for any width and size, trained or not.

    Never below the truth by more than 512 bytes or 0.5 %, whichever is more (tests/export/test_size.py). Texts of
    params.yaml that go into the package (author, licence) are taken to have the lengths of the shipped ones. Given what
    `list_shapes` found, a guess takes tens of microseconds.

    Raises:
        PocketAffectError: An unknown precision, or a network that cannot be built.
    """
    form = find_precision(precision)
    if isinstance(model, AffectNetwork):
        model = model.spec
    shapes = model if isinstance(model, Shapes) else list_shapes(model)
    measured = read_measured()["designs"][shapes.spec.architecture]
    program: float = measured["programs"]["fp32" if form.bits == 32 else form.target]
    program += measured["plain_head"] if shapes.spec.head == "plain" else 0
    if form.kind != "float":
        program += measured["compressed"] + shapes.compressed * measured["each"][form.name]
    return MANIFEST + _weight_bytes(shapes, form) + round(program + shapes.program_bytes(precision)) + _ALLOWANCE


@cache
def read_measured() -> dict[str, Any]:
    """Reads `MEASURED`."""
    content: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return content


def _weight_bytes(shapes: Shapes, precision: Precision) -> int:
    width = 4 if precision.bits == 32 else 2
    size = ALIGNMENT + sum(_array(count, width) for count in shapes.vectors)
    shared: set[int] = set()
    for kernel in shapes.kernels:
        if kernel.numbers <= COMPRESSED_ABOVE or precision.kind == "float":
            size += aligned_bytes(kernel.numbers * width)
        else:
            size += _compressed_bytes(kernel, precision, shared)
    return size


def _array(count: int, width: int) -> int:
    """Counts bytes of an array of `count` elements in the weight file: none where it stands in the program."""
    return aligned_bytes(count * width) if count >= _FEWEST_IN_FILE else 0


def _compressed_bytes(kernel: Kernel, precision: Precision, shared: set[int]) -> int:
    numbers = aligned_bytes(-(-kernel.numbers * precision.bits // 8))
    if precision.kind == "linear":
        zeros = 0 if kernel.channels in shared else _array(kernel.channels, 1)  # a zero point for each channel, all 0
        if kernel.channels >= _FEWEST_SHARED:
            shared.add(kernel.channels)
        return numbers + _array(kernel.channels, 2) + zeros
    group = divide_channels(kernel.channels, precision.group)
    palettes = kernel.channels // group if group else 1
    return numbers + _array(palettes * (1 << precision.bits), 2)


@dataclass(frozen=True)
class ModelRow:
    """One network of `pocketaffect models`: multiplications for an image, and bytes predicted for each of `LISTED`.

    In the shipped form branches are merged and batch normalisation is folded: it has fewer numbers than were trained.
    """

    spec: NetworkSpec
    trained_parameters: int
    shipped_parameters: int
    macs: int
    bytes: tuple[int, ...]


def list_models(size: int, widths: Sequence[float] = WIDTHS, *, full_resolution_stem: bool = False) -> list[ModelRow]:
    """Builds every design at every width (random weights, about 0.1 s each) for `size` pixels a side, and counts.

    Raises:
        PocketAffectError: A width or size that a network cannot have.
    """
    return [
        _measure(NetworkSpec(name, width, size, "prototype", full_resolution_stem=full_resolution_stem))
        for name in CATALOGUE
        for width in widths
    ]


def _measure(spec: NetworkSpec) -> ModelRow:
    network = AffectNetwork(spec).eval()
    # The others' copies have the same numbers, and copying is most of the time.
    shipped = reparameterize(network) if find_design(spec.architecture).reparameterised else network
    shapes = read_shapes(shipped)
    sizes = tuple(predict_package_bytes(shapes, precision) for precision in LISTED)
    return ModelRow(spec, count_parameters(network), count_shipped_parameters(shipped), shapes.macs, sizes)


def count_shipped_parameters(shipped: nn.Module) -> int:
    """Counts numbers that remain when `shipped`, from `reparameterize`, has its normalisations folded.

    Of a normalisation's four numbers per channel, one survives: as the bias of the layer before it, none of which
    has one of its own.
    """
    norms = [layer for layer in shipped.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    return count_parameters(shipped) - 3 * sum(norm.num_features for norm in norms)


def render_models(rows: Sequence[ModelRow]) -> str:
    """Renders the rows as text with aligned columns, and below them where each design comes from."""
    header = [
        "model",
        "width",
        "pixels",
        "trained",
        "shipped",
        "MMACs",
        *(f"{name} bytes" for name in LISTED),
        "licence",
    ]
    table = [
        [
            row.spec.architecture,
            f"{row.spec.width:g}",
            f"{row.spec.size}",
            f"{row.trained_parameters:,}",
            f"{row.shipped_parameters:,}",
            f"{row.macs / 1e6:.1f}",
            *(f"{size:,}" for size in row.bytes),
            find_design(row.spec.architecture).licence,
        ]
        for row in rows
    ]
    lines = [render_table([header, *table], "l" + "r" * (len(header) - 2) + "l"), ""]
    for design in map(find_design, dict.fromkeys(row.spec.architecture for row in rows)):
        merged = "; branches are merged before export" if design.reparameterised else ""
        weights = f"; ImageNet weights: {design.weights}" if design.weights else ""
        lines.append(
            f"{design.name}: {design.citation}; from {design.smallest_size} pixels{merged}{weights}; {design.source}"
        )
    return "\n".join(lines)
