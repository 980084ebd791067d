"""`pocketaffect music …`: import a list of tracks, look into a catalogue, try what it suggests."""

from __future__ import annotations

from pathlib import Path

import click

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError

CATALOGUE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def music() -> None:
    """The songs that `pocketaffect serve` suggests, and where they come from."""


@music.command("import")
@click.argument("file", type=CATALOGUE)
@click.option("--to", "target", type=CATALOGUE, default=paths.IMPORTED_CATALOGUE, show_default=True)
@click.option("--scale", "scales", multiple=True, help="valence=… or energy=…: 0-1, -1-1, z or 0-100; else found.")
def music_import(file: Path, target: Path, scales: tuple[str, ...]) -> None:
    """Make a catalogue of FILE, a CSV list of tracks as Spotify's, Deezer's and others' exports give them.

    Columns and scales are recognised and said; broken rows are skipped and said; one song's rows are merged; energy
    is centred. Nothing is looked up: the list must hold valence and energy.
    """
    from pocketaffect.app.music.catalogue import write_catalogue
    from pocketaffect.app.music.describe import describe_problems
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
@click.argument("catalogue", type=CATALOGUE, required=False)
def music_describe(catalogue: Path | None) -> None:
    """Say what CATALOGUE holds, or the curated one: genres, valence and energy, skipped rows."""
    from pocketaffect.app.music.catalogue import Catalogue
    from pocketaffect.app.music.describe import describe_catalogue

    click.echo(describe_catalogue(Catalogue.load(catalogue)))


@music.command("recommend")
@click.argument("expression")
@click.option("--valence", type=float, help="-1 to 1; the expression's mean on AffectNet where not given.")
@click.option("--arousal", type=float, help="-1 to 1, likewise.")
@click.option("--catalogue", type=CATALOGUE, help="What `music import` wrote; the curated one where not given.")
@click.option("--count", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another gives other songs.")
@click.option("--spotify", is_flag=True, help="Ask Spotify's own service (keys in SPOTIFY_CLIENT_ID, …_SECRET).")
@click.option("--service", default="spotify", show_default=True, help="Whose search the links open.")
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
    from pocketaffect.app.music.links import SERVICES
    from pocketaffect.app.music.recommend import Recommender, SuggestsSongs
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
    songs: SuggestsSongs
    songs = SpotifyRecommender.from_environment() if spotify else Recommender(Catalogue.load(catalogue))
    for each in songs.recommend(affect, count=count, seed=seed):
        track = each.track
        year = f" ({track.year})" if track.year else ""
        click.echo(f"{track.artist}: {track.title}{year}\n    {each.reason}; {', '.join(track.genres)}")
        click.echo(f"    {each.links[service]}")
