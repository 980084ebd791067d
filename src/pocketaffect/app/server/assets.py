"""Everything the browser loads: the page's own files, the runtime and the model, each with its digest."""

from __future__ import annotations

import functools
import hashlib
import json
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pocketaffect.app.server.model import ServedModel
from pocketaffect.app.server.runtime import DETECTOR, ENCODINGS, RUNTIME

PAGE: Final = Path(__file__).parents[1] / "page"
TEXTS: Final = PAGE / "texts/en.json"
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class Asset:
    """A file as it travels."""

    content: bytes
    media_type: str
    encoded: Mapping[str, bytes] = field(default_factory=dict)
    """Names of HTTP encodings to the content in them, the smallest first."""

    immutable: bool = False
    """Whether its address changes with its content."""

    @functools.cached_property
    def etag(self) -> str:
        """Of the content, quoted as the header wants it."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def load_assets(model: ServedModel, runtime: Path) -> dict[str, Asset]:
    """Path of the URL to what lies there. Templates are filled in: texts, and the list the service worker keeps.

    Args:
        model: The model to serve.
        runtime: From `require_runtime`.
    """
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    assets = {path: _read(file) for path, file in _own_files()}
    for name in (*RUNTIME, DETECTOR):
        encoded = {encoding: (runtime / f"{name}{end}").read_bytes() for encoding, end in ENCODINGS.items()}
        assets[f"/web/{name}"] = Asset((runtime / name).read_bytes(), _type(Path(name)), encoded)
    for place, content in enumerate(model.files):
        assets[model.address(place)] = Asset(content, _TYPES[".onnx"], immutable=True)
    scripts = [path for path in assets if path.startswith("/js/")]
    assets["/"] = _render("index.html.jinja", "text/html", texts=texts, model=model, scripts=scripts)
    assets["/manifest.webmanifest"] = _render("manifest.webmanifest.jinja", _TYPES[".webmanifest"], texts=texts)
    digest = hashlib.sha256("".join(f"{path}{assets[path].etag}" for path in sorted(assets)).encode()).hexdigest()
    assets["/sw.js"] = _render("sw.js.jinja", "text/javascript", build=digest[:16], paths=sorted(assets))
    return assets


def _own_files() -> Iterator[tuple[str, Path]]:
    for file in sorted(PAGE.rglob("*")):
        if file.is_file() and file.suffix != ".jinja":
            yield f"/{file.relative_to(PAGE).as_posix()}", file


def _read(file: Path) -> Asset:
    return Asset(file.read_bytes(), _type(file))


def _type(file: Path) -> str:
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _render(name: str, media_type: str, **values: object) -> Asset:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=name.startswith("index"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return Asset(environment.get_template(name).render(**values).encode(), media_type)
