"""The web server: the page, the model and the API behind one guard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from pocketaffect import __version__
from pocketaffect.app.server.api import Services, build_api
from pocketaffect.app.server.assets import Asset, load_assets
from pocketaffect.app.server.security import Guard
from pocketaffect.app.study.store import UnknownRunError
from pocketaffect.errors import PocketAffectError

LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
RATE: Final = 20.0
BURST: Final = 60
"""Requests to /api: a page asks for songs every few seconds, a participant for one row in a minute."""
MAX_PROBLEMS: Final = 10


def create_app(
    services: Services, runtime: Path, *, hosts: Collection[str] = LOCAL_HOSTS, rate: float = RATE, burst: int = BURST
) -> FastAPI:
    """The application.

    Args:
        services: What the API works with.
        runtime: From `require_runtime`.
        hosts: Names under which it may be asked.
        rate: Requests to /api that one client may make in a second, in the mean.
        burst: Requests at once.
    """
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
        encoding = next((each for each in asset.encoded if each in accepted), None)
        if encoding is None:
            return Response(asset.content, media_type=asset.media_type, headers=headers)
        return Response(
            asset.encoded[encoding], media_type=asset.media_type, headers=headers | {"content-encoding": encoding}
        )
