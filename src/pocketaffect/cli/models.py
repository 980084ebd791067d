"""`pocketaffect models` and `pocketaffect inspect`: the networks there are, and what a file holds."""

from __future__ import annotations

import json
from pathlib import Path

import click


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
