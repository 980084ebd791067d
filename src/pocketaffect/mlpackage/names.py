"""Numbers the values that coremltools named by a counter in the order in which they stand.

Some of its passes walk over sets, so that one conversion in many calls a constant `transpose_1` and the next
`transpose_0`: the same program in other bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from pocketaffect.mlpackage.blobs import walk_operations
from pocketaffect.mlpackage.quiet import import_coremltools

_COUNTED: Final = re.compile(r"([a-z][a-z0-9_]*?)_(\d+)(?=_|$)")
"""An operation's name and a number; what follows, such as `_to_fp16`, was added to it later."""


def renumber_names(spec: Any) -> None:
    """Renames values of the ML Program in `spec`; inputs, outputs and names that a network's modules gave stay."""
    import_coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    numbers: dict[str, dict[str, int]] = {}

    def rename(name: str) -> str:
        counted = _COUNTED.match(name)
        if counted is None or counted[1] not in SSAOpRegistry.core_ops:
            return name
        known = numbers.setdefault(counted[1], {})
        return f"{counted[1]}_{known.setdefault(counted[2], len(known))}{name[counted.end() :]}"

    for operation in walk_operations(spec.mlProgram):
        for output in operation.outputs:
            rename(output.name)
    for operation in walk_operations(spec.mlProgram):
        for value in _named_values(operation):
            value.name = rename(value.name)
        if "name" in operation.attributes:
            texts = operation.attributes["name"].immediateValue.tensor.strings.values
            texts[:] = [rename(text) for text in texts]
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            _rename_block_outputs(block, rename)


def _named_values(operation: Any) -> Iterator[Any]:
    yield from operation.outputs
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                yield binding


def _rename_block_outputs(block: Any, rename: Callable[[str], str]) -> None:
    for position, name in enumerate(block.outputs):
        block.outputs[position] = rename(name)
    for operation in block.operations:
        for inner in operation.blocks:
            _rename_block_outputs(inner, rename)
