"""`pocketaffect compare` and `score`: models against each other, and a model against anybody's labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pocketaffect import paths

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


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--split",
    type=click.Choice(["validation", "train", "all"]),
    default="validation",
    show_default=True,
    help="Rows to judge; the constant floor is always training's.",
)
@click.option(
    "--by",
    "ways",
    type=click.Choice(["given-box", "own-detector"]),
    multiple=True,
    help="How faces are found.  [default: both ways]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=paths.SCORE_REPORT,
    show_default=True,
    help="Folder to write, replaced as a whole.",
)
@click.option("--log", is_flag=True, help="Add the report to the run of the model's version.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Draws of faces.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the arithmetic.")
def score(
    model: str,
    data: Path,
    split: Literal["validation", "train", "all"],
    ways: tuple[str, ...],
    output: Path,
    log: bool,
    resamples: int,
    threads: int,
) -> None:
    """Score MODEL (a package, twin, checkpoint or version) on the labelled faces of DATA, in any layout of `data use`.

    Metrics with intervals, floors, confusion and slices per source, by the boxes that the data gives and by the
    detector of `predict`. Nothing is registered.
    """
    from pocketaffect.predict.score import WAYS, log_report, score_model

    report = score_model(
        model, data, split=split, ways=ways or WAYS, target=output, resamples=resamples, threads=threads
    )
    click.echo(report.to_text())
    if log:
        click.echo(f"added to {log_report(model, report)}")
