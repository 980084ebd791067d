"""Executes a saved Core ML package with torch, on any system: the proof that the file computes the network.

The program is read from the file, every compressed weight is decoded, and each operation is computed in float32
with its result rounded to float16 where the program declares float16. So graph, weights and preprocessing are
those of the file; a device's order of accumulation, its image resizing and its speed are not reproduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.constexpr import DECODERS, sparse_mask
from pocketaffect.mlpackage.ops import EXACT_OPERATIONS, OPERATIONS
from pocketaffect.mlpackage.package import read_spec, weights_folder
from pocketaffect.mlpackage.program import Name, Program, Step, find_names
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion
from pocketaffect.mlpackage.storage import Stored

_TODO: Final = "leave the operation out of the network, or teach it to mlpackage/ops.py and test it there"


def load_program(path: Path) -> Program:
    """Reads a saved package and prepares its execution.

    Raises:
        PocketAffectError: Not a readable ML Program package (see `package.read_spec`), an input that is not one
            RGB image, or an operation or weight form that is not implemented here.
    """
    spec = read_spec(path)
    _refuse_unknown(path, spec.mlProgram)
    image, size, blue_first = _image_input(path, spec.description)
    function = _read_function(path, spec)
    decoded: dict[str, NDArray[Any]] = {}
    compressed: dict[str, Stored] = {}
    steps = list(_steps(path, function, decoded, compressed))
    outputs = [feature.name for feature in spec.description.output]
    program = Program(
        image=image,
        size=size,
        blue_first=blue_first,
        steps=_with_releases(steps, keep=outputs),
        outputs=outputs,
        constants={name: torch.from_numpy(array.astype(np.float32)) for name, array in decoded.items()},
        decoded=decoded,
        compressed=compressed,
        version=int(spec.specificationVersion),
    )
    try:
        program.predict(np.zeros((1, size, size, 3), np.uint8))
    except (NotImplementedError, KeyError, TypeError, RuntimeError) as error:
        raise PocketAffectError(f"{path}: the program cannot be executed", found=error, todo=_TODO) from error
    return program


def _refuse_unknown(path: Path, program: Any) -> None:
    for place, operation in enumerate(walk_operations(program)):
        kind = operation.type
        if kind == "const" or kind in OPERATIONS or kind in DECODERS:
            continue
        what = "weight form" if kind.startswith("constexpr_") else "operation"
        raise PocketAffectError(
            f"{path}: {what} {kind!r} is not known to the interpreter, so the package cannot be verified",
            found=f"operation {place}, which makes {', '.join(output.name for output in operation.outputs)}",
            todo=_TODO,
        )


def _image_input(path: Path, description: Any) -> tuple[str, int, bool]:
    """Name, side and colour order of the only input."""
    import_coremltools()
    from coremltools import proto

    features = list(description.input)
    kinds = proto.FeatureTypes_pb2.ImageFeatureType
    orders = {kinds.RGB: False, kinds.BGR: True}
    allowed = "one square RGB or BGR image of fixed size"
    if len(features) != 1 or features[0].type.WhichOneof("Type") != "imageType":
        found = ", ".join(f"{one.name} ({one.type.WhichOneof('Type')})" for one in features)
        raise PocketAffectError(f"{path}: inputs of this kind are not supported", found=found, allowed=allowed)
    image = features[0].type.imageType
    flexible = image.WhichOneof("SizeFlexibility")
    if image.colorSpace not in orders or image.width != image.height or flexible is not None:
        found = f"{kinds.ColorSpace.Name(image.colorSpace)} {image.width} x {image.height} {flexible or ''}".strip()
        raise PocketAffectError(f"{path}: images of this kind are not supported", found=found, allowed=allowed)
    return features[0].name, int(image.width), orders[image.colorSpace]


def _read_function(path: Path, spec: Any) -> Any:
    """The main function as coremltools' own loader reads it, with types and defaults filled in."""
    loader = import_coremltools("coremltools.converters.mil.frontend.milproto.load")
    try:
        with quiet_conversion():
            program = loader.load(spec, spec.specificationVersion, str(weights_folder(path)))
        return program.functions["main"]
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise PocketAffectError(
            f"{path}: coremltools cannot read the program", found=f"{type(error).__name__}: {error}"
        ) from error


def _steps(
    path: Path, function: Any, decoded: dict[str, NDArray[Any]], compressed: dict[str, Stored]
) -> Iterator[Step]:
    """Every operation that computes; on the way, constants go to `decoded` and their coding to `compressed`."""
    for operation in function.operations:
        kind = operation.op_type
        if kind == "const":
            continue
        given = {name: value for name, value in operation.inputs.items() if value is not None}
        outputs = tuple(output.name for output in operation.outputs)
        if kind in DECODERS:
            raw = {name: _raw(value, decoded) for name, value in given.items()}
            decoded.update(zip(outputs, _decode(path, operation, raw), strict=True))
            compressed.update(dict.fromkeys(outputs, _describe_storage(kind, given, raw, compressed)))
            continue
        inputs = {name: _argument(value, decoded) for name, value in given.items()}
        rounds = kind not in EXACT_OPERATIONS
        halves = tuple(rounds and output.dtype.__name__ == "fp16" for output in operation.outputs)
        yield Step(kind, inputs, outputs, halves, ())


def _describe_storage(kind: str, given: dict[str, Any], raw: dict[str, Any], compressed: dict[str, Stored]) -> Stored:
    """How the file holds what a decoder makes, earlier decoders of a chain included."""
    mask = sparse_mask(**{name: raw[name] for name in ("mask", "shape") if name in raw}) if "mask" in raw else None
    before = next((compressed[value.name] for value in given.values() if value.name in compressed), None)
    if before is not None:
        return Stored(before.bits, (*before.operations, kind), before.inputs, mask)
    return Stored(_bits(given), (kind,), raw, mask)


def _bits(given: dict[str, Any]) -> int:
    """Of each weight: by the length of the palette, or by the type of the stored numbers."""
    if "lut" in given:
        lut = given["lut"].val
        return int(np.log2(lut.size if lut.ndim == 1 else lut.shape[-2]))
    names = ("quantized_data", "data", "nonzero_data", "source_val")
    return int(next(given[name] for name in names if name in given).dtype.get_bitwidth())


def _decode(path: Path, operation: Any, raw: dict[str, Any]) -> tuple[NDArray[Any], ...]:
    try:
        arrays = DECODERS[operation.op_type](**raw)
    except (ValueError, TypeError, IndexError) as error:
        raise PocketAffectError(
            f"{path}: {operation.op_type} {operation.name} cannot be decoded", found=error
        ) from error
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _argument(value: Any, decoded: dict[str, NDArray[Any]]) -> Any:
    """A step's input: a reference, a number, a string, a list of numbers, or a tuple of those."""
    if isinstance(value, tuple | list):
        return tuple(_argument(item, decoded) for item in value)
    if value.val is None:
        return Name(value.name)
    if isinstance(value.val, np.ndarray) and value.val.dtype.kind == "f" and value.val.ndim:
        decoded.setdefault(value.name, np.array(value.val))
        return Name(value.name)
    return value.val.tolist() if isinstance(value.val, np.ndarray | np.generic) else value.val


def _raw(value: Any, decoded: dict[str, NDArray[Any]]) -> Any:
    """A decoder's input: a constant array, or the result of an earlier decoder."""
    return decoded[value.name] if value.val is None else value.val


def _with_releases(steps: Sequence[Step], keep: Sequence[str]) -> list[Step]:
    """Marks after which step each intermediate result may be dropped, so that memory stays small."""
    seen = set(keep)
    marked = []
    made = {name for step in steps for name in step.outputs}
    for step in reversed(steps):
        named = {name.text for value in step.inputs.values() for name in find_names(value)} | set(step.outputs)
        releases = tuple(sorted(name for name in named & made if name not in seen))
        seen.update(releases)
        marked.append(Step(step.kind, step.inputs, step.outputs, step.halves, releases))
    return marked[::-1]
