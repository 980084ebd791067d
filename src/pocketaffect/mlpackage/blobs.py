"""The weight file beside a program: a chain of 64-byte records that each announce one tensor's bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError

# Record of coremltools' MILBlob storage format: sentinel, data type, size and offset of the data.
_RECORD: Final = struct.Struct("<IIQQ")
_SENTINEL: Final = 0xDEADBEEF
_ALIGNMENT: Final = 64
_TODO: Final = "copy the package again, whole, or export it again (`dvc repro export`)"


def check_weight_file(program: Any, folder: Path) -> None:
    """Makes sure that every stored tensor that `program` names lies inside its weight file.

    coremltools' own reader reports a cut file as "index out of bounds", and only for the first tensor.

    Args:
        program: The `Program` protobuf message.
        folder: The package's folder of weight files.

    Raises:
        PocketAffectError: A weight file is missing, cut short or overwritten.
    """
    sizes: dict[Path, int] = {}
    for place, blob in _blobs(program):
        file = folder / Path(blob.fileName).name
        if file not in sizes:
            if not file.is_file():
                raise PocketAffectError(f"{file}: the weight file is missing", found=f"needed by {place}", todo=_TODO)
            sizes[file] = file.stat().st_size
        with file.open("rb") as stream:
            stream.seek(blob.offset)
            record = stream.read(_RECORD.size)
        if len(record) < _RECORD.size:
            raise _damaged(file, f"{sizes[file]} bytes; {place} starts at byte {blob.offset}")
        sentinel, _, size, start = _RECORD.unpack(record)
        if sentinel != _SENTINEL:
            raise _damaged(file, f"no weight record at byte {blob.offset}, where {place} starts")
        if start + size > sizes[file]:
            raise _damaged(file, f"{sizes[file]} bytes; {place} ends at byte {start + size}")


def _damaged(file: Path, found: str) -> PocketAffectError:
    return PocketAffectError(f"{file}: the weight file is cut short or damaged", found=found, todo=_TODO)


def _blobs(program: Any) -> Iterator[tuple[str, Any]]:
    """Every reference to a weight file, with the name of the operation that makes it."""
    for operation in walk_operations(program):
        place = f"{operation.type} {operation.outputs[0].name if operation.outputs else ''}".strip()
        for reference in find_references(operation):
            yield place, reference


def find_references(operation: Any) -> Iterator[Any]:
    """An operation message's own references to a weight file."""
    values = list(operation.attributes.values())
    for argument in operation.inputs.values():
        values += [binding.value for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    for value in values:
        if value.WhichOneof("value") == "blobFileValue":
            yield value.blobFileValue


def stored_bytes(reference: Any, folder: Path) -> int:
    """Bytes that a reference's tensor takes in its weight file, with its record and up to the next 64 bytes."""
    with (folder / Path(reference.fileName).name).open("rb") as stream:
        stream.seek(reference.offset)
        _, _, size, _ = _RECORD.unpack(stream.read(_RECORD.size))
    return _ALIGNMENT + -(-int(size) // _ALIGNMENT) * _ALIGNMENT


def walk_operations(program: Any) -> Iterator[Any]:
    """Every operation message of a `Program` message, also those inside of branches and loops."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            yield from _walk(block)


def _walk(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)
