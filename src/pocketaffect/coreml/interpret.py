"""Executes a saved Core ML package with torch, on any system: the proof that the file computes the network.

The program is read from the file, every compressed weight is decoded, and each operation is computed in float32
with its result rounded to float16 where the program declares float16. So graph, weights and preprocessing are
those of the file; a device's order of accumulation, its image resizing and its speed are not reproduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketaffect.coreml.blobs import walk_operations
from pocketaffect.coreml.constexpr import DECODERS
from pocketaffect.coreml.ops import EXACT_OPERATIONS, OPERATIONS
from pocketaffect.coreml.package import read_spec, weights_folder
from pocketaffect.coreml.quiet import import_coremltools, quiet_conversion
from pocketaffect.errors import PocketAffectError

_IMAGES_AT_ONCE: Final = 32
_TODO: Final = "leave the operation out of the network, or teach it to coreml/ops.py and test it there"


@dataclass(frozen=True)
class Name:
    """A reference to a value that an earlier step or the image provides."""

    text: str


@dataclass(frozen=True)
class Step:
    """One operation of a program.

    Attributes:
        kind: MIL's operation type.
        inputs: MIL's input names to constants or to references; a list for variadic inputs.
        outputs: Names of the results.
        halves: For each result, whether the program stores it in float16.
        releases: Names that no later step reads.
    """

    kind: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    halves: tuple[bool, ...]
    releases: tuple[str, ...]


class Program:
    """An executable Core ML program; `load_program` makes it.

    Attributes:
        size: Pixels a side of the image that it takes.
        steps: Its operations in the order of execution.
        outputs: Names of its results.
    """

    def __init__(
        self,
        *,
        image: str,
        size: int,
        blue_first: bool,
        steps: Sequence[Step],
        outputs: Sequence[str],
        constants: dict[str, Tensor],
        decoded: dict[str, NDArray[Any]],
        stored_as: dict[str, str],
    ) -> None:
        self.size = size
        self.steps = tuple(steps)
        self.outputs = tuple(outputs)
        self._image = image
        self._blue_first = blue_first
        self._constants = constants
        self._decoded = decoded
        self._stored_as = stored_as

    def predict(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Executes the program on each image.

        Args:
            images: uint8 [n, size, size, 3], RGB.

        Returns:
            Each output's name to a float32 array with one row per image, without the program's own batch axis:
            [n, 8] for an output of [1, 8].

        Raises:
            PocketAffectError: Images of another shape or type.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3):
            raise PocketAffectError(
                "images do not fit the package",
                found=f"{images.dtype} {list(images.shape)}",
                allowed=f"uint8 [n, {self.size}, {self.size}, 3]",
            )
        if self._blue_first:
            images = images[..., ::-1]
        parts: dict[str, list[Tensor]] = {name: [] for name in self.outputs}
        # vmap lifts the program for one image to many by rule, so no operation has to guess its batch axis.
        many = torch.func.vmap(self._run)
        with torch.no_grad():
            for start in range(0, len(images), _IMAGES_AT_ONCE):
                chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + _IMAGES_AT_ONCE]))
                for name, values in many(chunk.permute(0, 3, 1, 2).float()).items():
                    parts[name].append(values)
        if not len(images):
            with torch.no_grad():
                blank = self._run(torch.zeros(3, self.size, self.size))
            parts = {name: [value.new_zeros(0, *value.shape)] for name, value in blank.items()}
        return {name: _without_batch(torch.cat(values)).numpy() for name, values in parts.items()}

    def image_scale(self) -> float:
        """What the program multiplies the image's bytes by before anything else; NaN if it does not."""
        readers = [step for step in self.steps if Name(self._image) in step.inputs.values()]
        if len(readers) != 1 or readers[0].kind != "mul":
            return float("nan")
        factors = [value for value in readers[0].inputs.values() if isinstance(value, float)]
        return factors[0] if factors else float("nan")

    def decoded_weights(self) -> dict[str, NDArray[Any]]:
        """Every constant tensor that the program computes with, compressed ones decoded, by its name there."""
        return dict(self._decoded)

    def stored_as(self, name: str) -> str:
        """How the file holds a constant of `decoded_weights`: fp32, fp16, or the operation that decodes it."""
        return self._stored_as.get(name) or {"float16": "fp16", "float32": "fp32"}[self._decoded[name].dtype.name]

    def _run(self, image: Tensor) -> dict[str, Tensor]:
        """Runs every step on one image, float32 [3, size, size] in 0..255."""
        values: dict[str, Any] = {**self._constants, self._image: image.unsqueeze(0)}
        for step in self.steps:
            arguments = {key: _look_up(value, values) for key, value in step.inputs.items()}
            results = OPERATIONS[step.kind](**arguments)
            if not isinstance(results, tuple):
                results = (results,)
            for name, half, result in zip(step.outputs, step.halves, results, strict=True):
                values[name] = result.half().float() if half else result
            for name in step.releases:
                del values[name]
        return {name: values[name].float() for name in self.outputs}


def _without_batch(values: Tensor) -> Tensor:
    """[n, 1, ...] to [n, ...]: the program's own batch of one."""
    return values.squeeze(1) if values.dim() > 1 and values.shape[1] == 1 else values


def _look_up(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, Name):
        return values[value.text]
    if isinstance(value, tuple):
        return [_look_up(item, values) for item in value]
    return value


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
    compressed: dict[str, str] = {}
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
        stored_as=compressed,
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


def _steps(path: Path, function: Any, decoded: dict[str, NDArray[Any]], compressed: dict[str, str]) -> Iterator[Step]:
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
            compressed.update(dict.fromkeys(outputs, kind))
            continue
        inputs = {name: _argument(value, decoded) for name, value in given.items()}
        rounds = kind not in EXACT_OPERATIONS
        halves = tuple(rounds and output.dtype.__name__ == "fp16" for output in operation.outputs)
        yield Step(kind, inputs, outputs, halves, ())


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
        named = {name.text for value in step.inputs.values() for name in _names(value)} | set(step.outputs)
        releases = tuple(sorted(name for name in named & made if name not in seen))
        seen.update(releases)
        marked.append(Step(step.kind, step.inputs, step.outputs, step.halves, releases))
    return marked[::-1]


def _names(value: Any) -> Iterator[Name]:
    if isinstance(value, Name):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _names(item)
