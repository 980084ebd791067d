"""The `.mlpackage` as a file: written whole or not at all, the same bytes for the same model, checked on read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.compact import compact_program
from pocketaffect.mlpackage.blobs import check_weight_file
from pocketaffect.mlpackage.names import renumber_names
from pocketaffect.mlpackage.quiet import import_coremltools

SUFFIX: Final = ".mlpackage"
_DATA: Final = Path("Data")
_SPEC: Final = Path("com.apple.CoreML/model.mlmodel")
_WEIGHTS: Final = Path("com.apple.CoreML/weights")
_KEY_PREFIX: Final = "com.github.apple.coremltools."
_EXPORT_AGAIN: Final = "export the model again (`dvc repro export`)"


def save_package(model: Any, path: Path, *, compact: bool = True) -> None:
    """Writes a converted model as a package folder, replacing an older one only once the new one opens.

    Identifiers, map order and dates are normalised, so that equal models give equal bytes (coremltools draws
    the identifiers at random, and protobuf leaves the order of its maps open).

    Args:
        model: A `coremltools.models.MLModel` of the ML Program type.
        path: Folder to write; its name ends with `.mlpackage`.
        compact: Whether the program is made shorter (`compact`), or stays as coremltools writes it.

    Raises:
        PocketAffectError: Wrong name, or no room or right to write there.
    """
    if path.suffix != SUFFIX:
        raise PocketAffectError(f"{path}: a package's name is wrong", found=path.suffix, allowed=SUFFIX)
    # coremltools opens only what is called .mlpackage, so the temporary names end with it too.
    fresh = path.with_name(f".{path.stem}.{os.getpid()}.new{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(model, fresh, compact=compact)
        import_coremltools().models.MLModel(str(fresh), skip_model_load=True)
        _swap(fresh, path)
    except OSError as error:
        raise PocketAffectError(
            f"{path}: the package cannot be written; what was there before is unchanged",
            found=error.strerror or error,
            todo="free some disk space, or make the folder writable",
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write(model: Any, folder: Path, *, compact: bool) -> None:
    spec = model.get_spec()
    _normalise(spec)
    if compact and spec.WhichOneof("Type") == "mlProgram":
        compact_program(spec)
    contents = {_SPEC: ("CoreML Model Specification", "model.mlmodel")}
    target = folder / _DATA / _SPEC
    target.parent.mkdir(parents=True)
    target.write_bytes(spec.SerializeToString(deterministic=True))
    if model.weights_dir and Path(model.weights_dir).is_dir():
        contents[_WEIGHTS] = ("CoreML Model Weights", "weights")
        weights = folder / _DATA / _WEIGHTS
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
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": _identifier(_SPEC),
    }
    text = json.dumps(manifest, indent=4, sort_keys=True) + "\n"
    (folder / "Manifest.json").write_text(text, encoding="utf-8")


def _identifier(item: Path) -> str:
    """An identifier that depends on the item's place alone; it has meaning only inside its own package."""
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


def _swap(fresh: Path, path: Path) -> None:
    """Puts `fresh` in `path`'s place; folders cannot be replaced in one step, so the old one steps aside."""
    old = path.with_name(f".{path.stem}.{os.getpid()}.old{SUFFIX}")
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
            todo=_EXPORT_AGAIN,
        )
    check_weight_file(spec.mlProgram, weights_folder(path))
    return spec


def weights_folder(path: Path) -> Path:
    """The folder of a package's weight files."""
    return path / _DATA / _WEIGHTS


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
    spec = path / _DATA / str(root)
    if not spec.is_file():
        raise _not_a_package(path, f"no {spec.relative_to(path)}")
    return spec


def _not_a_package(path: Path, found: str) -> PocketAffectError:
    return PocketAffectError(
        f"{path}: not a Core ML package",
        found=found,
        allowed="a folder with Manifest.json and Data/com.apple.CoreML/model.mlmodel",
        todo=_EXPORT_AGAIN,
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
        raise PocketAffectError(f"{path}: damaged", found=found, todo=_EXPORT_AGAIN) from None
    return spec


def package_bytes(path: Path) -> int:
    """Bytes of all files of a package together: what the budget limits."""
    return sum(file.stat().st_size for file in _files(path))


def package_digest(path: Path) -> str:
    """SHA-256 over the package's relative file names, lengths and contents, as 64 hexadecimal digits."""
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
    """What a package says about itself: author, licence, version, short_description and all further keys.

    Raises:
        PocketAffectError: As for `read_spec`.
    """
    metadata = read_spec(path).description.metadata
    return {
        **{str(key): str(metadata.userDefined[key]) for key in sorted(metadata.userDefined)},
        "author": str(metadata.author),
        "licence": str(metadata.license),
        "version": str(metadata.versionString),
        "short_description": str(metadata.shortDescription),
    }
