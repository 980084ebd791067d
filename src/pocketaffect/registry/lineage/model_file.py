"""What a model file says about itself, and the digest that the registry knows it by."""

from __future__ import annotations

from pathlib import Path

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file
from pocketaffect.mlpackage.package import package_digest, read_metadata


def read_file_metadata(path: Path) -> dict[str, str]:
    """Reads the metadata of a .mlpackage (as `read_metadata` gives it) or of a .onnx file.

    Raises:
        PocketAffectError: Neither of both, or damaged.
    """
    if path.suffix not in (".mlpackage", ".onnx"):
        raise PocketAffectError(f"{path}: not a model file", allowed="a .mlpackage folder or a .onnx file")
    if path.suffix == ".mlpackage":
        return read_metadata(path)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise PocketAffectError(f"{path}: damaged", found=f"{path.stat().st_size} bytes that are no model") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def digest_file(path: Path) -> str:
    """Computes the SHA-256 of a file, `package_digest` of a folder."""
    return package_digest(path) if path.is_dir() else hash_file(path)
