"""What a package is made of, held against what was asked for: its operations, and how its weights are stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from pocketaffect.mlpackage.program import Name, Program, Step
from pocketaffect.mlpackage.storage import rounding_ratio
from pocketaffect.precisions import COMPRESSED_ABOVE, Precision

SAME: Final = "none"


def first_difference(reference: Program, shipped: Program) -> str:
    """Where a package's program departs from that of the same network in float16, apart from its weights' storage.

    Operations are compared in order, with all their settings (padding, strides, epsilons), where their inputs come
    from, and every constant, which must be what rounding to its stored form makes of the float16 one. Casts and
    repetitions are passed over: a float32 package has others.

    Returns:
        "none", or one line that names the first operation that differs.
    """
    if reference is shipped:
        return SAME
    ours, theirs = _Sources(), _Sources()
    pairs = (_distinct_steps(reference, ours), _distinct_steps(shipped, theirs))
    left, right = (list(steps) for steps in pairs)
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one.kind != other.kind:
            return f"operation {place} is {other.kind}, not {one.kind}"
        for key in sorted(one.inputs.keys() | other.inputs.keys()):
            wanted, found = one.inputs.get(key), other.inputs.get(key)
            difference = _compare(wanted, found, (reference, ours), (shipped, theirs))
            if difference:
                return f"{one.kind} {place}: {key} {difference}"
    if len(left) != len(right):
        return f"{len(right)} operations, not {len(left)}"
    if ours.of_outputs(reference) != theirs.of_outputs(shipped):
        return "outputs come from other operations"
    return SAME


class _Sources:
    """Names of a program's values to the operation and the output that makes each."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._known: dict[tuple[str, str], int] = {}

    def add(self, step: Step) -> bool:
        """Notes what the operation makes; whether it is the first to compute this."""
        inputs = {key: self._trace(value) for key, value in step.inputs.items()}
        identity = step.kind, repr(sorted(inputs.items()))
        first = identity not in self._known
        number = self._known.setdefault(identity, len(self._known))
        self._places.update((name, (number, place)) for place, name in enumerate(step.outputs))
        return first

    def _trace(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return [self._trace(item) for item in value]
        return self._places.get(value.text, value.text) if isinstance(value, Name) else value

    def pass_on(self, step: Step) -> None:
        """A cast's result counts as its input."""
        source = next(value.text for value in step.inputs.values() if isinstance(value, Name))
        self._places[step.outputs[0]] = self.find(source)

    def find(self, name: str) -> tuple[int, int]:
        """The image, which nothing makes, is at (-1, 0)."""
        return self._places.get(name, (-1, 0))

    def of_outputs(self, program: Program) -> dict[str, tuple[int, int]]:
        return {name: self.find(name) for name in program.outputs}


def _distinct_steps(program: Program, sources: _Sources) -> Iterator[Step]:
    for step in program.steps:
        if step.kind == "cast" and any(isinstance(value, Name) for value in step.inputs.values()):
            sources.pass_on(step)
            continue
        if sources.add(step):
            yield step


def _compare(wanted: Any, found: Any, ours: tuple[Program, _Sources], theirs: tuple[Program, _Sources]) -> str | None:
    """How one input of an operation differs; None if it does not."""
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        parts = (_compare(one, other, ours, theirs) for one, other in zip(wanted, found, strict=True))
        return next((part for part in parts if part), None)
    if isinstance(wanted, Name) and isinstance(found, Name):
        return _compare_values(wanted.text, found.text, ours, theirs)
    if isinstance(wanted, float) and isinstance(found, float):
        # A float32 package has the unrounded number.
        same = math.isclose(wanted, found, rel_tol=2.0**-10, abs_tol=2.0**-24)
    else:
        same = bool(wanted == found)
    return None if same else f"is {found}, not {wanted}"


def _compare_values(
    wanted: str, found: str, ours: tuple[Program, _Sources], theirs: tuple[Program, _Sources]
) -> str | None:
    originals, constants = ours[0].decoded_weights(), theirs[0].decoded_weights()
    if (wanted in originals) != (found in constants):
        return "is a constant in one of both"
    if wanted not in originals:
        return None if ours[1].find(wanted) == theirs[1].find(found) else "comes from another operation"
    original, constant = originals[wanted], constants[found]
    if original.shape != constant.shape:
        return f"has shape {list(constant.shape)}, not {list(original.shape)}"
    stored = theirs[0].stored(found)
    if original.dtype == constant.dtype and not stored.operations:
        return None if np.array_equal(original, constant) else "has other numbers"
    if original.dtype == np.float16 and stored.bits == 32:
        return None if np.array_equal(original, constant.astype(np.float16)) else "has other numbers"
    ratio = rounding_ratio(original, constant, stored)
    return None if ratio is None or ratio <= 1 else f"is {ratio:.3g} times further off than rounding explains"


def describe_storage(precision: Precision) -> str:
    """How a package of this precision must hold its large tensors, in the words of `large_tensor_storage`."""
    return f"{precision.storage}, {precision.bits} bits"


def large_tensor_storage(program: Program, precision: Precision) -> str:
    """How a package holds its tensors of more than `COMPRESSED_ABOVE` weights.

    Returns:
        `describe_storage(precision)` if all are held so and no smaller one is compressed; otherwise the forms that
        there are, with their numbers of tensors.
    """
    forms: Counter[str] = Counter()
    wanted = describe_storage(precision)
    arrays = program.decoded_weights()
    for name in program.constants_read():
        array, stored = arrays[name], program.stored(name)
        # Fine-tuned integers are integers in every layer.
        small = bool(stored.operations) and not precision.integer_activations
        if array.ndim > 1 and (array.size > COMPRESSED_ABOVE or small):
            forms[f"{stored.form}, {stored.bits} bits"] += 1
    if set(forms) <= {wanted}:
        return wanted
    return "; ".join(f"{form} in {count} tensors" for form, count in sorted(forms.items()))


def zero_share(program: Program) -> float:
    """The smallest share of left-out weights among the tensors that are stored with a mask; 0 if none is."""
    masks = [stored.mask for stored in map(program.stored, program.constants_read()) if stored.mask is not None]
    return min((1 - float(mask.mean()) for mask in masks), default=0.0)
