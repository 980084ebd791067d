"""Finds the model to serve by file or version, refuses one that was not verified, and describes it by its metadata."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from pocketaffect import paths
from pocketaffect.config import PARAMS_FILE, describe_problems, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.predict.models import choose_model
from pocketaffect.registry.store.runs import MODEL_FOLDER
from pocketaffect.registry.store.store import Store, advise_register, find_store
from pocketaffect.registry.store.versions import RegisteredVersion, artifact_path, get_version


class Metadata(BaseModel):
    """What a model's own metadata must say for the page; `precision` is that of the stored weights."""

    labels: Literal[",".join(EXPRESSIONS)]  # type: ignore[valid-type]
    valence_arousal_order: Literal[",".join(VALENCE_AROUSAL)]  # type: ignore[valid-type]
    input_color_order: Literal["RGB"]
    input_size: Annotated[int, Field(ge=8, le=512)]
    """Pixels a side."""
    crop_margin: Annotated[float, Field(ge=0, le=1)]
    """Share of the face box's longer side that is added at each of its ends."""
    precision: str = "unknown"
    trained_on: str | None = None
    """`labels.DRAWINGS`, of which the page warns, `labels.PHOTOGRAPHS`, or None where it is not said."""
    unsure_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability of the likeliest expression below which the page says "unsure"; None likewise."""


@dataclass(frozen=True)
class ServedModel:
    """What a page must know to feed the model and to read its answer; `name` is a file's or a version, for people.

    Attributes:
        content: The ONNX file's bytes, which say `metadata` of themselves.
        commit: Git commit of the sources, where the registry knows it.
        verified: The program that executed the model in its verification.
    """

    name: str
    content: bytes
    metadata: Metadata
    commit: str | None
    verified: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def address(self) -> str:
        """Path of the file's URL; another model has another, so that a browser may keep it for good."""
        return f"/model/{self.digest[:16]}/0.onnx"

    def facts(self) -> dict[str, object]:
        """Lists everything but the content as JSON values, with the file's length and address."""
        said = self.metadata.model_dump(exclude={"valence_arousal_order", "input_color_order"})
        own = {name: getattr(self, name) for name in ("name", "commit", "digest", "verified")}
        return {**said, **own, "labels": list(EXPRESSIONS), "bytes": len(self.content), "files": [self.address]}


def find_model(wanted: str | None, root: Path = Path()) -> ServedModel:
    """Finds the model to serve: an .onnx file beside its verification.json, or a registered version's number or alias.

    None takes what `predict.models.choose_model` chooses.

    Raises:
        PocketAffectError: There is no such model, it failed its verification or was never verified, or its metadata do
            not say how to use it.
    """
    if wanted is not None and wanted.endswith(paths.TWIN.suffix):
        return _open_file(Path(wanted))
    chosen = choose_model(root) if wanted is None else None
    if isinstance(chosen, Path):
        return _open_file(chosen / paths.TWIN.name)
    store = find_store(root)
    if store is None:
        raise PocketAffectError(
            f"{wanted}: no .onnx file, and there is no registry here to look for a version of that name",
            allowed="an .onnx file, a registered version's number, or an alias such as champion",
            todo=f"correct the path; or register a version: {advise_register(root)}",
        )
    name = load_params(root / PARAMS_FILE).register_.model_name
    return _open_version(store, chosen or get_version(store, name, str(wanted)))


def _open_version(store: Store, version: RegisteredVersion) -> ServedModel:
    title = f"{version.model_name} version {version.version}"
    record, twin = (
        artifact_path(store, version, place) for place in (paths.VERIFICATION.name, f"{MODEL_FOLDER}/{paths.TWIN.name}")
    )
    if record is None or twin is None:
        missing = paths.VERIFICATION.name if record is None else paths.TWIN.name
        raise PocketAffectError(f"{title} cannot be served", found=f"no {missing} with it", todo="name another version")
    return _open_verified(twin, record, title, version.tags.get("git.commit"))


def _open_file(file: Path) -> ServedModel:
    if not file.is_file():
        raise PocketAffectError(f"{file}: no such file", todo="dvc repro, or name another with --model")
    return _open_verified(file, file.with_name(paths.VERIFICATION.name), file.name, None)


def _open_verified(twin: Path, record: Path, name: str, commit: str | None) -> ServedModel:
    """Describes the model in `twin`, if `record` says that exactly these bytes passed their verification."""
    content, todo = twin.read_bytes(), "dvc repro export"
    try:
        verdict = json.loads(record.read_text(encoding="utf-8"))
        passed, verified = verdict["passed"] is True, verdict["forms"]["twin"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"{record}: no verification to read; a model without one is not served"
        raise PocketAffectError(problem, todo=todo) from None
    if not passed:
        raise PocketAffectError(f"{record}: the model failed its verification and is not served", todo=todo)
    if verified != (found := hashlib.sha256(content).hexdigest()):
        problem = f"{record}: the verification is of another file; this one is not served"
        raise PocketAffectError(problem, found=f"SHA-256 {found}", allowed=verified, todo=todo)
    executed_by = str(verdict.get("executed_by", paths.VERIFICATION.name))
    return describe_model(content, name=name, commit=commit, verified=executed_by)


def describe_model(content: bytes, *, name: str, commit: str | None, verified: str) -> ServedModel:
    """Reads an ONNX file's metadata.

    Raises:
        PocketAffectError: The file is no ONNX model, or its metadata do not say how to use it.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        properties = onnx.load_model_from_string(content).metadata_props
        metadata = Metadata.model_validate({entry.key: entry.value for entry in properties})
    except DecodeError:
        raise PocketAffectError(f"{name}: not readable as ONNX") from None
    except ValidationError as error:
        raise PocketAffectError(
            f"{name}: its metadata do not describe a model for this page",
            found="; ".join(describe_problems(error)),
            todo="export it with this version",
        ) from None
    return ServedModel(name, content, metadata, commit, verified)
