"""The `.mlpackage` as a file: checked on read, written whole with the same bytes every time, weighed and digested."""

import hashlib
import json
import re
import shutil
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.mlpackage.quiet import import_coremltools

SUFFIX: Final = ".mlpackage"
DATA_FOLDER: Final = Path("Data")
SPEC_FILE: Final = Path("com.apple.CoreML/model.mlmodel")
WEIGHTS_FOLDER: Final = Path("com.apple.CoreML/weights")
_AGAIN: Final = "copy the package again, whole, or make it again (`dvc repro export`)"

# A record of coremltools' MILBlob format announces one tensor: sentinel, data type, size and offset of the data.
_RECORD: Final = struct.Struct("<IIQQ")
_SENTINEL: Final = 0xDEADBEEF
ALIGNMENT: Final = 64
"""Bytes: each tensor of a weight file starts at a multiple of it, as does the record before it."""

_KEY_PREFIX: Final = "com.github.apple.coremltools."
_COUNTED: Final = re.compile(r"([a-z][a-z0-9_]*?)_(\d+)(?=_|$)")
"""An operation's name and a number; what follows, such as `_to_fp16`, was added to it later."""


def read_spec(path: Path) -> Any:
    """Reads the `Model` protobuf message of a package, and checks its parts, its type and the extent of every weight.

    Raises:
        PocketAffectError: Not a package, a part is missing or cut short, or it is no ML Program.
    """
    import_coremltools()
    from coremltools import proto
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    file, spec = _find_spec(path), proto.Model_pb2.Model()
    try:
        spec.ParseFromString(file.read_bytes())
    except DecodeError:
        found = f"{file.stat().st_size} bytes that are no Core ML model"
        raise PocketAffectError(f"{file}: damaged", found=found, todo=_AGAIN) from None
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
    """Computes the SHA-256 of all that decides a package's answers: interface, program and weights, not its texts."""
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
    """Does as `read_metadata`, for a `Model` message that was read already."""
    metadata = spec.description.metadata
    return {
        **{str(key): str(metadata.userDefined[key]) for key in sorted(metadata.userDefined)},
        "author": str(metadata.author),
        "licence": str(metadata.license),
        "version": str(metadata.versionString),
        "short_description": str(metadata.shortDescription),
    }


def check_weight_file(program: Any, folder: Path) -> None:
    """Makes sure that every stored tensor that `program`, a protobuf message, names lies inside its weight file.

    coremltools' own reader reports a cut file as "index out of bounds", and only for the first tensor.

    Raises:
        PocketAffectError: A weight file is missing, cut short or overwritten.
    """
    for operation in walk_operations(program):
        place = f"{operation.type} {operation.outputs[0].name if operation.outputs else ''}".strip()
        for reference in find_references(operation):
            file = folder / Path(reference.fileName).name
            if not file.is_file():
                raise PocketAffectError(f"{file}: the weight file is missing", found=f"needed by {place}", todo=_AGAIN)
            if problem := _find_damage(file, int(reference.offset), place):
                raise PocketAffectError(f"{file}: the weight file is cut short or damaged", found=problem, todo=_AGAIN)


def _find_damage(file: Path, offset: int, place: str) -> str:
    """Says what is wrong with the tensor whose record is at `offset`; "" where nothing is."""
    length, record = file.stat().st_size, _read_record(file, offset)
    if record is None:
        return f"{length} bytes; {place} starts at byte {offset}"
    sentinel, _, size, start = record
    if sentinel != _SENTINEL:
        return f"no weight record at byte {offset}, where {place} starts"
    return f"{length} bytes; {place} ends at byte {start + size}" if start + size > length else ""


def _read_record(file: Path, offset: int) -> tuple[int, int, int, int] | None:
    """Reads sentinel, data type, size and start of a tensor; None where the file ends before."""
    with file.open("rb") as stream:
        stream.seek(offset)
        record = stream.read(_RECORD.size)
    return _RECORD.unpack(record) if len(record) == _RECORD.size else None


def find_references(operation: Any) -> Iterator[Any]:
    """Finds an operation message's own references to a weight file."""
    values = list(operation.attributes.values())
    for argument in operation.inputs.values():
        values += [binding.value for binding in argument.arguments if binding.WhichOneof("binding") == "value"]
    for value in values:
        if value.WhichOneof("value") == "blobFileValue":
            yield value.blobFileValue


def named_bindings(operation: Any) -> Iterator[Any]:
    """Yields an operation message's arguments that refer to a value by its name."""
    for argument in operation.inputs.values():
        yield from (binding for binding in argument.arguments if binding.WhichOneof("binding") == "name")


def stored_bytes(reference: Any, folder: Path) -> int:
    """Counts the bytes of a reference's tensor in its weight file, see `aligned_bytes`."""
    record = _read_record(folder / Path(reference.fileName).name, int(reference.offset))
    return 0 if record is None else aligned_bytes(record[2])


def aligned_bytes(size: int) -> int:
    """Counts what a tensor of `size` bytes takes in a weight file, with its record and up to the next tensor."""
    return ALIGNMENT + -(-size // ALIGNMENT) * ALIGNMENT


def walk_operations(program: Any) -> Iterator[Any]:
    """Yields every operation message of a `Program` message, also those inside of branches and loops."""
    for block in _main_blocks(program):
        yield from _walk(block)


def _main_blocks(program: Any) -> Iterator[Any]:
    for function in program.functions.values():
        yield from function.block_specializations.values()


def _walk(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _walk(inner)


def save_package(model: Any, path: Path) -> None:
    """Writes a converted model as a `.mlpackage` folder, replacing an older one only once the new one can be read.

    Identifiers, map order and dates are normalised, so that equal models give equal bytes (coremltools draws
    the identifiers at random, and protobuf leaves the order of its maps open).

    Raises:
        PocketAffectError: Wrong name, or no room or right to write there.
    """
    if path.suffix != SUFFIX:
        raise PocketAffectError(f"{path}: a package's name is wrong", found=path.suffix, allowed=SUFFIX)
    with write_atomically(path) as draft:
        _write(model, draft)
        read_spec(draft)


def _write(model: Any, folder: Path) -> None:
    spec = model.get_spec()
    _normalise(spec)
    contents = {SPEC_FILE: ("CoreML Model Specification", "model.mlmodel")}
    target = folder / DATA_FOLDER / SPEC_FILE
    target.parent.mkdir(parents=True)
    target.write_bytes(spec.SerializeToString(deterministic=True))
    if model.weights_dir and Path(model.weights_dir).is_dir():
        contents[WEIGHTS_FOLDER] = ("CoreML Model Weights", "weights")
        weights = folder / DATA_FOLDER / WEIGHTS_FOLDER
        weights.mkdir()
        for source in sorted(Path(model.weights_dir).iterdir()):
            shutil.copyfile(source, weights / source.name)
    entries = {
        _identifier(item): {
            "author": "com.apple.CoreML",
            "description": description,
            "name": name,
            "path": item.as_posix(),
        }
        for item, (description, name) in contents.items()
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": _identifier(SPEC_FILE)}
    text = json.dumps(manifest, indent=4, sort_keys=True) + "\n"
    (folder / "Manifest.json").write_text(text, encoding="utf-8")


def _identifier(item: Path) -> str:
    """Makes an identifier of the item's place alone; it has meaning only inside its own package."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"pocketaffect/{item.as_posix()}"))


def _normalise(spec: Any) -> None:
    """Takes out what differs between two conversions of one checkpoint (date, torch build, counters)."""
    user = spec.description.metadata.userDefined
    user.pop(f"{_KEY_PREFIX}conversion_date", None)
    source = f"{_KEY_PREFIX}source"
    if source in user:
        user[source] = user[source].partition("+")[0]
    if spec.WhichOneof("Type") == "mlProgram":
        renumber_names(spec)


def renumber_names(spec: Any) -> None:
    """Numbers the values that coremltools named by a counter in the order in which they stand.

    Some of its passes walk over sets, so that one conversion in many calls a constant `transpose_1` and the next
    `transpose_0`: the same program in other bytes. Inputs, outputs and names that a network's modules gave stay.
    """
    import_coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    numbers: dict[str, dict[str, int]] = {}

    def rename(name: str) -> str:
        counted = _COUNTED.match(name)
        if counted is None or counted[1] not in SSAOpRegistry.core_ops:
            return name
        known = numbers.setdefault(counted[1], {})
        return f"{counted[1]}_{known.setdefault(counted[2], len(known))}{name[counted.end() :]}"

    operations = list(walk_operations(spec.mlProgram))
    for operation in operations:  # what makes a value gives it its number, whoever reads it before
        for output in operation.outputs:
            rename(output.name)
    for operation in operations:
        for value in (*operation.outputs, *named_bindings(operation)):
            value.name = rename(value.name)
        if "name" in operation.attributes:
            texts = operation.attributes["name"].immediateValue.tensor.strings.values
            texts[:] = [rename(text) for text in texts]
    for block in (*_main_blocks(spec.mlProgram), *(inner for operation in operations for inner in operation.blocks)):
        block.outputs[:] = [rename(name) for name in block.outputs]
