"""`pocketaffect predict`: what a trained model reads in images and films."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pocketaffect.errors import PocketAffectError


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="FILE|VERSION",
    help="A .mlpackage, .onnx or checkpoint folder; or a registered version: 3, champion, NAME/3, NAME@ALIAS.  "
    "[default: champion or last export, if it has seen photographs; else the shipped network]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, whole or not at all.  [default: stdout]",
)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--annotate", type=click.Path(path_type=Path, file_okay=False), help="Folder for annotated pictures.")
@click.option("--no-detect", is_flag=True, help="Inputs are faces that are cut out already.")
@click.option("--faces", type=click.IntRange(min=1), help="Most faces of a picture, largest first.  [default: all]")
@click.option(
    "--smallest",
    type=click.FloatRange(min=0.005, max=1),
    default=0.06,
    show_default=True,
    help="Side of the smallest faces looked for, as a share of the picture's shorter side; half takes 4 times as long.",
)
@click.option(
    "--step", type=click.IntRange(min=1), default=1, show_default=True, help="Read every n-th frame of a film."
)
@click.option(
    "--smooth",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Time constant in seconds of the smoothing over a film's frames; 0 for none.",
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Faces predicted at once.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the arithmetic.")
def predict(
    inputs: tuple[Path, ...],
    model: str | None,
    output: Path | None,
    form: str,
    annotate: Path | None,
    no_detect: bool,
    faces: int | None,
    smallest: float,
    step: int,
    smooth: float,
    batch: int,
    threads: int,
) -> None:
    """Find the faces of INPUTS (images, films, folders of them) and read expression, valence and arousal.

    Prints a row for each face, and one with `faces` 0 for each picture without any. Exit code: 0; 1 when an input
    could not be read (it is named on stderr, the others are done); 130 after Ctrl-C.
    """
    failed = 0

    def report(problem: PocketAffectError) -> None:
        nonlocal failed
        failed += 1
        click.echo(f"error: {problem}", err=True)

    try:
        from pocketaffect.predict.annotate import Annotator
        from pocketaffect.predict.pictures import find_files
        from pocketaffect.predict.reader import AffectReader
        from pocketaffect.predict.rows import COLUMNS, csv_line, to_csv, to_json, to_rows

        for folder in (annotate, None if output is None else output.parent):
            if folder is not None:
                _require_writable(folder)
        files = find_files(inputs, report)
        reader = AffectReader(
            model,
            detect=not no_detect,
            smallest_face=smallest,
            most_faces=faces,
            smoothing=smooth,
            batch=batch,
            threads=threads,
        )
        for line in reader.model.notes(chosen=model is None):
            click.echo(line, err=True)
        annotator = None if annotate is None else Annotator(annotate)
        with _open_output(output) as stream:
            if form == "csv":
                click.echo(csv_line(list(COLUMNS)), file=stream)
            for reading in reader.read_files(files, report, step=step):
                for row in to_rows(reading, reader.model.trained_on):
                    click.echo((to_csv if form == "csv" else to_json)(row), file=stream)
                if annotator is not None:
                    annotator.write(reading)
    except KeyboardInterrupt:
        click.echo("\ninterrupted", err=True)
        sys.exit(130)
    sys.exit(1 if failed else 0)


def _require_writable(folder: Path) -> None:
    """Makes the folder before an hour of work, not after it."""
    import tempfile

    from pocketaffect.errors import PocketAffectError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PocketAffectError(
            f"{folder}: cannot be written to", found=error.strerror, todo="choose another folder"
        ) from None


@contextmanager
def _open_output(target: Path | None) -> Iterator[IO[str] | None]:
    from pocketaffect.files import write_atomically

    if target is None:
        yield None
        return
    with write_atomically(target) as draft, draft.open("w", encoding="utf-8") as stream:
        yield stream
