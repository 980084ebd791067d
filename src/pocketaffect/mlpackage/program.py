"""A Core ML program in a form that torch executes: operations in order, constants decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.ops import OPERATIONS
from pocketaffect.mlpackage.storage import Stored

_IMAGES_AT_ONCE: Final = 32


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
    """An executable Core ML program; `interpret.load_program` makes it.

    Attributes:
        size: Pixels a side of the image that it takes.
        version: Of the file's format; which systems read it follows from it.
        steps: Its operations in the order of execution.
        outputs: Names of its results.
        classes: Names of a classifier's classes, in the order of its probabilities; empty for another program.
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
        compressed: dict[str, Stored],
        version: int,
    ) -> None:
        self.size = size
        self.version = version
        self.steps = tuple(steps)
        self.outputs = tuple(outputs)
        classify = next((step for step in self.steps if step.kind == "classify"), None)
        self.classes: tuple[str, ...] = () if classify is None else tuple(classify.inputs["classes"])
        self._label = None if classify is None else classify.outputs[0]
        self._image = image
        self._blue_first = blue_first
        self._constants = constants
        self._decoded = decoded
        self._compressed = compressed

    def predict(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Executes the program on each image.

        Args:
            images: uint8 [n, size, size, 3], RGB.

        Returns:
            Each output's name to a float32 array with one row per image, without the program's own batch axis:
            [n, 8] for an output of [1, 8]. A classifier's label is an array of strings, its dictionary an array
            with the columns of `classes`.

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
        outputs = {name: _without_batch(torch.cat(values)).numpy() for name, values in parts.items()}
        if self._label in outputs:
            outputs[self._label] = np.array(self.classes)[outputs[self._label].astype(int)]
        return outputs

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

    def constants_read(self) -> list[str]:
        """Names in `decoded_weights` that an operation reads, in the order of execution."""
        read = (name.text for step in self.steps for value in step.inputs.values() for name in find_names(value))
        return [name for name in dict.fromkeys(read) if name in self._decoded]

    def stored(self, name: str) -> Stored:
        """How the file holds a constant of `decoded_weights`."""
        return self._compressed.get(name) or Stored(bits=8 * self._decoded[name].dtype.itemsize)

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


def find_names(value: Any) -> Iterator[Name]:
    """The references in a step's input."""
    if isinstance(value, Name):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from find_names(item)
