"""`pocketaffect study …`: the user study's numbers as a table, and the report on them."""

from __future__ import annotations

from pathlib import Path

import click

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError

STORE = click.option(
    "--store", type=click.Path(path_type=Path, dir_okay=False), default=paths.STUDY_STORE, show_default=True
)


@click.group()
def study() -> None:
    """What participants of the user study answered (`pocketaffect serve` asks them)."""


@study.command("export")
@STORE
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), default=paths.STUDY_ROWS, show_default=True
)
def study_export(store: Path, target: Path) -> None:
    """Write all rows as CSV, one for each prompt; runs past their retention are deleted first."""
    from pocketaffect.app.study.store import StudyStore

    opened = StudyStore(_existing(store))
    try:
        count = opened.export(target)
    finally:
        opened.close()
    click.echo(f"{target}: {count:,} row(s)")


@study.command("report")
@STORE
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), default=paths.STUDY_REPORT, show_default=True
)
def study_report(store: Path, target: Path) -> None:
    """Write the paper's tables 7, 8 and 9 for the collected rows, with intervals, as one HTML page."""
    from pocketaffect.app.study.report import write_study_report
    from pocketaffect.app.study.store import StudyStore

    opened = StudyStore(_existing(store))
    try:
        rows = opened.rows()
    finally:
        opened.close()
    write_study_report(rows, target)
    click.echo(f"{target}: {len(rows):,} row(s) of {len({row[0] for row in rows}):,} run(s)")


def _existing(store: Path) -> Path:
    if not store.is_file():
        raise PocketAffectError(f"{store}: no store of a study", todo="pocketaffect serve, or name it with --store")
    return store
