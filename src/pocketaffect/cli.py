"""`pocketaffect …`: what a person does beside `dvc repro`. Commands hold no logic and import nothing heavy early."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from pocketaffect import __version__
from pocketaffect.errors import PocketAffectError


class Commands(click.Group):
    """Prints a `PocketAffectError` as it is and exits with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the chosen command."""
        from pocketaffect.telemetry import disable_telemetry

        disable_telemetry()
        try:
            return super().invoke(ctx)
        except PocketAffectError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pocketaffect")
def main() -> None:
    """Small facial-affect models for phones, from data to a verified Core ML file.

    The pipeline itself is `dvc repro`; these commands set it up and look at what it made. Run them in the
    repository's root.
    """


@main.command()
def doctor() -> None:
    """Check versions, store, data source, disk and telemetry; say what to do about each finding."""
    from pocketaffect.doctor import examine

    findings = examine(Path())
    for finding in findings:
        mark, colour = {"ok": ("ok", "green"), "warning": ("!", "yellow"), "problem": ("x", "red")}[finding.status]
        click.echo(f"{click.style(f'{mark:>2}', fg=colour)}  {finding.name}: {finding.detail}")
        if finding.todo:
            click.echo(f"      do: {finding.todo}")
    problems = sum(finding.status == "problem" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    click.echo(f"\n{len(findings)} checks, {problems} problem(s), {warnings} warning(s)")
    sys.exit(1 if problems else 0)


@main.group()
def data() -> None:
    """Choose the data set that the pipeline reads."""


@data.command("use")
@click.argument("path", type=click.Path(path_type=Path))
def data_use(path: Path) -> None:
    """Point the pipeline at the data set in folder PATH; `dvc repro` then imports it."""
    from pocketaffect.data.source import use_folder

    origin = use_folder(path)
    click.echo(f"data.dvc now imports {origin}\nnext: dvc repro")


@data.command("sample")
def data_sample() -> None:
    """Point the pipeline at the embedded sample of drawn faces."""
    from pocketaffect.data.source import use_sample

    use_sample()
    click.echo("data.dvc now imports the embedded sample\nnext: dvc repro")


@data.command("describe")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def data_describe(path: Path, as_json: bool) -> None:
    """Say what lies in folder PATH: layout, images by class and split, valence and arousal, what is missing."""
    from pocketaffect.data.report.describe import describe
    from pocketaffect.data.report.describe_text import render

    description = describe(path)
    click.echo(json.dumps(description.to_dict(), indent=2) if as_json else render(description))


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


@main.command()
@click.option("--pixels", type=int, default=96, show_default=True, help="Pixels a side of the input.")
@click.option("--full-resolution-stem", is_flag=True, help="As model.full_resolution_stem in params.yaml.")
def models(pixels: int, full_resolution_stem: bool) -> None:
    """List the networks that model.architecture may name: parameters and multiplications by width, licence, source."""
    from pocketaffect.models.listing import list_models, render_models

    click.echo(render_models(list_models(pixels, full_resolution_stem=full_resolution_stem)))


@main.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(package: Path, as_json: bool) -> None:
    """Show a .mlpackage's bytes by layer, operations, metadata and the system it needs."""
    from pocketaffect.coreml.inspect import inspect_package

    inspection = inspect_package(package)
    click.echo(json.dumps(inspection.to_dict(), indent=2) if as_json else inspection.to_text())


@main.command()
def summary() -> None:
    """Show what the last `dvc repro` made: metrics beside floors, bytes, verification, version."""
    from pocketaffect.summary import summarise

    click.echo(summarise(Path()))
