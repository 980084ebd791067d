"""`pocketaffect compare`: runs, versions and folders of predictions, each against the first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pocketaffect.compare import Form


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option(
    "--of",
    "form",
    type=click.Choice(["shipped", "network"]),
    default="shipped",
    show_default=True,
    help="The shipped Core ML file's answers, or PyTorch's.",
)
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Draws of faces.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def compare(runs: tuple[str, ...], form: Form, resamples: int, as_json: bool) -> None:
    """Compare two or more models on the same validation faces, each against the first, with 95 % intervals.

    A RUN is an MLflow run's id, a registered version (3, candidate, @champion), a folder such as out, or a
    predictions.parquet. The differences are paired: the same faces, drawn the same way, for both.
    """
    from pocketaffect.compare import compare_runs
    from pocketaffect.config import load_params

    found = compare_runs(runs, form=form, model_name=load_params().register_.model_name, resamples=resamples)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_text())
