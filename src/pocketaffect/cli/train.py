"""`pocketaffect train`: a training beside the pipeline's, by a named recipe."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from pocketaffect import paths


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
