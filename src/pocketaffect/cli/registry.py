"""`pocketaffect register`, `promote`, `rollback`, `registry` and `lineage`: which model is live, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pocketaffect.registry.promotion.promote import Decision


@click.command()
@click.option("--allow-dirty", is_flag=True, help="Register uncommitted changes, and mark the version.")
def register(allow_dirty: bool) -> None:
    """Register what lies in out/ again: after a commit, which clears the mark of uncommitted changes."""
    from pocketaffect.config import load_params
    from pocketaffect.registry.store.publish import publish

    params = load_params()
    version = publish(Path(), params.register_.model_copy(update={"allow_dirty": allow_dirty}), params)
    done = "registered" if version.created else "was registered already"
    marks = ", ".join(version.aliases) or "no alias"
    if version.tags.get("git.dirty") == "true":
        marks += "; from uncommitted changes"
    if "dvc.experiment" in version.tags:
        marks += f"; from the DVC experiment {version.tags['dvc.experiment']}"
    click.echo(f"{version.model_name} version {version.version} {done} ({marks})")


@click.command()
@click.argument("version", default="candidate")
@click.option("--dry-run", is_flag=True, help="Print the checks and change nothing; exit code 1 if one fails.")
@click.option("--override", metavar="REASON", help="Promote although checks fail; the reason is logged.")
def promote(version: str, dry_run: bool, override: str | None) -> None:
    """Make VERSION (an alias or a number; default: candidate) champion, if every check in params.yaml holds."""
    from pocketaffect.config import load_params
    from pocketaffect.registry.promotion.policy import render_checks
    from pocketaffect.registry.promotion.promote import promote as decide
    from pocketaffect.registry.store.store import require_store

    store = require_store(to_write=not dry_run)
    decision = decide(store, load_params(), version, dry_run=dry_run, override=override)
    if decision.checks:
        click.echo(render_checks(decision.checks) + "\n")
    _report(decision)
    if decision.outcome in ("refused", "would be refused"):
        sys.exit(1)


@click.command()
@click.option("--to", "version", metavar="VERSION", help="An earlier champion; by default the one before the present.")
@click.option("--why", default="", metavar="REASON", help="What the promotion log says of it.")
def rollback(version: str | None, why: str) -> None:
    """Make an earlier champion champion again."""
    from pocketaffect.config import load_params
    from pocketaffect.registry.promotion.promote import roll_back
    from pocketaffect.registry.store.store import require_store

    _report(roll_back(require_store(to_write=True), load_params().register_.model_name, version, why=why))


@click.group(invoke_without_command=True)
@click.pass_context
def registry(context: click.Context) -> None:
    """List versions, aliases, sizes, scores and the champions so far; or one of the commands below."""
    if context.invoked_subcommand is not None:
        return
    from pocketaffect.config import load_params
    from pocketaffect.registry.promotion.overview import survey
    from pocketaffect.registry.store.store import require_store

    click.echo(survey(require_store(), load_params().register_.model_name).to_text())


@click.command()
@click.argument("asked", metavar="FILE|VERSION|RUN|DATAHASH")
def lineage(asked: str) -> None:
    """Say which data, commit, settings and run made a model file or version; or which versions came from some data.

    A .mlpackage or .onnx file says its own origin, also without the store. Exit code 1 where file and store disagree.
    """
    from pocketaffect.config import PARAMS_FILE, load_params
    from pocketaffect.registry.lineage.trace import trace
    from pocketaffect.registry.store.store import find_store

    model_name = load_params().register_.model_name if PARAMS_FILE.is_file() else "pocketaffect"
    traces = trace(find_store(), model_name, asked)
    click.echo("\n\n".join(one.to_text() for one in traces))
    if any(one.disagreements for one in traces):
        sys.exit(1)


def _report(decision: Decision) -> None:
    version, before = decision.version, decision.before
    name = f"{version.model_name} version {version.version}"
    instead = f", instead of version {before.version}" if before is not None else ""
    failed = ", ".join(check.name for check in decision.checks if check.passed is False)
    messages = {
        "promoted": f"{name} is champion now{instead}",
        "overridden": f"{name} is champion now{instead}, against {failed}",
        "refused": f"{name} is not promoted: {failed}",
        "would be promoted": f"{name} would become champion{instead}",
        "would be refused": f"{name} would not be promoted: {failed}",
        "champion already": f"{name} is champion already",
    }
    click.echo(messages[decision.outcome])
    if decision.remark:
        click.echo(f"warning: {decision.remark}", err=True)
