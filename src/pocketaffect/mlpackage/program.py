"""Executes a saved Core ML package with torch, on any system: the proof that the file computes the network.

The program is read from the file, every compressed weight is decoded, and each operation is computed in float32
with its result rounded to float16 where the program declares float16. So graph, weights and preprocessing are
those of the file; a device's order of accumulation, its image resizing and its speed are not reproduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.ops import EXACT_OPERATIONS, OPERATIONS
from pocketaffect.mlpackage.package import list_metadata, read_spec, walk_operations, weights_folder
from pocketaffect.mlpackage.quiet import import_coremltools, quiet_conversion

WEIGHT_FORMS: Final = frozenset({"constexpr_affine_dequantize", "constexpr_lut_to_dense"})
"""Operations that hold compressed weights: int8 with scales, and palettes. coremltools decodes them."""

_AT_ONCE: Final = 32
_TODO: Final = "leave the operation out of the network, or teach it to mlpackage/ops.py and test it there"


@dataclass(frozen=True)
class Name:
    """A reference to a value that an earlier step or the input provides."""

    text: str


@dataclass(frozen=True)
class Step:
    """One operation of a program, of MIL's type `kind`.

    Attributes:
        inputs: MIL's input names to constants or to references; a tuple for variadic inputs.
        halves: For each result, whether the program stores it in float16.
        releases: Names that no later step reads.
    """

    kind: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    halves: tuple[bool, ...]
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Input:
    """The program's only input: its name and shape there, and the shape of one example as `Program.predict` takes it.

    `kind` is "RGB", "BGR", "float32" or "float16".
    """

    name: str
    shape: tuple[int, ...]
    example: tuple[int, ...]
    kind: str

    @property
    def dtype(self) -> type[np.generic]:
        return np.uint8 if self.kind in ("RGB", "BGR") else np.float32

    def arrange(self, examples: NDArray[Any]) -> Tensor:
        """Turns examples into what the program computes with, in float32."""
        if self.kind in ("RGB", "BGR"):
            ordered = examples[..., ::-1] if self.kind == "BGR" else examples
            return torch.from_numpy(np.ascontiguousarray(ordered)).permute(0, 3, 1, 2).float()
        values = torch.from_numpy(np.ascontiguousarray(examples))
        return values.half().float() if self.kind == "float16" else values


def load_program(path: Path) -> Program:
    """Reads a saved package and prepares its execution.

    Raises:
        PocketAffectError: Not a readable ML Program package (see `package.read_spec`), several inputs or one of another
            kind than an image or an array of floats, or an operation or weight form that is not implemented here.
    """
    spec = read_spec(path)
    for place, operation in enumerate(walk_operations(spec.mlProgram)):
        kind = operation.type
        if kind != "const" and kind not in OPERATIONS and kind not in WEIGHT_FORMS:
            what = "weight form" if kind.startswith("constexpr_") else "operation"
            raise PocketAffectError(
                f"{path}: {what} {kind!r} is not known to the interpreter, so the package cannot be verified",
                found=f"operation {place}, which makes {', '.join(output.name for output in operation.outputs)}",
                todo=_TODO,
            )
    program = Program(path, spec)
    try:
        program.predict(np.zeros((1, *program.shape), program.dtype))
    except (NotImplementedError, KeyError, TypeError, RuntimeError) as error:
        raise PocketAffectError(f"{path}: the program cannot be executed", found=error, todo=_TODO) from error
    return program


class Program:
    """An executable Core ML program; `load_program` makes it.

    Attributes:
        shape: One example of its input: (height, width, 3) of an image; an array's without a leading 1.
        dtype: uint8 for an image, float32 for an array.
        version: Number of the file's format; which systems read it follows from it (`inspect.SYSTEMS`).
        metadata: What the package says about itself; see `package.read_metadata`.
        classes: Names of a classifier's classes, in the order of its probabilities; empty for another program.
        label: Name of the output that a classifier is read by; empty for another program.
    """

    def __init__(self, path: Path, spec: Any) -> None:
        self._input = _read_input(path, spec.description)
        self.shape, self.dtype = self._input.example, self._input.dtype
        self.version = int(spec.specificationVersion)
        self.metadata = list_metadata(spec)
        self.outputs = tuple(str(feature.name) for feature in spec.description.output)
        self._decoded: dict[str, NDArray[Any]] = {}
        self._storage: dict[str, str] = {}
        self.steps = tuple(_mark_releases(list(self._read_steps(path, _read_function(path, spec))), self.outputs))
        self._constants = {name: torch.from_numpy(array.astype(np.float32)) for name, array in self._decoded.items()}
        classify = next((step for step in self.steps if step.kind == "classify"), None)
        self.classes: tuple[str, ...] = () if classify is None else tuple(classify.inputs["classes"])
        self.label = str(spec.description.predictedFeatureName)

    @property
    def size(self) -> int:
        """Gives the pixels a side of the image that it takes."""
        return self.shape[0]

    def predict(self, examples: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Executes the program on each example: `dtype` [n, *`shape`], of an image uint8 [n, height, width, 3], RGB.

        Returns:
            Each output's name to a float32 array with one row per example, without the program's own batch axis:
            [n, 8] for an output of [1, 8]. A classifier's label is an array of strings, its dictionary an array
            with the columns of `classes`.

        Raises:
            PocketAffectError: Examples of another shape or type.
        """
        if examples.dtype != self.dtype or examples.shape[1:] != self.shape or not examples.ndim:
            raise PocketAffectError(
                "images do not fit the package" if self.dtype is np.uint8 else "arrays do not fit the package",
                found=f"{examples.dtype} {list(examples.shape)}",
                allowed=f"{np.dtype(self.dtype)} [n, {', '.join(map(str, self.shape))}]",
            )
        parts: dict[str, list[Tensor]] = {name: [] for name in self.outputs}
        # vmap lifts the program for one example to many by rule, so no operation has to guess its batch axis.
        many = torch.func.vmap(self._run)
        with torch.no_grad():
            for start in range(0, len(examples), _AT_ONCE):
                for name, values in many(self._input.arrange(examples[start : start + _AT_ONCE])).items():
                    parts[name].append(values)
            if not len(examples):
                blank = self._run(torch.zeros(self._input.shape))
                parts = {name: [value.new_zeros(0, *value.shape)] for name, value in blank.items()}
        outputs = {name: _without_batch(torch.cat(values)).numpy() for name, values in parts.items()}
        if self.classes and self.label in outputs:
            outputs[self.label] = np.array(self.classes)[outputs[self.label].astype(int)]
        return outputs

    def image_scale(self) -> float:
        """Says what the program multiplies the image's bytes by before anything else; NaN if it does not."""
        readers = [step for step in self.steps if Name(self._input.name) in step.inputs.values()]
        if len(readers) != 1 or readers[0].kind != "mul":
            return float("nan")
        factors = [value for value in readers[0].inputs.values() if isinstance(value, float)]
        return factors[0] if factors else float("nan")

    def decoded_weights(self) -> dict[str, NDArray[Any]]:
        """Lists every constant tensor that an operation reads, decoded, by its name, in the order of execution."""
        read = (name.text for step in self.steps for value in step.inputs.values() for name in _find_names(value))
        return {name: self._decoded[name] for name in dict.fromkeys(read) if name in self._decoded}

    def storage(self, name: str) -> str:
        """Says how the file holds a decoded weight: fp32, fp16, or the operation that decodes it; and its bits.

        For example "fp16, 16 bits" or "constexpr_lut_to_dense, 6 bits".
        """
        bits = 8 * self._decoded[name].dtype.itemsize
        return self._storage.get(name, f"fp{bits}, {bits} bits")

    def _read_steps(self, path: Path, function: Any) -> Iterator[Step]:
        """Yields every operation that computes; decodes constants on the way, and notes their storage."""
        for operation in function.operations:
            kind = operation.op_type
            if kind == "const":
                continue
            given = {name: value for name, value in operation.inputs.items() if value is not None}
            outputs = tuple(output.name for output in operation.outputs)
            if kind in WEIGHT_FORMS:
                try:
                    self._decoded[outputs[0]] = np.asarray(operation.materialized_val_inference())
                except (ValueError, TypeError, IndexError, AttributeError) as error:
                    raise PocketAffectError(
                        f"{path}: {kind} {operation.name} cannot be decoded", found=error
                    ) from error
                self._storage[outputs[0]] = f"{kind}, {_count_bits(given)} bits"
                continue
            inputs = {name: self._read_argument(value) for name, value in given.items()}
            rounds = kind not in EXACT_OPERATIONS
            yield Step(
                kind, inputs, outputs, tuple(rounds and one.dtype.__name__ == "fp16" for one in operation.outputs)
            )

    def _read_argument(self, value: Any) -> Any:
        """Reads a step's input: a reference, a number, a string, a list of numbers, or a tuple of those."""
        if isinstance(value, tuple | list):
            return tuple(self._read_argument(item) for item in value)
        if value.val is None:
            return Name(value.name)
        if isinstance(value.val, np.ndarray) and value.val.dtype.kind == "f" and value.val.ndim:
            self._decoded.setdefault(value.name, np.array(value.val))
            return Name(value.name)
        return value.val.tolist() if isinstance(value.val, np.ndarray | np.generic) else value.val

    def _run(self, example: Tensor) -> dict[str, Tensor]:
        """Runs every step on one example."""
        values: dict[str, Any] = {**self._constants, self._input.name: example.reshape(self._input.shape)}
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


def _read_input(path: Path, description: Any) -> _Input:
    """Checks that there is one input of a kind that `predict` can be given."""
    from coremltools.proto import FeatureTypes_pb2

    features = list(description.input)
    if len(features) == 1:
        name, kind = str(features[0].name), features[0].type.WhichOneof("Type")
        if kind == "imageType":
            image = features[0].type.imageType
            order = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
            if order in ("RGB", "BGR") and image.WhichOneof("SizeFlexibility") is None:
                height, width = int(image.height), int(image.width)
                return _Input(name, (1, 3, height, width), (height, width, 3), order)
        elif kind == "multiArrayType":
            array = features[0].type.multiArrayType
            dtype = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType).lower()
            if dtype in ("float32", "float16") and array.WhichOneof("ShapeFlexibility") is None:
                shape = tuple(int(length) for length in array.shape)
                return _Input(name, shape, shape[1:] if shape[0] == 1 else shape, dtype)
    raise PocketAffectError(
        f"{path}: inputs of this kind are not supported",
        found=", ".join(f"{one.name} ({str(one.type).strip()})" for one in features),
        allowed="one RGB or BGR image, or one array of floats, of fixed size",
    )


def _read_function(path: Path, spec: Any) -> Any:
    """Reads the main function as coremltools' own loader reads it, with types and defaults filled in."""
    loader = import_coremltools("coremltools.converters.mil.frontend.milproto.load")
    try:
        with quiet_conversion():
            program = loader.load(spec, spec.specificationVersion, str(weights_folder(path)))
        return program.functions["main"]
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError, NotImplementedError) as error:
        raise PocketAffectError(
            f"{path}: coremltools cannot read the program", found=f"{type(error).__name__}: {error}"
        ) from error


def _count_bits(given: dict[str, Any]) -> int:
    """Counts the bits of each stored weight: by the length of the palette, or by the type of the stored numbers."""
    if "lut" in given:
        lut = given["lut"].val
        return int(np.log2(lut.size if lut.ndim == 1 else lut.shape[-2]))
    return int(given["quantized_data"].dtype.get_bitwidth())


def _mark_releases(steps: Sequence[Step], keep: Sequence[str]) -> list[Step]:
    """Marks after which step each intermediate result may be dropped, so that memory stays small."""
    seen = set(keep)
    marked = []
    made = {name for step in steps for name in step.outputs}
    for step in reversed(steps):
        named = {name.text for value in step.inputs.values() for name in _find_names(value)} | set(step.outputs)
        marked.append(replace(step, releases=tuple(sorted((named & made) - seen))))
        seen |= named
    return marked[::-1]


def _without_batch(values: Tensor) -> Tensor:
    """Turns [n, 1, ...] into [n, ...]: the program's own batch of one."""
    return values.squeeze(1) if values.dim() > 1 and values.shape[1] == 1 else values


def _look_up(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, Name):
        return values[value.text]
    if isinstance(value, tuple):
        return [_look_up(item, values) for item in value]
    return value


def _find_names(value: Any) -> Iterator[Name]:
    """Yields the references in a step's input."""
    if isinstance(value, Name):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _find_names(item)
