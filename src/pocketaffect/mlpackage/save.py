"""Writes a package whole or not at all, and the same bytes for the same model."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import DATA_FOLDER, SPEC_FILE, SUFFIX, WEIGHTS_FOLDER, walk_operations
from pocketaffect.mlpackage.quiet import import_coremltools

_KEY_PREFIX: Final = "com.github.apple.coremltools."
_COUNTED: Final = re.compile(r"([a-z][a-z0-9_]*?)_(\d+)(?=_|$)")
"""An operation's name and a number; what follows, such as `_to_fp16`, was added to it later."""


def save_package(model: Any, path: Path) -> None:
    """Writes a converted model as a package folder, replacing an older one only once the new one opens.

    Identifiers, map order and dates are normalised, so that equal models give equal bytes (coremltools draws
    the identifiers at random, and protobuf leaves the order of its maps open).

    Args:
        model: A `coremltools.models.MLModel` of the ML Program type.
        path: Folder to write; its name ends with `.mlpackage`.

    Raises:
        PocketAffectError: Wrong name, or no room or right to write there.
    """
    if path.suffix != SUFFIX:
        raise PocketAffectError(f"{path}: a package's name is wrong", found=path.suffix, allowed=SUFFIX)
    # coremltools opens only what is called .mlpackage, so the temporary names end with it too.
    fresh = path.with_name(f".{path.stem}.{os.getpid()}.new{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(model, fresh)
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
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": _identifier(SPEC_FILE),
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
