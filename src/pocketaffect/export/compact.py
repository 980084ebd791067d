"""A program in fewer bytes: equal constants stand once, values have short names; what it computes is proven the same.

coremltools gives every convolution its own strides, padding and groups under names that grow with each of its passes:
two thirds of a small network's program. The proof is by construction: each value's digest is made of the operation
that makes it, all its settings and the digests of its inputs, so that two programs of one digest differ in names and
repetitions alone.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final

logger = logging.getLogger(__name__)

_NAME: Final = "name"
_VALUE: Final = "val"


def compact_program(spec: Any) -> None:
    """Shares equal constants and shortens names of the ML Program in `spec`, if that is proven to change nothing else.

    Inputs, outputs and weights keep their names, so that `inspect` and Xcode can say which layer a weight is of. A
    program with branches or several functions stays as it is.
    """
    block = _only_block(spec.mlProgram)
    if block is None:
        return
    draft = copy.deepcopy(spec)
    shorter = _only_block(draft.mlProgram)
    _share_constants(shorter)
    _shorten_names(shorter, kept={feature.name for feature in spec.description.input})
    if program_meaning(draft.mlProgram) == program_meaning(spec.mlProgram):
        spec.CopyFrom(draft)
    else:
        logger.warning("the program stays as coremltools wrote it: its shorter form is another program")


def program_meaning(program: Any) -> str:
    """SHA-256 over what a `Program` message computes, whatever its values are called and how often a constant stands.

    Raises:
        ValueError: A program with branches or several functions.
    """
    block = _only_block(program)
    if block is None:
        raise ValueError("only programs of one function without branches have a digest")
    (function,) = program.functions.values()
    made = {value.name: _digest(b"input", _bytes(value)) for value in function.inputs}
    steps = []
    for operation in block.operations:
        parts = [operation.type.encode()]
        parts += [key.encode() + _bytes(operation.attributes[key]) for key in _settings(operation)]
        for key in sorted(operation.inputs):
            parts.append(key.encode())
            for binding in operation.inputs[key].arguments:
                named = binding.WhichOneof("binding") == _NAME
                parts.append(made[binding.name] if named else _bytes(binding.value))
        parts += [_bytes(output.type) for output in operation.outputs]
        digest = _digest(*parts)
        for place, output in enumerate(operation.outputs):
            made[output.name] = _digest(digest, str(place).encode())
        if operation.type != "const":
            steps.append(digest)
    around = copy.deepcopy(program)  # inputs, names of outputs, dialect
    del _only_block(around).operations[:]
    return _digest(*steps, b"outputs", *(made[name] for name in block.outputs), _bytes(around)).hex()


def _only_block(program: Any) -> Any:
    """The block of a program that has one, and no branch in it; else None."""
    functions = list(program.functions.values())
    if len(functions) != 1 or len(functions[0].block_specializations) != 1:
        return None
    (block,) = functions[0].block_specializations.values()
    return None if any(operation.blocks for operation in block.operations) else block


def _settings(operation: Any) -> list[str]:
    return sorted(key for key in operation.attributes if key != _NAME)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _share_constants(block: Any) -> None:
    """Leaves of each constant that stands in the program itself the first; tensors in the weight file stay apart."""
    first: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    kept = []
    for operation in block.operations:
        if _is_inline(operation):
            (output,) = operation.outputs
            same = first.setdefault(_bytes(output.type) + _bytes(operation.attributes[_VALUE]), output.name)
            if same != output.name and output.name not in block.outputs:
                instead[output.name] = same
                continue
        kept.append(copy.deepcopy(operation))
    for binding in _bindings(kept):
        binding.name = instead.get(binding.name, binding.name)
    del block.operations[:]
    block.operations.extend(kept)


def _is_inline(operation: Any) -> bool:
    return bool(operation.type == "const" and operation.attributes[_VALUE].WhichOneof("value") == "immediateValue")


def _shorten_names(block: Any, kept: Iterable[str]) -> None:
    stay = {*kept, *block.outputs, *_weights(block)}
    shorter: dict[str, str] = {}
    count = 0
    for operation in block.operations:
        for output in operation.outputs:
            if output.name in stay:
                continue
            while (name := f"v{count:x}") in stay:
                count += 1
            count += 1
            shorter[output.name] = name
            output.name = name
        if _NAME in operation.attributes:
            operation.attributes[_NAME].immediateValue.tensor.strings.values[:] = [operation.outputs[0].name]
    for binding in _bindings(block.operations):
        binding.name = shorter.get(binding.name, binding.name)


def _weights(block: Any) -> Iterator[str]:
    """Matrices and kernels that a layer reads, plain or decoded."""
    decoders = [operation for operation in block.operations if operation.type.startswith("constexpr_")]
    parts = {binding.name for binding in _bindings(decoders)}
    for operation in block.operations:
        if operation.type.startswith("constexpr_") or operation.type == "const":
            for output in operation.outputs:
                if output.name not in parts and output.type.tensorType.rank > 1 and not _is_inline(operation):
                    yield output.name


def _bindings(operations: Iterable[Any]) -> Iterator[Any]:
    """Inputs of operations that name another value."""
    for operation in operations:
        for argument in operation.inputs.values():
            yield from (one for one in argument.arguments if one.WhichOneof("binding") == _NAME)
