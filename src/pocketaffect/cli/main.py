"""`pocketaffect …`: what a person does beside `dvc repro`, a file for each group of commands.

Commands hold no logic and import what is heavy inside their functions: `--help` answers in under half a second.
"""

import io
import sys
from pathlib import Path
from typing import Any

import click

from pocketaffect import __version__
from pocketaffect.checkout import USE_OWN, find_foreign_sources
from pocketaffect.cli import app, data, models, predict, registry, sweep
from pocketaffect.errors import PocketAffectError


class Commands(click.Group):
    """Prints a `PocketAffectError` as it is, says when nothing more can be written, and exits with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the chosen command."""
        from pocketaffect.telemetry import disable_telemetry

        disable_telemetry()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show must not end a command
        if foreign := find_foreign_sources(Path()):
            click.echo(f"warning: {foreign}\n  do:      {USE_OWN}", err=True)
        try:
            return super().invoke(ctx)
        except Exception as error:
            from pocketaffect.files import explain_failed_write

            told = error if isinstance(error, PocketAffectError) else explain_failed_write(error, Path())
            if told is None:
                raise
            click.echo(f"error: {told}", err=True)
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


@main.command()
def summary() -> None:
    """Show what the last `dvc repro` made: metrics beside floors, bytes, verification, version."""
    from pocketaffect.summary import summarise

    click.echo(summarise(Path()))


for command in (
    *(data.data, predict.predict, sweep.sweep),
    *(models.models, models.train, models.compare, models.score, models.inspect, models.kit),
    *(registry.register, registry.promote, registry.rollback, registry.registry, registry.lineage, registry.audit),
    *(app.serve, app.web, app.music, app.study),
):
    main.add_command(command)
