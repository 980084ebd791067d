"""What a model file says about itself, read in milliseconds: without coremltools and onnx, which take seconds."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest

SPEC_PLACE: Final = Path("Data/com.apple.CoreML/model.mlmodel")
PACKAGE_SUFFIX: Final = ".mlpackage"
TWIN_SUFFIX: Final = ".onnx"

_STRING, _MESSAGE = 9, 11  # of google.protobuf's FieldDescriptorProto.Type
_ONE, _MANY = 1, 3  # of its Label
_ENTRY: Final = (("key", 1, _ONE, None), ("value", 2, _ONE, None))
_SCHEMA: Final = {
    "Entry": _ENTRY,
    # Of Core ML's Model.proto and FeatureTypes.proto; protobuf passes over every field that is not named here.
    "Metadata": (
        ("short_description", 1, _ONE, None),
        ("version", 2, _ONE, None),
        ("author", 3, _ONE, None),
        ("licence", 4, _ONE, None),
        ("user", 100, _MANY, "Entry"),  # a map is stored as repeated pairs
    ),
    "Description": (("metadata", 100, _ONE, "Metadata"),),
    "CoreML": (("description", 2, _ONE, "Description"),),
    "ONNX": (("metadata", 14, _MANY, "Entry"),),
}


def read_file_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .mlpackage (as `mlpackage.package.read_metadata` gives it) or of a .onnx file.

    Raises:
        PocketAffectError: Neither of both, or damaged.
    """
    if path.suffix == TWIN_SUFFIX and path.is_file():
        return {entry.key: entry.value for entry in _parse("ONNX", path).metadata}
    spec = path / SPEC_PLACE
    if path.suffix == PACKAGE_SUFFIX and spec.is_file():
        metadata = _parse("CoreML", spec).description.metadata
        plain = {name: str(getattr(metadata, name)) for name, *_ in _SCHEMA["Metadata"] if name != "user"}
        return {entry.key: entry.value for entry in metadata.user} | plain
    found = "nothing there" if not path.exists() else "no such model in it"
    raise PocketAffectError(
        f"{path}: not a model file", found=found, allowed=f"a {PACKAGE_SUFFIX} folder or a {TWIN_SUFFIX} file"
    )


def digest_file(path: Path) -> str:
    """What the registry knows a model file by: `package_digest` of a folder, SHA-256 of a file."""
    return package_digest(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def _parse(kind: str, file: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    message = _messages()[kind]()
    try:
        message.ParseFromString(file.read_bytes())
    except DecodeError:
        raise PocketAffectError(f"{file}: damaged", found=f"{file.stat().st_size} bytes that are no model") from None
    return message


@cache
def _messages() -> dict[str, Any]:
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    file = descriptor_pb2.FileDescriptorProto(name="pocketaffect_metadata.proto", package="pocketaffect_metadata")
    file.syntax = "proto3"
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = message.field.add(name=field, number=number, label=label, type=_MESSAGE if kind else _STRING)
            if kind:
                added.type_name = f".pocketaffect_metadata.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pocketaffect_metadata.{name}"))
        for name in _SCHEMA
    }
