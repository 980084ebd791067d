"""Starts the server: finds model, runtime, catalogue and stores, and says all that is missing before it listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pocketaffect import paths
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import Listeners
from pocketaffect.app.music.recommend import Recommender
from pocketaffect.app.music.spotify import SpotifyRecommender
from pocketaffect.app.server.api import Services
from pocketaffect.app.server.model import find_model
from pocketaffect.app.server.runtime import require_runtime
from pocketaffect.app.server.server import LOCAL_HOSTS, create_app
from pocketaffect.app.study.store import StudyStore
from pocketaffect.errors import PocketAffectError


@dataclass(frozen=True)
class Settings:
    """What `pocketaffect serve` may be told."""

    model: str | None
    catalogue: Path | None
    spotify: bool
    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    study: Path
    listeners: Path
    retention_days: int


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serves until it is interrupted.

    Args:
        settings: What to serve, and where.
        announce: Is told what is served, once it is ready to.

    Raises:
        PocketAffectError: Something that it needs is missing, or was not verified.
    """
    import uvicorn

    runtime = require_runtime(paths.WEB)
    if (settings.certificate is None) != (settings.key is None):
        raise PocketAffectError("serve: a certificate needs its key", todo="name both --certificate and --key, or none")
    model = find_model(settings.model)
    catalogue = _load_catalogue(settings, announce)
    with closing(Listeners(settings.listeners)) as listeners, closing(StudyStore(settings.study)) as study:
        recommender = SpotifyRecommender.from_environment() if catalogue is None else Recommender(catalogue, listeners)
        services = Services(model, recommender, catalogue, listeners, study, settings.retention_days)
        app = create_app(services, runtime, hosts=(*LOCAL_HOSTS, settings.host, *settings.allowed_hosts))
        with listening(settings.host, settings.port) as listener:
            scheme = "http" if settings.certificate is None else "https"
            songs = "Spotify's songs" if catalogue is None else f"{len(catalogue):,} songs"
            announce(f"{model.name} ({model.bytes:,} bytes) and {songs}")
            announce(f"{scheme}://{_written(settings.host)}:{settings.port}   Ctrl+C stops")
            config = uvicorn.Config(
                app,
                log_level="warning",
                server_header=False,
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
                timeout_graceful_shutdown=5,
            )
            with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
                uvicorn.Server(config).run(sockets=[listener])


def _load_catalogue(settings: Settings, announce: Callable[[str], None]) -> Catalogue | None:
    if settings.spotify:
        if settings.catalogue is not None:
            raise PocketAffectError("serve: two sources of songs", todo="name --catalogue or --spotify, not both")
        return None
    catalogue = Catalogue.load(settings.catalogue)
    for problem in catalogue.problems:
        announce(f"{catalogue.source}: line {problem}: skipped")
    return catalogue


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

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


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
