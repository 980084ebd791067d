"""Starts the server: finds model, runtime, catalogue and stores, and says all that is missing before it listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing, suppress
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
            announce(f"{served.name} ({served.bytes:,} bytes) and {source}")
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
