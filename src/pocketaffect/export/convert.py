"""Network to Core ML: one ML Program with an RGB image in, probabilities and valence-arousal out, in any precision."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.labels import EXPRESSIONS, IMAGE, PROBABILITIES, VALENCE_AROUSAL, VALENCE_AROUSAL_OUTPUT
from pocketaffect.mlpackage.package import ALIGNMENT, package_bytes, save_package
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.precisions import COMPRESSED_ABOVE, PRECISIONS, Precision


@dataclass(frozen=True)
class PackageDescription:
    """What a package says about itself, beside `conventions`, which are always added.

    Xcode and Finder show the short description, one sentence. The metadata are further text under keys of your choice:
    lineage, metrics, verification. `crop_margin` is `preprocess.margin`.
    """

    author: str
    licence: str
    version: str
    short_description: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    crop_margin: float = 0.0


def conventions(size: int, precision: Precision, crop_margin: float) -> dict[str, str]:
    """Returns the metadata that an app needs to feed the model and to read its answer."""
    return {
        "labels": ",".join(EXPRESSIONS),
        "input_color_order": "RGB",
        "input_range": "0..255, one byte per channel; scaling and normalisation are inside the model",
        "input_size": str(size),
        "crop": "a square around the face box: its longer side, plus crop_margin of it at each end",
        "crop_margin": f"{crop_margin:g}",
        "valence_arousal_order": ",".join(VALENCE_AROUSAL),
        "valence_arousal_range": "-1..1; valence: unpleasant to pleasant; arousal: calm to excited",
        "precision": precision.name,
        "deployment_target": precision.target,
    }


@dataclass(frozen=True)
class Package:
    """A saved package: its form, what `save_package` writes elsewhere, its place and size.

    `reference` is the float16 package for the same systems, which it was compressed from.
    """

    precision: Precision
    model: Any
    path: Path
    bytes: int
    reference: Path


class Packages:
    """A network's packages in one precision after another, each made once, below an empty folder.

    A package needs the precision's deployment target. It takes one RGB image with bytes of 0..255 and returns two
    float32 arrays: `probabilities` [1, 8] and `valence_arousal` [1, 2]. The network maps float32 [n, 3, size, size] RGB
    in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
    """

    def __init__(self, network: nn.Module, size: int, description: PackageDescription, folder: Path) -> None:
        self.network = network
        self._size = size
        self._description = description
        self._folder = folder
        self._plain: dict[tuple[str, bool], Any] = {}
        self._made: dict[str, Package] = {}

    def make(self, precision: Precision) -> Package:
        """Makes the package in this precision.

        Raises:
            PocketAffectError: The network cannot be traced, or the description has a key that is a convention's.
        """
        if precision.name not in self._made:
            model = _compress(self._convert(precision), precision)
            _describe(model, self._size, precision, self._description)
            path = self._folder / f"{precision.name}.mlpackage"
            save_package(model, path)
            reference = path if precision.name == "fp16" else self._make_reference(precision)
            self._made[precision.name] = Package(precision, model, path, package_bytes(path), reference)
        return self._made[precision.name]

    def _make_reference(self, precision: Precision) -> Path:
        if precision.target == "iOS16":
            return self.make(PRECISIONS["fp16"]).path
        path = self._folder / f"fp16-{precision.target}.mlpackage"
        if not path.exists():
            save_package(self._convert(precision), path)
        return path

    def estimate_least(self, precision: Precision) -> int:
        """Counts bytes that the package cannot be smaller than, without making it: scales and palettes add to them."""
        saved = sum(size * (16 - precision.bits) // 8 + ALIGNMENT for size in self._large_tensors)
        return self.make(PRECISIONS["fp16"]).bytes - saved

    @cached_property
    def _large_tensors(self) -> list[int]:
        """Lists the numbers of weights in the tensors that compression is for."""
        optimize = import_coremltools("coremltools.optimize.coreml")
        plain = self.make(PRECISIONS["fp16"]).model
        with quiet_conversion():
            found = optimize.get_weights_metadata(plain, weight_threshold=COMPRESSED_ABOVE)
        return [int(weight.val.size) for weight in found.values() if weight.val.ndim > 1]

    def _convert(self, precision: Precision) -> Any:
        key = (precision.target, precision.name == "fp32")
        if key not in self._plain:
            self._plain[key] = _convert(self.network, self._size, precision)
        return self._plain[key]


class ShippedOutputs(nn.Module):
    """The network as apps see it: probabilities in place of logits, and for a twin bytes in place of [0, 1]."""

    def __init__(self, network: nn.Module, *, takes_bytes: bool = False) -> None:
        super().__init__()
        self.network = network
        self.takes_bytes = takes_bytes

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Computes probabilities [n, 8] and valence-arousal [n, 2] from float32 [n, 3, size, size], RGB."""
        logits, valence_arousal = self.network(image / 255 if self.takes_bytes else image)
        return torch.softmax(logits, dim=1), valence_arousal


def _convert(network: nn.Module, size: int, precision: Precision) -> Any:
    """Makes the uncompressed model: the same for all precisions of one deployment target, but for fp32."""
    ct = import_coremltools()
    with quiet_conversion():
        return ct.convert(
            _trace(fold_batchnorm(network), size),
            convert_to="mlprogram",
            inputs=[ct.ImageType(name=IMAGE, shape=(1, 3, size, size), scale=1 / 255, color_layout=ct.colorlayout.RGB)],
            # Without a dtype, outputs of an iOS 16 program would be float16, which few apps expect.
            outputs=[
                ct.TensorType(name=PROBABILITIES, dtype=np.float32),
                ct.TensorType(name=VALENCE_AROUSAL_OUTPUT, dtype=np.float32),
            ],
            minimum_deployment_target=getattr(ct.target, precision.target),
            compute_precision=ct.precision.FLOAT32 if precision.name == "fp32" else ct.precision.FLOAT16,
        )


def _trace(network: nn.Module, size: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, 3, size, size, generator=generator)
    with _one_thread(), torch.no_grad():
        return torch.jit.trace(ShippedOutputs(network).eval(), example)  # type: ignore[no-untyped-call]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps the constants that tracing computes (folded or transposed weights) from depending on the thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compress(model: Any, precision: Precision) -> Any:
    """Compresses every matrix and kernel of more than `COMPRESSED_ABOVE` weights; the same bytes on every run.

    Where a tensor's output channels cannot be divided into groups of the precision's size, the next smaller multiple
    of 8 is taken; where none divides them, the tensor gets one palette. A precision of kind "float" leaves the model.
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
    """Makes coremltools' settings for one tensor, whose axis 0 is the output channels'."""
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
    """Finds the size of a group: the largest multiple of 8, up to `wanted`, that divides the channels, or 0.

    Groups are whole multiples of 8, as the networks' channels are.
    """
    sizes = range(wanted, 0, -8)
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


def _describe(model: Any, size: int, precision: Precision, description: PackageDescription) -> None:
    """Writes description and conventions into a `coremltools.models.MLModel` of the plain form.

    Raises:
        PocketAffectError: The description has a key that is a convention's.
    """
    own = conventions(size, precision, description.crop_margin)
    if taken := sorted(own.keys() & description.metadata.keys()):
        raise PocketAffectError("package metadata: keys that export writes itself", found=", ".join(taken))
    model.author = description.author
    model.license = description.licence
    model.version = description.version
    model.short_description = description.short_description
    for key, value in sorted({**own, **description.metadata}.items()):
        model.user_defined_metadata[key] = value
    model.input_description[IMAGE] = (
        f"A face, RGB, {size} x {size} pixels, bytes of 0 to 255: a square around the face box, "
        f"{description.crop_margin:g} of its longer side wider at each end."
    )
    model.output_description[PROBABILITIES] = f"Probability of each expression: {', '.join(EXPRESSIONS)}."
    model.output_description[VALENCE_AROUSAL_OUTPUT] = (
        "Valence (unpleasant -1 to pleasant 1), then arousal (calm -1 to excited 1)."
    )
