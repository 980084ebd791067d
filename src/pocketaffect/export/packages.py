"""A network's packages in one precision after another, each made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from torch import nn

from pocketaffect.export.convert import convert_plain, finish
from pocketaffect.export.describe import PackageDescription
from pocketaffect.mlpackage.package import package_bytes, save_package
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision, find_precision

_PADDING: Final = 64
"""Weight files start each tensor at a multiple of it."""


@dataclass(frozen=True)
class Package:
    """A saved package.

    Attributes:
        precision: Its form.
        model: What `package.save_package` writes elsewhere.
        path: Where it lies.
        bytes: Its size.
    """

    precision: Precision
    model: Any
    path: Path
    bytes: int


class Packages:
    """Makes packages of one network below one folder.

    Args:
        network: As it shall be converted.
        size: Pixels a side.
        description: Goes into every package's metadata.
        folder: An empty one, for the packages.
        compact: As `export.compact` in params.yaml.
    """

    def __init__(
        self, network: nn.Module, size: int, description: PackageDescription, folder: Path, *, compact: bool = True
    ) -> None:
        self._network = network
        self._size = size
        self._description = description
        self._folder = folder
        self._compact = compact
        self._plain: dict[tuple[str, bool], Any] = {}
        self._made: dict[str, Package] = {}

    def make(self, precision: Precision) -> Package:
        """The package in this precision."""
        if precision.name not in self._made:
            model = finish(self._convert(precision), self._size, precision, self._description)
            path = self._folder / f"{precision.name}.mlpackage"
            save_package(model, path, compact=self._compact)
            self._made[precision.name] = Package(precision, model, path, package_bytes(path))
        return self._made[precision.name]

    def make_reference(self, precision: Precision) -> Path:
        """The float16 package for the precision's deployment target: what its own was compressed from."""
        if precision.integer_activations:  # there is no other form of such a network
            return self.make(precision).path
        if precision.target == "iOS16":
            return self.make(find_precision("fp16")).path
        path = self._folder / f"fp16-{precision.target}.mlpackage"
        if not path.exists():
            save_package(self._convert(precision), path, compact=self._compact)
        return path

    def estimate_least(self, precision: Precision) -> int:
        """Bytes that the package cannot be smaller than, without making it: scales and palettes come on top."""
        bits = precision.bits * (1 - precision.sparsity) + (1 if precision.sparsity else 0)
        saved = sum(int(size * (16 - bits) / 8) + _PADDING for size in self._large_tensors)
        return self.make(find_precision("fp16")).bytes - saved

    @cached_property
    def _large_tensors(self) -> list[int]:
        """Numbers of weights in the tensors that compression is for."""
        optimize = import_coremltools("coremltools.optimize.coreml")
        plain = self.make(find_precision("fp16")).model
        with quiet_conversion():
            found = optimize.get_weights_metadata(plain, weight_threshold=COMPRESSED_ABOVE)
        return [int(weight.val.size) for weight in found.values() if weight.val.ndim > 1]

    def _convert(self, precision: Precision) -> Any:
        key = (precision.target, precision.name == "fp32")  # integer activations have a target of their own
        if key not in self._plain:
            self._plain[key] = convert_plain(self._network, size=self._size, precision=precision)
        return self._plain[key]
