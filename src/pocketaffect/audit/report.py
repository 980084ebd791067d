"""An audit as JSON, as one HTML page, as lines for the terminal; and its place with the version."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.audit.verdict import Audit, MetricDifference, Verdict
from pocketaffect.figures import page_template
from pocketaffect.files import write_atomically, write_json

if TYPE_CHECKING:
    from pocketaffect.registry.store.store import Store
    from pocketaffect.registry.store.versions import RegisteredVersion

AUDIT_TAG: Final = "audit"
"""Of the version: the verdict of its last full audit. `audit.quick` is the same of the last quick one."""

FOLDER: Final = "audit"
"""Among the run's artifacts: a folder for each audit."""

_STANDING: Final = {
    Verdict.IDENTICAL: "good",
    Verdict.TOLERATED: "doubt",
    Verdict.DIFFERS: "bad",
    Verdict.IMPOSSIBLE: "doubt",
}


def write_html(audit: Audit, target: Path) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no scripts.

    Raises:
        PocketAffectError: The disk is full or the place cannot be written to.
    """
    template = page_template("audit/audit.html.jinja", {"short": _shorten, "number": _format_number})
    page = template.render(audit=audit, standing=_STANDING[audit.verdict], first=audit.first_difference)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(target) as draft:
        draft.write_text(page, encoding="utf-8")


def attach_report(store: Store, version: RegisteredVersion, audit: Audit) -> str:
    """Keeps the audit with its version: JSON and HTML as artifacts, verdict, commit and date as tags.

    Returns:
        The folder among the run's artifacts.
    """
    place = f"{FOLDER}/{audit.date.replace(':', '-').replace('+00-00', 'Z')}-{audit.kind}"
    prefix = AUDIT_TAG if audit.kind == "full" else f"{AUDIT_TAG}.{audit.kind}"
    tags = {f"{prefix}.commit": audit.commit, f"{prefix}.date": audit.date, f"{prefix}.report": place}
    client = store.client()
    with store.locked(), tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        write_json(Path(folder) / "audit.json", audit.to_dict())
        write_html(audit, Path(folder) / "audit.html")
        client.log_artifacts(version.run_id, folder, place)
        for key, value in (*tags.items(), (prefix, audit.verdict.value)):  # the verdict last: it says all is there
            client.set_model_version_tag(version.model_name, str(version.version), key, value)
    return place


def describe(audit: Audit) -> str:
    """The audit for the terminal."""
    lines = [f"{audit.model_name} version {audit.version}: {audit.verdict.value}", f"  {audit.reason}"]
    for stage in audit.stages:
        took = f"{stage.seconds:6.0f} s" if stage.seconds is not None else " " * 8
        state = "identical" if stage.identical else f"{len(stage.files)} file(s) differ"
        lines.append(f"  {stage.stage:<12}{took}  {state}")
        lines += [f"  {'':<22}{file.path}: {file.detail}" for file in stage.files[:3]]
        lines += [f"  {'':<22}recorded otherwise: {text}" for text in stage.inputs]
    lines += [f"  {'ok' if check.passed else 'x':<3}{check.name}: {check.detail}" for check in audit.checks]
    lines += [
        f"  {metric.name}: {metric.recorded:.6g} recorded, {metric.found:.6g} now" for metric in _changed(audit)[:5]
    ]
    lines += [f"  {note}" for note in audit.notes]
    if audit.todo:
        lines.append(f"  {'do:':<9}{audit.todo}")
    return "\n".join(lines)


def _changed(audit: Audit) -> list[MetricDifference]:
    return [metric for metric in audit.metrics if metric.difference]


def _shorten(md5: str) -> str:
    return md5[:8] or "none"


def _format_number(value: float) -> str:
    return f"{value:,.6g}"
