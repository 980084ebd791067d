"""Network to Core ML: one ML Program with an RGB image in, probabilities and valence-arousal out, in any precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketaffect.export.compress import compress
from pocketaffect.export.describe import (
    IMAGE,
    PROBABILITIES,
    VALENCE_AROUSAL_OUTPUT,
    PackageDescription,
    check_metadata,
    describe,
)
from pocketaffect.export.layers import fold_batchnorm
from pocketaffect.mlpackage.package import ALIGNMENT, package_bytes, save_package
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.precisions import COMPRESSED_ABOVE, PRECISIONS, Precision, find_precision


class _ShippedOutputs(nn.Module):
    """The network as a phone sees it: probabilities in place of logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, valence_arousal = self.network(image)
        return torch.softmax(logits, dim=1), valence_arousal


def convert(network: nn.Module, *, size: int, precision: str, description: PackageDescription) -> Any:
    """Converts a trained network to a Core ML model; `mlpackage.package.save_package` writes it.

    The program needs the precision's deployment target. It takes one RGB image with bytes of 0..255 and returns two
    float32 arrays: `probabilities` [1, 8] and `valence_arousal` [1, 2].

    Args:
        network: Maps float32 [n, 3, size, size] RGB in [0, 1] to (logits [n, 8], valence-arousal [n, 2]).
        size: Pixels a side.
        precision: A key of `precisions.PRECISIONS`.
        description: Goes into the package's metadata.

    Returns:
        A `coremltools.models.MLModel`.

    Raises:
        PocketAffectError: An unknown precision, a network that cannot be traced, or a metadata key that
            `convert` itself writes.
    """
    chosen = find_precision(precision)
    check_metadata(size, chosen, description)
    return _finish(_convert_plain(network, size, chosen), size, chosen, description)


def _convert_plain(network: nn.Module, size: int, precision: Precision) -> Any:
    """The uncompressed model: the same for all precisions of one deployment target, but for fp32."""
    ct = import_coremltools()
    import numpy as np

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


def _finish(plain: Any, size: int, precision: Precision, description: PackageDescription) -> Any:
    """Compresses a model and describes it; `plain` may gain the description."""
    model = compress(plain, precision)
    describe(model, size, description, check_metadata(size, precision, description))
    return model


def _trace(network: nn.Module, size: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, 3, size, size, generator=generator)
    with _one_thread(), torch.no_grad():
        return torch.jit.trace(_ShippedOutputs(network).eval(), example)  # type: ignore[no-untyped-call]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Constants that tracing computes (folded or transposed weights) must not depend on the thread count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Package:
    """A saved package.

    Attributes:
        precision: Its form.
        model: What `save_package` writes elsewhere.
        path: Where it lies.
        bytes: Its size.
        reference: The float16 package for the same systems, which it was compressed from.
    """

    precision: Precision
    model: Any
    path: Path
    bytes: int
    reference: Path


class Packages:
    """A network's packages in one precision after another, each made once, below one folder.

    Attributes:
        network: As given.

    Args:
        network: As it shall be converted.
        size: Pixels a side.
        description: Goes into every package's metadata.
        folder: An empty one, for the packages.
    """

    def __init__(self, network: nn.Module, size: int, description: PackageDescription, folder: Path) -> None:
        self.network = network
        self._size = size
        self._description = description
        self._folder = folder
        self._plain: dict[tuple[str, bool], Any] = {}
        self._made: dict[str, Package] = {}

    def make(self, precision: Precision) -> Package:
        """Makes the package in this precision."""
        if precision.name not in self._made:
            model = _finish(self._convert(precision), self._size, precision, self._description)
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
        """Bytes that the package cannot be smaller than, without making it: scales and palettes come on top."""
        saved = sum(size * (16 - precision.bits) // 8 + ALIGNMENT for size in self._large_tensors)
        return self.make(PRECISIONS["fp16"]).bytes - saved

    @cached_property
    def _large_tensors(self) -> list[int]:
        """Numbers of weights in the tensors that compression is for."""
        optimize = import_coremltools("coremltools.optimize.coreml")
        plain = self.make(PRECISIONS["fp16"]).model
        with quiet_conversion():
            found = optimize.get_weights_metadata(plain, weight_threshold=COMPRESSED_ABOVE)
        return [int(weight.val.size) for weight in found.values() if weight.val.ndim > 1]

    def _convert(self, precision: Precision) -> Any:
        key = (precision.target, precision.name == "fp32")
        if key not in self._plain:
            self._plain[key] = _convert_plain(self.network, self._size, precision)
        return self._plain[key]
