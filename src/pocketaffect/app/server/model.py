"""The model that is served: found by file or version, refused unless it was verified, described from its metadata."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL

if TYPE_CHECKING:
    from pocketaffect.registry.store.store import Store
    from pocketaffect.registry.store.versions import RegisteredVersion

MAX_SIZE: Final = 512
MAX_MARGIN: Final = 1.0


@dataclass(frozen=True)
class ServedModel:
    """What a page must know to feed the model and to read its answer.

    Attributes:
        name: Where it came from, for people: a file's name or a version.
        files: The ONNX files' bytes; more than one where each has some of the outputs.
        labels: The expressions in the order of the probabilities.
        input_size: Pixels a side.
        crop_margin: Added at each end of the face box's longer side, as a share of it.
        precision: Of the stored weights, or "unknown".
        commit: Of the sources, where the registry knows it.
        digest: SHA-256 over all files.
        bytes: Of all files.
        verified: By what the model was found to be sound.
    """

    name: str
    files: tuple[bytes, ...]
    labels: tuple[str, ...]
    input_size: int
    crop_margin: float
    precision: str
    commit: str | None
    digest: str
    bytes: int
    verified: str

    def facts(self) -> dict[str, object]:
        """Everything but the bytes, as JSON values, with the addresses of the files."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        return facts | {"labels": list(self.labels), "files": [self.address(place) for place in range(len(self.files))]}

    def address(self, place: int) -> str:
        """Path of a file's URL; another model has another, so that a browser may keep it for good."""
        return f"/model/{self.digest[:16]}/{place}.onnx"


def find_model(wanted: str | None, root: Path = Path()) -> ServedModel:
    """The model to serve.

    Args:
        wanted: An .onnx file beside its verification.json; or a registered version: a number, or an alias such as
            `champion`. None takes the champion, or the last export where nothing was promoted yet.
        root: The repository's root.

    Raises:
        PocketAffectError: There is no such model, it failed its verification or was never verified, or its metadata do
            not say how to use it.
    """
    if wanted is not None and wanted.endswith(paths.TWIN.suffix):
        return _open_file(Path(wanted))
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.registry.store.store import find_store
    from pocketaffect.registry.store.versions import CHAMPION, aliased_version, get_version

    store, name = find_store(root), load_params(root / PARAMS_FILE).register_.model_name
    if store is None:
        if wanted is None:
            return _open_file(root / paths.TWIN)
        raise PocketAffectError(
            f"{wanted}: no .onnx file, and there is no registry here to look for a version of that name",
            allowed="an .onnx file, a registered version's number, or an alias such as champion",
            todo="correct the path; or `dvc repro`, which registers a version",
        )
    if wanted is not None:
        return _open_version(store, get_version(store, name, wanted))
    champion = aliased_version(store, name, CHAMPION)
    return _open_file(root / paths.TWIN) if champion is None else _open_version(store, champion)


def _open_version(store: Store, version: RegisteredVersion) -> ServedModel:
    from pocketaffect.registry.store.runs import MODEL_FOLDER
    from pocketaffect.registry.store.versions import artifact_path

    title = f"{version.model_name} version {version.version}"
    record = artifact_path(store, version, paths.VERIFICATION.name)
    twin = artifact_path(store, version, f"{MODEL_FOLDER}/{paths.TWIN.name}")
    if record is None or twin is None:
        missing = paths.VERIFICATION.name if record is None else paths.TWIN.name
        raise PocketAffectError(
            f"{title} cannot be served", found=f"no {missing} with it", todo="register it again with dvc repro"
        )
    content = twin.read_bytes()
    commit = version.tags.get("git.commit")
    return describe_model([content], name=title, commit=commit, verified=_read_verdict(record, content))


def _open_file(file: Path) -> ServedModel:
    if not file.is_file():
        raise PocketAffectError(f"{file}: no such file", todo="dvc repro, or name another with --model")
    record = file.with_name(paths.VERIFICATION.name)
    content = file.read_bytes()
    return describe_model([content], name=file.name, commit=None, verified=_read_verdict(record, content))


def _read_verdict(record: Path, twin: bytes) -> str:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        passed, verified = content["passed"] is True, content["forms"]["twin"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PocketAffectError(
            f"{record}: no verification to read; a model without one is not served", todo="dvc repro export"
        ) from None
    if not passed:
        raise PocketAffectError(
            f"{record}: the model failed its verification and is not served", todo="dvc repro export"
        )
    if verified != (found := hashlib.sha256(twin).hexdigest()):
        raise PocketAffectError(
            f"{record}: the verification is of another file; this one is not served",
            found=f"SHA-256 {found}",
            allowed=str(verified),
            todo="dvc repro export",
        )
    return str(content.get("executed_by", "verification.json"))


def describe_model(files: list[bytes], *, name: str, commit: str | None, verified: str) -> ServedModel:
    """Reads the metadata of ONNX files that belong together.

    Raises:
        PocketAffectError: A file is no ONNX model, or its metadata do not say how to use it.
    """
    metadata: dict[str, str] = {}
    for content in files:
        metadata |= _read_metadata(content, name)
    labels = tuple(metadata.get("labels", "").split(","))
    order = metadata.get("valence_arousal_order")
    size = _read_number(metadata, "input_size", 8, MAX_SIZE, name)
    margin = _read_number(metadata, "crop_margin", 0, MAX_MARGIN, name)
    if labels != EXPRESSIONS or order != ",".join(VALENCE_AROUSAL) or metadata.get("input_color_order") != "RGB":
        raise PocketAffectError(
            f"{name}: its metadata do not describe a model for this page",
            found=f"labels {','.join(labels) or 'none'}; order {order}",
            allowed=f"labels {','.join(EXPRESSIONS)}; order {','.join(VALENCE_AROUSAL)}; RGB",
            todo="export it with this version",
        )
    return ServedModel(
        name=name,
        files=tuple(files),
        labels=labels,
        input_size=int(size),
        crop_margin=margin,
        precision=metadata.get("precision", "unknown"),
        commit=commit,
        digest=hashlib.sha256(b"".join(files)).hexdigest(),
        bytes=sum(map(len, files)),
        verified=verified,
    )


def _read_metadata(content: bytes, name: str) -> dict[str, str]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise PocketAffectError(f"{name}: not readable as ONNX") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def _read_number(metadata: Mapping[str, str], key: str, least: float, most: float, name: str) -> float:
    text = metadata.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise PocketAffectError(
            f"{name}: its metadata give no {key}", found=text or "nothing", allowed=f"{least}..{most}"
        )
    return value
