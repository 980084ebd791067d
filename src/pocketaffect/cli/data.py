"""`pocketaffect data …`: choose the data set, look into it, pack it."""

import json
from pathlib import Path

import click


@click.group()
def data() -> None:
    """Choose the data set that the pipeline reads."""


@data.command("use")
@click.argument("path", type=click.Path(path_type=Path))
def data_use(path: Path) -> None:
    """Point the pipeline at the data set in folder PATH, and write the recipe for photographs into params.yaml."""
    from pocketaffect.data.sample import MARK
    from pocketaffect.data.source import use_folder

    origin = use_folder(path)
    _report(origin, drawn=(path / MARK).exists())


@data.command("sample")
def data_sample() -> None:
    """Point the pipeline at the embedded sample of drawn faces, and take its recipe back."""
    from pocketaffect.data.source import use_sample

    use_sample()
    _report("the embedded sample", drawn=True)


def _report(origin: str, *, drawn: bool) -> None:
    from pocketaffect.recipes import write_recipe

    difference = write_recipe(drawn=drawn)
    recipe = f"\nthe recipe for {'drawn faces' if drawn else 'photographs'}; values of your own stay:\n{difference}"
    click.echo(f"data.dvc now imports {origin}{recipe if difference else ''}\nnext: dvc repro")


@data.command("describe")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def data_describe(path: Path, as_json: bool) -> None:
    """Say what lies in folder PATH: layout, images by class and split, valence and arousal, what is missing."""
    from pocketaffect.data.report.describe import describe, render
    from pocketaffect.files import to_plain

    description = describe(path)
    click.echo(json.dumps(to_plain(description), indent=2) if as_json else render(description))


@data.command("pack")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--part-mb", type=click.IntRange(min=1), default=1024, show_default=True, help="Length of a part.")
def data_pack(source: Path, target: Path, part_mb: int) -> None:
    """Pack the data set in SOURCE into TARGET: a few tars that DVC handles quickly. Goes on where it was stopped."""
    from pocketaffect.data.packing.pack import pack

    click.echo(pack(source, target, part_bytes=part_mb << 20).to_text())
    click.echo(f"next: pocketaffect data use {target}")


@data.command("profile")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--source", default="", help="What the profile says it was taken from.")
def data_profile(file: Path, source: str) -> None:
    """Keep class shares and VA means of the last validated data in FILE, for `validate.profile` in params.yaml."""
    from pocketaffect.data.contract.profile import keep_profile

    keep_profile(file, source=source)
    click.echo(f"{file} written; in params.yaml: validate.profile: {file}")
