"""What an audit found: stage by stage, the one word that it comes to, its reports and its place with the version."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.figures import page_template
from pocketaffect.files import write_atomically, write_json
from pocketaffect.tables import render_table

if TYPE_CHECKING:
    from pocketaffect.registry.store.store import Store
    from pocketaffect.registry.store.versions import RegisteredVersion


class Verdict(StrEnum):
    """What an audit comes to; EXIT_CODES says what the command ends with."""

    IDENTICAL = "bit-identical"
    TOLERATED = "equal within tolerance"
    DIFFERS = "differs"
    IMPOSSIBLE = "cannot be audited"


EXIT_CODES: Final = {Verdict.IDENTICAL: 0, Verdict.TOLERATED: 3, Verdict.DIFFERS: 4, Verdict.IMPOSSIBLE: 5}
"""1 and 2 stay what they are for every command: a problem to fix, a wrong command line."""

_STANDING: Final = {Verdict.IDENTICAL: "good", Verdict.DIFFERS: "bad"}


class NotAuditableError(Exception):
    """Something that the audit needs is missing, which `missing` names.

    Becomes `Verdict.IMPOSSIBLE`; `todo` says how the user could bring it back.
    """

    def __init__(self, missing: str, todo: str) -> None:
        super().__init__(missing)
        self.missing = missing
        self.todo = todo


@dataclass(frozen=True)
class FileDifference:
    """One file that the version recorded with other bytes, or that only one side has."""

    path: str
    detail: str
    largest: float | None = None
    """The largest numeric difference in it; None where there is none to take."""


@dataclass(frozen=True)
class StageComparison:
    """One stage as it was recorded beside the same stage now.

    `stage` is its name in dvc.yaml, or `data` for what the first stages read; `outputs` are path, recorded hash and
    hash now ("" for none), `inputs` what was recorded differently, in words. What was not run has no seconds.
    """

    stage: str
    outputs: tuple[tuple[str, str, str], ...]
    inputs: tuple[str, ...] = ()
    files: tuple[FileDifference, ...] = ()
    seconds: float | None = None

    @property
    def identical(self) -> bool:
        """Whether every output has the recorded bytes."""
        return all(recorded == found for _, recorded, found in self.outputs)


@dataclass(frozen=True)
class MetricDifference:
    """One number of metrics.json, recorded and now."""

    name: str
    recorded: float
    found: float

    @property
    def difference(self) -> float:
        """Size of the difference, without sign."""
        return abs(self.found - self.recorded)


@dataclass(frozen=True)
class Check:
    """One thing that a quick audit looked at."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Audit:
    """The outcome of one audit.

    `kind` is `full` (the pipeline ran again) or `quick` (hashes, lineage, the package's answers), `digest` the SHA-256
    of the package, `date` UTC in ISO 8601. `machine` lists name, recorded, here; notes decide nothing; metrics begin
    with the largest difference.
    """

    kind: str
    model_name: str
    version: int
    digest: str
    commit: str
    verdict: Verdict
    reason: str
    date: str
    seconds: float
    todo: str = ""
    machine: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    stages: tuple[StageComparison, ...] = ()
    metrics: tuple[MetricDifference, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def first_difference(self) -> StageComparison | None:
        """The first stage whose outputs differ."""
        return next((stage for stage in self.stages if not stage.identical), None)

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        first = self.first_difference
        content = asdict(self)
        content["verdict"] = self.verdict.value
        content["stages"] = [asdict(stage) | {"identical": stage.identical} for stage in self.stages]
        content["metrics"] = [asdict(metric) | {"difference": metric.difference} for metric in self.metrics]
        file = first.files[0] if first and first.files else None
        content["first_difference"] = first and {"stage": first.stage, "file": file and asdict(file)}
        return content

    def to_text(self) -> str:
        """Writes it for the terminal."""
        lines = [f"{self.model_name} version {self.version}: {self.verdict.value}", f"  {self.reason}"]
        rows = []
        for stage in self.stages:
            took = f"{stage.seconds:.0f} s" if stage.seconds is not None else ""
            state = "identical" if stage.identical else f"{len(stage.files)} file(s) differ"
            rows.append((f"  {stage.stage}", took, state))
            rows += [("", "", f"{file.path}: {file.detail}") for file in stage.files[:3]]
            rows += [("", "", f"recorded differently: {text}") for text in stage.inputs]
        checks = [("  ok" if check.passed else "  x", f"{check.name}: {check.detail}") for check in self.checks]
        lines += [render_table(table, align) for table, align in ((rows, "lrl"), (checks, "l")) if table]
        changed = [metric for metric in self.metrics if metric.difference][:5]
        lines += [f"  {metric.name}: {metric.recorded:.6g} recorded, {metric.found:.6g} now" for metric in changed]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"  do: {self.todo}"] if self.todo else lines)


def write_html(audit: Audit, target: Path) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no scripts.

    Raises:
        PocketAffectError: The disk is full or the place cannot be written to.
    """
    filters = {"short": lambda md5: md5[:8] or "none", "number": lambda value: f"{value:,.6g}"}
    template, standing = page_template("audit/audit.html.jinja", filters), _STANDING.get(audit.verdict, "doubt")
    with write_atomically(target) as draft:
        page = template.render(audit=audit, standing=standing, first=audit.first_difference)
        draft.write_text(page, encoding="utf-8")


def attach_report(store: Store, version: RegisteredVersion, audit: Audit) -> str:
    """Keeps the audit with its version: JSON and HTML in a folder of artifacts, which it names; the rest as tags.

    The tags are `audit` for the verdict of the last full audit, which promotion reads, and `audit.quick` for that of
    the last quick one. An audit that could not be made is no verdict: it leaves them, and is noted beside them.
    """
    place = f"audit/{audit.date.replace(':', '-').replace('+00-00', 'Z')}-{audit.kind}"
    prefix = "audit" if audit.kind == "full" else f"audit.{audit.kind}"
    tags = {"commit": audit.commit, "date": audit.date, "report": place}
    if audit.verdict is Verdict.IMPOSSIBLE:
        tags = {"attempt": f"{audit.date}: {audit.verdict.value}: {audit.reason}"[:2000]}
    client = store.client()
    with store.locked(), tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        write_json(Path(folder) / "audit.json", audit.to_dict())
        write_html(audit, Path(folder) / "audit.html")
        client.log_artifacts(version.run_id, folder, place)
        named = {f"{prefix}.{key}": value for key, value in tags.items()}
        if audit.verdict is not Verdict.IMPOSSIBLE:
            named[prefix] = audit.verdict.value  # the verdict last: it says that all is there
        for key, value in named.items():
            client.set_model_version_tag(version.model_name, str(version.version), key, value)
    return place
