"""What an audit found: stage by stage, and the one word that it comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Verdict(StrEnum):
    """What an audit comes to; EXIT_CODES says what the command ends with."""

    IDENTICAL = "bit-identical"
    TOLERATED = "equal within tolerance"
    DIFFERS = "differs"
    IMPOSSIBLE = "cannot be audited"


EXIT_CODES: Final = {Verdict.IDENTICAL: 0, Verdict.TOLERATED: 3, Verdict.DIFFERS: 4, Verdict.IMPOSSIBLE: 5}
"""1 and 2 stay what they are for every command: a problem to mend, a wrong command line."""


class NotAuditableError(Exception):
    """Something that the audit needs is missing; becomes `Verdict.IMPOSSIBLE`.

    Args:
        missing: What, with its name or hash.
        todo: How the user could bring it back.
    """

    def __init__(self, missing: str, todo: str) -> None:
        super().__init__(missing)
        self.missing = missing
        self.todo = todo


@dataclass(frozen=True)
class FileDifference:
    """One file that the version recorded with other bytes, or that only one side has.

    Attributes:
        path: Relative to the repository.
        detail: What differs, in words.
        largest: The largest numeric difference in it; None where there is none to take.
    """

    path: str
    detail: str
    largest: float | None = None


@dataclass(frozen=True)
class StageComparison:
    """One stage as it was recorded beside the same stage now.

    Attributes:
        stage: Its name in dvc.yaml; `data` for what the first stages read.
        outputs: Path, recorded hash, hash now ("" for none).
        inputs: Settings, sources and commands that were recorded otherwise, in words.
        files: Every file that differs, in the order of their names.
        seconds: How long it ran here; None for what was not run.
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
        """Its size, without sign."""
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

    Attributes:
        kind: `full` (the pipeline ran again) or `quick` (hashes, lineage, the package's answers).
        model_name: The registered model.
        version: Its number.
        digest: SHA-256 of the version's package.
        commit: What was checked out.
        verdict: What it comes to.
        reason: Why, in a sentence.
        todo: What the user can do about it; "" for nothing.
        date: When it ended, UTC, ISO 8601.
        machine: Name, recorded, here.
        notes: What is worth knowing and decides nothing.
        stages: Of a full audit, in the pipeline's order.
        metrics: Of a full audit: the version's metrics, the largest difference first.
        checks: Of a quick audit.
        seconds: How long it took.
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
    def exit_code(self) -> int:
        """What the command ends with."""
        return EXIT_CODES[self.verdict]

    @property
    def first_difference(self) -> StageComparison | None:
        """The first stage whose outputs differ."""
        return next((stage for stage in self.stages if not stage.identical), None)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        first = self.first_difference
        content = asdict(self)
        content["verdict"] = self.verdict.value
        content["stages"] = [asdict(stage) | {"identical": stage.identical} for stage in self.stages]
        content["metrics"] = [asdict(metric) | {"difference": metric.difference} for metric in self.metrics]
        file = first.files[0] if first and first.files else None
        content["first_difference"] = first and {"stage": first.stage, "file": file and asdict(file)}
        return content
