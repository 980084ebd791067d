"""`pocketaffect models`, `train`, `compare`, `score`, `inspect` and `kit`: networks, their worth, their use."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pocketaffect import paths

if TYPE_CHECKING:
    from pocketaffect.compare import Form


@click.command()
@click.option("--pixels", type=int, default=96, show_default=True, help="Pixels a side of the input.")
@click.option("--full-resolution-stem", is_flag=True, help="As model.full_resolution_stem in params.yaml.")
def models(pixels: int, full_resolution_stem: bool) -> None:
    """List the networks that model.architecture may name: what they cost at a few widths, licence, source.

    The bytes are those of the .mlpackage, predicted before any training.
    """
    import torch

    from pocketaffect.export.size import list_models, render_models
    from pocketaffect.precisions import PRECISIONS

    torch.set_num_threads(1)  # tensors this small only make threads wait
    click.echo(render_models(list_models(pixels, full_resolution_stem=full_resolution_stem)))
    click.echo("\nexport.precision: auto, or")
    for precision in PRECISIONS.values():
        click.echo(f"{precision.name}: {precision.description}; {precision.system}")


@click.command()
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(package: Path, as_json: bool) -> None:
    """Show a .mlpackage's bytes by layer, operations, metadata and the system it needs."""
    from pocketaffect.mlpackage.inspect import inspect_package

    inspection = inspect_package(package)
    click.echo(json.dumps(inspection.to_dict(), indent=2) if as_json else inspection.to_text())


@click.command()
@click.option(
    "--preset",
    type=click.Choice(["paper"]),
    required=True,
    help="paper: Hewitt & Gunes 2018's, two networks, one for each task.",
)
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER")
@click.option("--architecture", default="vgg", show_default=True, help="alexnet, vgg, mobilenet or any other.")
@click.option("--width", type=float, default=1.0, show_default=True, help="1.0 is the paper's.")
@click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), default=7, show_default=True)
@click.option("--batch", type=click.IntRange(min=2), help="Images a step.  [default: the paper's 400 or 250]")
def train(preset: str, target: Path, architecture: str, width: float, seed: int, batch: int | None) -> None:
    """Train networks by a named recipe on the shards of `dvc repro preprocess`, into FOLDER.

    The recipe of params.yaml is what `dvc repro train` trains by; its threads, instructions, accelerator and precision
    hold here too, in one process. A killed call goes on where it was when it is repeated.
    """
    from pocketaffect.arithmetic import pin_arithmetic
    from pocketaffect.config import load_params

    params = load_params().train
    pin_arithmetic(threads=params.threads, instructions=params.instructions)
    from pocketaffect.training.presets import OWN_MACHINE, train_paper_pair

    assert preset == "paper"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folders = train_paper_pair(
        paths.SHARDS,
        architecture,
        width,
        seed,
        target / ".work",
        target,
        batch_size=batch,
        machine={name: getattr(params, name) for name in OWN_MACHINE},
        progress=sys.stderr.isatty(),
    )
    click.echo("\n".join(str(folder) for folder in folders))


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


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("dest", type=click.Path(path_type=Path))
def kit(model: str, dest: Path) -> None:
    """Write DEST/PocketAffectKit: a Swift package for iOS and macOS that reads faces with MODEL.

    MODEL is a verified export (out/export), a registered version (3, champion, NAME/3, NAME@ALIAS), or shipped: the
    network that comes with pocketaffect. A kit that was changed since it was written is never overwritten.
    """
    from pocketaffect.kit.kit import write_kit

    written = write_kit(model, dest)
    for line in written.notes():
        click.echo(line, err=True)
    click.echo(f"{written.folder}: the model {written.model_bytes:,} bytes, all else {written.other_bytes:,}")
    click.echo(f"package sha256 {written.sha256}{f', version {written.version}' if written.version else ''}")
