"""What a package holds: bytes by layer and precision, operations, the system it needs, what it says of itself."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect.mlpackage import package

SYSTEMS: Final = {
    5: "iOS 14, macOS 11",
    6: "iOS 15, macOS 12",
    7: "iOS 16, macOS 13",
    8: "iOS 17, macOS 14",
    9: "iOS 18, macOS 15",
    10: "iOS 26, macOS 26",
}
"""Oldest systems that open a specification version (coremltools: `ct.target`)."""

LAYERS: Final = ("conv", "conv_transpose", "linear", "matmul", "batch_norm", "layer_norm")
_FORMS: Final = {
    "constexpr_affine_dequantize": "int8",
    "constexpr_blockwise_shift_scale": "blocks",
    "constexpr_cast": "fp16",
    "constexpr_lut_to_dense": "palette",
    "constexpr_lut_to_sparse": "sparse palette",
    "constexpr_sparse_blockwise_shift_scale": "sparse blocks",
    "constexpr_sparse_to_dense": "sparse",
}


@dataclass(frozen=True)
class Layer:
    """One operation with stored tensors, named by its weight, without the converter's endings.

    `kind` is MIL's operation type; `stored_as` fp32, fp16, int8, a palette with its bits, …; the bits are those of each
    weight, all of the layer's bytes counted, which are those in the weight file, records and padding included.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    stored_as: str
    bits: float
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """What `inspect_package` found."""

    path: str
    digest: str
    bytes: int
    program_bytes: int
    weight_bytes: int
    specification: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    other_bytes: int
    operations: dict[str, int]
    metadata: dict[str, str]

    @property
    def system(self) -> str:
        """Names the oldest systems that open it."""
        return SYSTEMS.get(self.specification, f"specification version {self.specification}")

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {**asdict(self), "system": self.system}

    def to_text(self) -> str:
        """Writes it for a person."""
        return "\n".join((*self._head(), "", *self._layer_lines(), "", *self._tail()))

    def _head(self) -> Iterator[str]:
        yield f"{self.path}: {self.bytes:,} bytes, needs {self.system}"
        rest = self.bytes - self.program_bytes - self.weight_bytes
        yield f"  weights {self.weight_bytes:,}, program {self.program_bytes:,}, manifest {rest:,}"
        yield f"  sha256 {self.digest}"
        for what, values in (("in ", self.inputs), ("out", self.outputs)):
            yield from (f"  {what}    {value}" for value in values)

    def _layer_lines(self) -> Iterator[str]:
        width = max((len(layer.name) for layer in self.layers), default=0)
        line = f"{{:{max(width, 17)}}}  {{:14}}  {{:16}}  {{:14}}  {{:>6}}  {{:>10}}  {{:>6}}"
        yield line.format("layer", "operation", "weight", "stored as", "bits", "bytes", "share")
        for layer in self.layers:
            shape, bits = " x ".join(map(str, layer.shape)), f"{layer.bits:.1f}"
            share = f"{layer.bytes / self.bytes:.1%}"
            yield line.format(layer.name, layer.kind, shape, layer.stored_as, bits, f"{layer.bytes:,}", share)
        share = f"{self.other_bytes / self.bytes:.1%}"
        yield line.format("constants besides", "", "", "", "", f"{self.other_bytes:,}", share)

    def _tail(self) -> Iterator[str]:
        counted = sorted(self.operations.items(), key=lambda item: (-item[1], item[0]))
        yield "operations: " + ", ".join(f"{count} {kind}" for kind, count in counted)
        yield ""
        width = max((len(key) for key in self.metadata), default=0)
        yield from (f"{key.ljust(width)}  {value}" for key, value in sorted(self.metadata.items()))


def inspect_package(path: Path) -> Inspection:
    """Reads a package without executing it: one whose operations the interpreter does not know can be looked at too.

    Raises:
        PocketAffectError: As for `package.read_spec`.
    """
    spec = package.read_spec(path)
    folder = package.weights_folder(path)
    operations = list(package.walk_operations(spec.mlProgram))
    makers = {output.name: operation for operation in operations for output in operation.outputs}
    counted: set[tuple[str, int]] = set()  # tensors of equal values are stored once, and count for their first reader
    layers = []
    for operation in operations:
        if operation.type in LAYERS and (weight := _first_constant(operation, makers)) is not None:
            constants = [makers[name] for name in _constants_of(operation, makers)]
            layers.append(_describe_layer(operation, weight, _count_bytes(constants, folder, counted)))
    weights = sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
    kinds = Counter(operation.type for operation in operations if not _is_constant(operation))
    return Inspection(
        path=str(path),
        digest=package.package_digest(path),
        bytes=package.package_bytes(path),
        program_bytes=spec.ByteSize(),
        weight_bytes=weights,
        specification=int(spec.specificationVersion),
        inputs=tuple(_describe_feature(feature) for feature in spec.description.input),
        outputs=tuple(_describe_feature(feature) for feature in spec.description.output),
        layers=tuple(layers),
        other_bytes=_count_bytes(operations, folder, counted),
        operations=dict(sorted(kinds.items())),
        metadata=package.list_metadata(spec),
    )


def _is_constant(operation: Any) -> bool:
    kind = str(operation.type)
    return kind == "const" or kind.startswith("constexpr_")


def _constants_of(operation: Any, makers: dict[str, Any]) -> Iterator[str]:
    """Lists the constants that an operation reads, those that its compressed weights are made of too."""
    for name in dict.fromkeys(binding.name for binding in package.named_bindings(operation)):
        if name in makers and _is_constant(makers[name]):
            yield name
            yield from _constants_of(makers[name], makers)


def _first_constant(operation: Any, makers: dict[str, Any]) -> Any | None:
    """Finds the constant that holds the layer's weight."""
    for key in ("weight", "y", "gamma", "mean"):
        for binding in operation.inputs[key].arguments if key in operation.inputs else ():
            maker = makers.get(binding.name)
            if maker is not None and _is_constant(maker):
                return maker
    return None


def _count_bytes(operations: Iterable[Any], folder: Path, counted: set[tuple[str, int]]) -> int:
    """Counts stored bytes of the operations' own tensors that are not in `counted` yet; puts them there."""
    total = 0
    for operation in operations:
        for reference in package.find_references(operation):
            place = (str(reference.fileName), int(reference.offset))
            if place not in counted:
                counted.add(place)
                total += package.stored_bytes(reference, folder)
    return total


def _describe_layer(operation: Any, weight: Any, size: int) -> Layer:
    kind = weight.outputs[0].type.tensorType
    shape = tuple(int(dimension.constant.size) for dimension in kind.dimensions)
    name = weight.outputs[0].name
    for ending in ("_quantized", "_palettized", "_pruned", "_compressed", "_to_fp16", "_weight"):
        name = name.removesuffix(ending)
    count = math.prod(shape)
    stored = _FORMS.get(weight.type) or _data_type(kind.dataType)
    return Layer(name.removeprefix("network_"), operation.type, shape, stored, 8 * size / count, size)


def _data_type(number: int) -> str:
    from coremltools.proto import MIL_pb2

    text = str(MIL_pb2.DataType.Name(number))
    return {"FLOAT16": "fp16", "FLOAT32": "fp32"}.get(text, text.lower())


def _describe_feature(feature: Any) -> str:
    from coremltools.proto import FeatureTypes_pb2

    kind = feature.type.WhichOneof("Type")
    text = feature.shortDescription
    if kind == "imageType":
        image = feature.type.imageType
        order = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
        form = f"image {order} {image.width} x {image.height}"
    elif kind == "multiArrayType":
        array = feature.type.multiArrayType
        shape = ", ".join(map(str, array.shape))
        form = f"{FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType).lower()} [{shape}]"
    else:
        form = str(kind).removesuffix("Type")
    return f"{feature.name}: {form}{f' - {text}' if text else ''}"
