"""The `.mlpackage` as a file: its parts are checked on read, its bytes counted and digested."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.quiet import import_coremltools

SUFFIX: Final = ".mlpackage"
DATA_FOLDER: Final = Path("Data")
SPEC_FILE: Final = Path("com.apple.CoreML/model.mlmodel")
WEIGHTS_FOLDER: Final = Path("com.apple.CoreML/weights")
_AGAIN: Final = "copy the package again, whole, or make it again (`dvc repro export`)"

# A record of coremltools' MILBlob format announces one tensor: sentinel, data type, size and offset of the data.
_RECORD: Final = struct.Struct("<IIQQ")
_SENTINEL: Final = 0xDEADBEEF
_ALIGNMENT: Final = 64


def read_spec(path: Path) -> Any:
    """Reads and checks a package: its parts, its model type, and the extent of every stored weight.

    Returns:
        The package's `Model` protobuf message.

    Raises:
        PocketAffectError: Not a package, a part is missing or cut short, or it is no ML Program.
    """
    spec = _parse(_find_spec(path))
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise PocketAffectError(
            f"{path}: a model of this type cannot be read",
            found=kind or "no model",
            allowed="mlProgram (the type that coremltools writes as .mlpackage)",
            todo=_AGAIN,
        )
    check_weight_file(spec.mlProgram, weights_folder(path))
    return spec


def weights_folder(path: Path) -> Path:
    """Returns the folder of a package's weight files."""
    return path / DATA_FOLDER / WEIGHTS_FOLDER


def _find_spec(path: Path) -> Path:
    if path.is_file():
        if path.suffix == ".mlmodel":
            return path
        raise _not_a_package(path, f"a file of {path.stat().st_size} bytes")
    if not path.is_dir():
        raise _not_a_package(path, "no such file or folder")
    manifest = path / "Manifest.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        root = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    except FileNotFoundError:
        raise _not_a_package(path, "a folder without Manifest.json") from None
    except (ValueError, KeyError, TypeError):
        raise _not_a_package(path, "a Manifest.json that does not name its model") from None
    spec = path / DATA_FOLDER / str(root)
    if not spec.is_file():
        raise _not_a_package(path, f"no {spec.relative_to(path)}")
    return spec


def _not_a_package(path: Path, found: str) -> PocketAffectError:
    return PocketAffectError(
        f"{path}: not a Core ML package",
        found=found,
        allowed="a folder with Manifest.json and Data/com.apple.CoreML/model.mlmodel",
        todo=_AGAIN,
    )


def _parse(path: Path) -> Any:
    import_coremltools()
    from coremltools import proto
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    spec = proto.Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except DecodeError:
        found = f"{path.stat().st_size} bytes that are no Core ML model"
        raise PocketAffectError(f"{path}: damaged", found=found, todo=_AGAIN) from None
    return spec


def package_bytes(path: Path) -> int:
    """Counts the bytes of all files of a package together: what the budget limits."""
    return sum(file.stat().st_size for file in _files(path))


def package_digest(path: Path) -> str:
    """Computes the SHA-256 over the package's relative file names, lengths and contents, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in _files(path):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def program_digest(path: Path) -> str:
    """SHA-256 over all that decides a package's answers: interface, program and weights, not what it says of itself."""
    spec = read_spec(path)
    spec.description.metadata.Clear()
    digest = hashlib.sha256(spec.SerializeToString(deterministic=True))
    folder = weights_folder(path)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise _not_a_package(path, "a file" if path.exists() else "no such file or folder")
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def read_metadata(path: Path) -> dict[str, str]:
    """Reads what a package says about itself: author, licence, version, short_description and all further keys.

    Raises:
        PocketAffectError: As for `read_spec`.
    """
    return list_metadata(read_spec(path))


def list_metadata(spec: Any) -> dict[str, str]:
    """The same of a `Model` message that was read already."""
    metadata = spec.description.metadata
    return {
        **{str(key): str(metadata.userDefined[key]) for key in sorted(metadata.userDefined)},
        "author": str(metadata.author),
        "licence": str(metadata.license),
        "version": str(metadata.versionString),
        "short_description": str(metadata.shortDescription),
    }


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
                raise PocketAffectError(f"{file}: the weight file is missing", found=f"needed by {place}", todo=_AGAIN)
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
    return PocketAffectError(f"{file}: the weight file is cut short or damaged", found=found, todo=_AGAIN)


def _blobs(program: Any) -> Iterator[tuple[str, Any]]:
    """Lists every reference to a weight file, with the name of the operation that makes it."""
    for operation in walk_operations(program):
        place = f"{operation.type} {operation.outputs[0].name if operation.outputs else ''}".strip()
        for reference in find_references(operation):
            yield place, reference


def find_references(operation: Any) -> Iterator[Any]:
    """Finds an operation message's own references to a weight file."""
    values = list(operation.attributes.values())
    for argument in operation.inputs.values():
        values += [binding.value for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    for value in values:
        if value.WhichOneof("value") == "blobFileValue":
            yield value.blobFileValue


def stored_bytes(reference: Any, folder: Path) -> int:
    """Counts a reference's tensor in its weight file: bytes with its record and up to the next 64."""
    with (folder / Path(reference.fileName).name).open("rb") as stream:
        stream.seek(reference.offset)
        _, _, size, _ = _RECORD.unpack(stream.read(_RECORD.size))
    return _ALIGNMENT + -(-int(size) // _ALIGNMENT) * _ALIGNMENT


def walk_operations(program: Any) -> Iterator[Any]:
    """Yields every operation message of a `Program` message, also those inside of branches and loops."""
    for function in program.functions.values():
        for block in function.block_specializations.values():
            yield from _walk(block)


def _walk(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)
