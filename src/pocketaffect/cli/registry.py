"""Commands of the registry: which model is live and why, whether it can be made again, and the care of the store."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pocketaffect.registry.promotion.promote import Decision
    from pocketaffect.registry.store.store import Store


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
    from pocketaffect.registry.promotion.promote import roll_back

    _report(roll_back(*_open_store(to_write=True), version, why=why))


@click.group(invoke_without_command=True)
@click.pass_context
def registry(context: click.Context) -> None:
    """List versions, aliases, sizes, scores and the champions so far; or one of the commands below."""
    if context.invoked_subcommand is not None:
        return
    from pocketaffect.registry.promotion.log import survey

    click.echo(survey(*_open_store()))


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


@click.command()
@click.argument("version")
@click.option("--quick", is_flag=True, help="Hashes, lineage and the package's answers only; nothing is trained.")
@click.option("--at", metavar="COMMIT", help="Run this commit, its settings and data, instead of the version's own.")
@click.option("--build-environment", is_flag=True, help="Make a fresh environment from the commit's requirements.lock.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here, too."
)
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the page here, too.")
@click.option(
    "--scratch", type=click.Path(path_type=Path, file_okay=False), help="Work in this new folder, and keep it."
)
@click.option("--no-record", is_flag=True, help="Do not keep the report with the version: write nothing to the store.")
def audit(
    version: str,
    quick: bool,
    at: str | None,
    build_environment: bool,
    json_file: Path | None,
    html_file: Path | None,
    scratch: Path | None,
    no_record: bool,
) -> None:
    """Make VERSION (a number or an alias) again elsewhere, and compare stage by stage with what it recorded.

    Exit codes: 0 bit-identical, 3 equal within tolerance, 4 differs, 5 cannot be audited (1 and 2: it could not
    start).
    """
    if quick and (at or build_environment):
        raise click.UsageError("--quick runs no commit: leave out --at and --build-environment")
    from pocketaffect.audit.audit import Case, audit_version
    from pocketaffect.audit.outcome import EXIT_CODES, attach_report, write_html
    from pocketaffect.config import load_params
    from pocketaffect.files import write_json
    from pocketaffect.registry.store.store import require_store
    from pocketaffect.registry.store.versions import get_version

    logging.basicConfig(level=logging.INFO, format="audit: %(message)s", stream=sys.stderr)
    params = load_params()
    keeps = not no_record and at is None
    store = require_store(to_write=keeps)  # before hours of training, not after them
    registered = get_version(store, params.register_.model_name, version)
    with tempfile.TemporaryDirectory(prefix="pocketaffect-audit-", ignore_cleanup_errors=True) as temporary:
        place = Path(temporary) if scratch is None else _new_folder(scratch)
        case = Case(Path(), store, registered, place, "quick" if quick else "full")
        found = audit_version(case, params.audit, at=at, build=build_environment)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    if html_file is not None:
        write_html(found, html_file)
    click.echo(found.to_text())
    if keeps:
        click.echo(f"  kept with the version: {attach_report(store, registered, found)}")
    sys.exit(EXIT_CODES[found.verdict])


@registry.command()
def verify() -> None:
    """Hash every stored file of every version again; exit with 1 if one is missing or was changed."""
    from pocketaffect.audit.upkeep import verify_registry
    from pocketaffect.registry.promotion.log import read_log

    store, name = _open_store()
    damaged = 0
    for state in verify_registry(store, name):
        title = f"version {state.version.version}"
        if state.removed:
            click.echo(f"-   {title}: its files were removed by gc on {state.removed}")
        elif not state.damages:
            click.echo(f"ok  {title}: package and {state.files - 1} files have their registered hashes")
        for damage in state.damages:
            click.echo(f"x   {title}: {damage.path}: {damage.detail}")
        damaged += bool(state.damages)
    log = read_log(store, name)
    for problem in log.problems:
        click.echo(f"x   promotion log: {problem}")
    click.echo(
        f"\n{damaged} damaged version(s); promotion log of {len(log.entries)} entries: {len(log.problems)} problem(s)"
    )
    if damaged:
        click.echo("do: restore mlruns/artifacts from a backup; do not promote a damaged version")
    sys.exit(1 if damaged or log.problems else 0)


@registry.command()
@click.argument("version")
@click.option("--undo", is_flag=True, help="Take the mark away again, as long as the files are there.")
def archive(version: str, undo: bool) -> None:
    """Mark VERSION as no longer needed, so that `gc` may remove its files."""
    from pocketaffect.audit.upkeep import archive_version

    marked = archive_version(*_open_store(to_write=True), version, undo=undo)
    click.echo(f"version {marked.version} is {'no longer ' if undo else ''}archived")


@registry.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def gc(dry_run: bool) -> None:
    """Remove the files of archived versions, of failed registrations, and those that no run owns.

    Never those of a version that an alias or an entry of the promotion log points to.
    """
    from pocketaffect.audit.upkeep import collect_garbage, plan_removals

    removals = plan_removals(*_open_store()) if dry_run else collect_garbage(*_open_store(to_write=True))
    for removal in removals:
        click.echo(f"{removal.size:>14,} bytes  {removal.folder.name}  {removal.why}")
    total = sum(removal.size for removal in removals)
    click.echo(f"{total:>14,} bytes {'would be ' if dry_run else ''}removed, {len(removals)} folder(s)")


@registry.command()
@click.argument("target", type=click.Path(path_type=Path))
def backup(target: Path) -> None:
    """Copy the store to the new folder TARGET, while others may use it."""
    from pocketaffect.audit.upkeep import back_up
    from pocketaffect.registry.store.store import require_store

    click.echo(f"{back_up(require_store(), target)} written; back: pocketaffect registry restore {target}")


@registry.command()
@click.argument("source", type=click.Path(path_type=Path))
def restore(source: Path) -> None:
    """Put the backup in SOURCE in the place of a store that is gone."""
    from pocketaffect.audit.upkeep import restore as restore_backup

    restore_backup(Path(), source)
    click.echo("mlruns/ restored; next: pocketaffect registry verify")


def _open_store(*, to_write: bool = False) -> tuple[Store, str]:
    """Opens the store; with the name of the model that params.yaml registers."""
    from pocketaffect.config import load_params
    from pocketaffect.registry.store.store import require_store

    return require_store(to_write=to_write), load_params().register_.model_name


def _new_folder(folder: Path) -> Path:
    from pocketaffect.errors import PocketAffectError

    if folder.exists() and any(folder.iterdir()):
        raise PocketAffectError(f"{folder}: not empty", allowed="a new or empty folder for --scratch")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
