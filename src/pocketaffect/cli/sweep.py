"""`pocketaffect sweep`: search for the best model under a byte budget, look at the search, take its winner."""

import sys

import click


@click.group(invoke_without_command=True)
@click.option("--new", is_flag=True, help="Begin another study, whatever study there is.")
@click.pass_context
def sweep(context: click.Context, new: bool) -> None:
    """Train trials of sweep.space in params.yaml until sweep.trials have ended, or go on where it was stopped.

    No trial whose predicted bytes are over sweep.budget_bytes trains. The best trial's real package is made and
    weighed; reports/sweep/ shows all of them, and MLflow has a run for each.
    """
    if context.invoked_subcommand is not None:
        return
    from pocketaffect.arithmetic import pin_arithmetic
    from pocketaffect.config import load_params

    params = load_params()
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.sweep.run import run_sweep

    try:
        winner = run_sweep(params, new=new)
    except KeyboardInterrupt:
        click.echo("\nstopped; running trials wait for the next `pocketaffect sweep`, which goes on", err=True)
        sys.exit(130)
    click.echo(
        f"trial {winner.trial} won: score {winner.score:.4f}, {winner.bytes:,} bytes of {params.sweep.budget_bytes:,} "
        f"({winner.predicted_bytes:,} predicted)\nreports/sweep/report.html shows all; "
        f"`pocketaffect sweep adopt` takes it into params.yaml"
    )


@sweep.command()
def status() -> None:
    """Show the trials so far, also while they are at work elsewhere."""
    from rich.console import Console

    from pocketaffect.config import load_params
    from pocketaffect.sweep.run import look_at_sweep
    from pocketaffect.sweep.table import draw_table
    from pocketaffect.tables import WIDE

    params = load_params()
    seen = look_at_sweep(params)
    click.echo(seen.study.study_name)
    Console(width=None if sys.stdout.isatty() else WIDE).print(draw_table(seen.rows, params.sweep, last=None))
    for change in seen.changes:
        click.echo(f"since then: {change}", err=True)


@sweep.command()
@click.argument("trial", type=int, required=False)
@click.option("--under", type=click.IntRange(1), metavar="BYTES", help="The best whose package is at most so large.")
@click.option("--macs", type=click.IntRange(1), metavar="N", help="The best of at most so many multiply-accumulates.")
def adopt(trial: int | None, under: int | None, macs: int | None) -> None:
    """Write TRIAL's settings (default: the best one's) into params.yaml, and show what changed."""
    if trial is not None and (under or macs):
        raise click.UsageError("name a trial, or --under and --macs for the best one within them")
    from pocketaffect.config import load_params
    from pocketaffect.recipes import write_settings
    from pocketaffect.sweep.adopt import choose_trial, list_changes
    from pocketaffect.sweep.run import look_at_sweep

    seen = look_at_sweep(load_params())
    row = choose_trial(seen.rows, trial, seen.unfit, under=under, macs=macs)
    difference = write_settings(list_changes(row, seen.asked, under))
    click.echo(difference or "params.yaml says so already")
    costs = f"{row.bytes:,} bytes predicted" + (f", {row.macs:,} multiply-accumulates" if row.macs else "")
    click.echo(f"\ntrial {row.number}: score {row.score:.4f}, {costs}; `dvc repro` trains it")
    for name, given in (("bytes", under), ("macs", macs)):
        asked = seen.asked.get(f"sweep.budget_{name}")
        if given and asked and given > asked:
            click.echo(f"note: the sweep tried no network above its sweep.budget_{name}, {asked:,}", err=True)
    if row.number in seen.unfit:
        click.echo(f"warning: its package was not fit to ship: {seen.unfit[row.number]}", err=True)
    for change in seen.changes:
        click.echo(f"warning: the score may differ, since the sweep changed {change}", err=True)
