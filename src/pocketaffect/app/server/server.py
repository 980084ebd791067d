"""The web server: the page, the model and the API behind one guard; it says all that is missing before it listens."""

from __future__ import annotations

import functools
import hashlib
import json
import mimetypes
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from pocketaffect import __version__, paths
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import Listeners
from pocketaffect.app.music.recommend import Recommender
from pocketaffect.app.music.spotify import SpotifyRecommender
from pocketaffect.app.server.api import Services, build_api
from pocketaffect.app.server.model import ServedModel, find_model
from pocketaffect.app.server.runtime import DETECTOR, ENCODINGS, RUNTIME, require_runtime
from pocketaffect.app.server.security import Guard
from pocketaffect.app.study.store import StudyStore, UnknownRunError
from pocketaffect.errors import PocketAffectError
from pocketaffect.figures import page_template

PAGE: Final = Path(__file__).parents[1] / "page"
TEXTS: Final = PAGE / "texts/en.json"
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}
LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
RATE: Final = 20.0
BURST: Final = 60
"""Requests to /api: a page asks for songs every few seconds, a participant for one row in a minute."""
MAX_PROBLEMS: Final = 10


def create_app(
    services: Services, runtime: Path, *, hosts: Collection[str] = LOCAL_HOSTS, rate: float = RATE, burst: int = BURST
) -> FastAPI:
    """Makes the application, which answers under the names `hosts`; `rate` and `burst` are those of `Guard`."""
    app = FastAPI(
        title="pocketaffect",
        version=__version__,
        summary="Affect on the device, songs to match, and the user study. No route takes an image.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # it would load from another site
        redoc_url=None,
    )
    app.include_router(build_api(services))
    _add_assets(app, load_assets(services.model, runtime))

    @app.exception_handler(UnknownRunError)
    def answer_unknown_run(_request: Request, error: UnknownRunError) -> JSONResponse:
        return JSONResponse({"problem": str(error)}, 401, {"WWW-Authenticate": "Bearer"})

    @app.exception_handler(PocketAffectError)
    def answer_problem(_request: Request, error: PocketAffectError) -> JSONResponse:
        return JSONResponse({"problem": _printable(str(error))}, 422)

    @app.exception_handler(RequestValidationError)
    def answer_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent: it may hold what UTF-8 cannot, and nothing sent should come back.
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:MAX_PROBLEMS]]
        return JSONResponse({"problem": _printable("\n".join(lines))}, 422)

    app.add_middleware(Guard, hosts=hosts, rate=rate, burst=burst)
    return app


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _add_assets(app: FastAPI, assets: Mapping[str, Asset]) -> None:
    @app.get("/{path:path}", include_in_schema=False)
    def read_asset(path: str, request: Request) -> Response:
        asset = assets.get(f"/{path}")
        if asset is None:
            return JSONResponse({"problem": "no such page"}, 404)
        keep = "public, max-age=31536000, immutable" if asset.immutable else "no-cache"
        headers = {"etag": asset.etag, "cache-control": keep, "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        accepted = {each.partition(";")[0].strip() for each in request.headers.get("accept-encoding", "").split(",")}
        for encoding, content in asset.encoded.items():
            if encoding in accepted:
                headers["content-encoding"] = encoding
                return Response(content, media_type=asset.media_type, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)


@dataclass(frozen=True)
class Asset:
    """A file as it travels."""

    content: bytes
    media_type: str
    encoded: Mapping[str, bytes] = field(default_factory=dict)
    """Names of HTTP encodings to the content in them, the smallest first."""

    immutable: bool = False
    """True where the address changes with the content."""

    @functools.cached_property
    def etag(self) -> str:
        """Digest of the content, quoted as the header wants it."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def load_assets(model: ServedModel, runtime: Path) -> dict[str, Asset]:
    """Maps each path of a URL to what lies there: the page, its templates filled in, the runtime and the model."""
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    own = [file for file in sorted(PAGE.rglob("*")) if file.is_file() and file.suffix != ".jinja"]
    assets = {f"/{file.relative_to(PAGE).as_posix()}": _read(file) for file in own}
    for name in (*RUNTIME, DETECTOR):
        encoded = {encoding: (runtime / f"{name}{end}").read_bytes() for encoding, end in ENCODINGS.items()}
        assets[f"/web/{name}"] = _read(runtime / name, encoded)
    assets[model.address] = Asset(model.content, _TYPES[".onnx"], immutable=True)
    scripts = [path for path in assets if path.startswith("/js/")]
    assets["/"] = _render("index.html.jinja", "text/html", texts=texts, model=model, scripts=scripts)
    assets["/manifest.webmanifest"] = _render("manifest.webmanifest.jinja", _TYPES[".webmanifest"], texts=texts)
    digest = hashlib.sha256("".join(f"{path}{assets[path].etag}" for path in sorted(assets)).encode()).hexdigest()
    assets["/sw.js"] = _render("sw.js.jinja", "text/javascript", build=digest[:16], paths=sorted(assets))
    return assets


def _read(file: Path, encoded: Mapping[str, bytes] | None = None) -> Asset:
    media_type = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or _TYPES[".onnx"]
    return Asset(file.read_bytes(), media_type, encoded or {})


def _render(name: str, media_type: str, **values: object) -> Asset:
    return Asset(page_template(f"app/page/{name}", {}).render(**values).encode(), media_type)


def serve(
    announce: Callable[[str], None],
    *,
    model: str | None,
    catalogue: Path | None,
    spotify: bool,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    study: Path,
    listeners: Path,
    retention_days: int,
) -> None:
    """Serves until it is interrupted. The options are those of `pocketaffect serve`.

    Raises:
        PocketAffectError: Something that the server needs is missing, or was not verified.
    """
    import uvicorn

    runtime = require_runtime(paths.WEB)
    if (certificate is None) != (key is None):
        raise PocketAffectError("serve: a certificate needs its key", todo="name both --certificate and --key, or none")
    if spotify and catalogue is not None:
        raise PocketAffectError("serve: two sources of songs", todo="name --catalogue or --spotify, not both")
    served, songs = find_model(model), None if spotify else Catalogue.load(catalogue)
    for problem in () if songs is None else songs.problems:
        announce(f"{catalogue}: line {problem}: skipped")
    with closing(Listeners(listeners)) as ratings, closing(StudyStore(study)) as rows:
        recommender = SpotifyRecommender.from_environment() if songs is None else Recommender(songs, ratings)
        services = Services(served, recommender, songs, ratings, rows, retention_days)
        app = create_app(services, runtime, hosts=(*LOCAL_HOSTS, host, *allowed_hosts))
        with listening(host, port) as listener:
            scheme = "http" if certificate is None else "https"
            source = "Spotify's songs" if songs is None else f"{len(songs):,} songs"
            announce(f"{served.name} ({len(served.content):,} bytes) and {source}")
            announce(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}   Ctrl+C stops")
            config = uvicorn.Config(
                app,
                log_level="warning",
                server_header=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                timeout_graceful_shutdown=5,
            )
            with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
                uvicorn.Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """Opens a socket that listens.

    Raises:
        PocketAffectError: The address is not this machine's, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PocketAffectError(
            f"serve: cannot listen on {host}:{port}", found=error.strerror, todo="name another --port or --host"
        ) from None
