"""One audit from beginning to end: checks out, restores, runs again, compares, judges."""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pocketaffect import paths
from pocketaffect.audit.compare import Again, Machine, compare_metrics, compare_stages, describe_first, judge
from pocketaffect.audit.outcome import Audit, NotAuditableError, Verdict
from pocketaffect.audit.quick import examine
from pocketaffect.audit.record import Cache, Record, find_data, read_record, read_stages
from pocketaffect.audit.scratch import Scratch, check_out, name_sample, restore_data, verify_environment
from pocketaffect.checkout import LOCK, ask_git
from pocketaffect.config import PARAMS_FILE, AuditParams
from pocketaffect.data.source import read_source
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.lineage.lineage import NONE, collect_lineage
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import RegisteredVersion, package_path

log = logging.getLogger(__name__)

_MACHINE: Final = "machine."
_MACHINE_TITLES: Final = {
    "machine.platform": "other platform",
    "machine.cpu": "other instruction set",
    "machine.processor": "other processor",
}
_HARMLESS: Final = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile"),
    *(".gitignore", ".gitattributes", ".pre-commit-config.yaml"),
)
_HARMLESS_FOLDERS: Final = ("benchmarks/", "docs/", "tests/", ".ci/", ".github/")


@dataclass
class Case:
    """One version under audit, and what its report will say in any case.

    The user's repository at `root` is only read; `place` is the scratch folder, empty or new.
    """

    root: Path
    store: Store
    version: RegisteredVersion
    place: Path
    kind: Literal["full", "quick"] = "full"
    commit: str = ""
    machine: Machine = ()
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def close(self, verdict: Verdict, reason: str, todo: str = "", **parts: Any) -> Audit:
        """Makes the audit's outcome."""
        return Audit(
            kind=self.kind,
            model_name=self.version.model_name,
            version=self.version.version,
            digest=self.version.digest,
            commit=self.commit,
            verdict=verdict,
            reason=reason,
            todo=todo,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.started, 1),
            machine=self.machine,
            notes=tuple(self.notes),
            **parts,
        )


def audit_version(case: Case, tolerances: AuditParams, *, at: str | None = None, build: bool = False) -> Audit:
    """Makes the version again and compares stage by stage; or, quickly, looks at hashes, lineage and answers alone.

    With `at` another commit runs, with its settings and data: does it still make this version? With `build` an
    environment is made from the commit's lock instead of verifying this one.

    Raises:
        PocketAffectError: The store's package is not what was registered, or `at` is no commit.
    """
    try:
        return _audit_quickly(case) if case.kind == "quick" else _audit_fully(case, tolerances, at, build)
    except NotAuditableError as error:
        return case.close(Verdict.IMPOSSIBLE, error.missing, error.todo)


def _audit_fully(case: Case, tolerances: AuditParams, at: str | None, build: bool) -> Audit:
    package_path(case.store, case.version)  # a damaged package is refused, whatever could be made again
    record = _read_record(case)
    scratch = _check_out(case, record, at)
    if build:
        log.info("building the environment of %s", LOCK)
        scratch = scratch.with_built_environment()
    else:
        compared = verify_environment(scratch.root / LOCK)
        case.notes.append(f"{compared} packages installed here are those of {LOCK}")
    case.machine = _compare_machine(case.version, scratch)
    _bring_data(scratch, record, at)
    names = _stages_to_run(scratch, record)
    rerun = scratch.run_again([name for name in names if name != "sample"])
    again = Again(read_stages(scratch.root / paths.LOCK_FILE), scratch.cache, rerun.seconds)
    stages, metrics = compare_stages(record, again, names), compare_metrics(record, scratch.root)
    if rerun.failed:
        finished = [stage for stage in stages if stage.stage in again.stages or stage.stage == "data"]
        early = next((stage for stage in finished if not stage.identical and stage.files), None)
        why = f"stage {rerun.failed} fails: {rerun.said.splitlines()[-1] if rerun.said else 'without a word'}"
        if early is not None:
            return case.close(Verdict.DIFFERS, f"{describe_first(early)}; then {why}", stages=stages)
        return case.close(Verdict.IMPOSSIBLE, why, f"look at its last words:\n{rerun.said}", stages=stages)
    verdict, reason = judge(stages, metrics, case.machine, tolerances)
    if verdict is Verdict.IDENTICAL:
        digest = package_digest(scratch.root / paths.PACKAGE)
        if digest != case.version.digest:
            verdict = Verdict.DIFFERS
            reason = (
                "the registered package is not the one that the version's dvc.lock names: "
                f"SHA-256 {case.version.digest} registered, {digest} made"
            )
        elif changed := [text for stage in stages for text in stage.inputs]:
            case.notes.append(f"recorded differently, to no effect: {'; '.join(changed)}")
    return case.close(verdict, reason, stages=stages, metrics=metrics)


def _audit_quickly(case: Case) -> Audit:
    record = _read_record(case)
    checks = examine(record, _check_out(case, record, None))
    failed = [check for check in checks if not check.passed]
    if failed:
        return case.close(Verdict.DIFFERS, f"{failed[0].name}: {failed[0].detail}", checks=checks)
    reason = f"{len(checks)} checks of hashes, lineage and behaviour hold; nothing was trained"
    return case.close(Verdict.IDENTICAL, reason, checks=checks)


def _compare_machine(version: RegisteredVersion, scratch: Scratch) -> Machine:
    """Compares every fact about the machine that the version recorded with the one here: title, recorded, here."""
    here = collect_lineage(scratch.root).to_tags()
    return tuple(
        (_MACHINE_TITLES.get(name, f"other {name.removeprefix(_MACHINE)}"), version.tags[name], here[name])
        for name in sorted(here)
        if name.startswith(_MACHINE) and name in version.tags
    )


def _read_record(case: Case) -> Record:
    case.commit = case.version.tags.get("git.commit", "")
    return read_record(case.store, case.version, Cache.of_repository(case.root), case.place / "record")


def _check_out(case: Case, record: Record, at: str | None) -> Scratch:
    if at is not None:
        commit = ask_git(case.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{at}^{{commit}}")
        if commit is None:
            raise PocketAffectError(f"{at}: no such commit here", todo="git log --oneline names them")
        case.commit = commit
        case.notes.append(f"run at {at} instead of the version's commit, with the settings and data named there")
        return check_out(case.root, commit, case.place)
    _refuse_dirty(case, record)
    if not case.commit or " " in case.commit:
        raise NotAuditableError(f"the version names no commit ({case.commit or 'none'})", "register it from a commit")
    log.info("checking out %s", case.commit[:12])
    scratch = check_out(case.root, case.commit, case.place)
    scratch.take_line_ends({path: md5 for stage in record.stages.values() for path, md5 in stage.dependencies.items()})
    (scratch.root / PARAMS_FILE).write_bytes((record.files / PARAMS_FILE).read_bytes())
    return scratch


def _refuse_dirty(case: Case, record: Record) -> None:
    """Refuses a version whose sources are not those of its commit, unless the run kept what was changed."""
    changed = [path for path in case.version.tags.get("git.dirty_paths", "").split(", ") if path]
    if case.version.tags.get("git.dirty") != "true":
        return
    read = {path for stage in record.stages.values() for path in stage.dependencies}
    harmless = {path for path in changed if path in _HARMLESS or path.startswith(_HARMLESS_FOLDERS)} - read
    decisive = [path for path in changed if path not in {str(PARAMS_FILE), str(paths.DATA_FILE), *harmless}]
    if decisive or not changed or changed[-1].endswith("…"):  # the tag's length ended the list
        listed = ", ".join(decisive[:3]) + (f" and {len(decisive) - 3} more" if len(decisive) > 3 else "")
        raise NotAuditableError(
            f"it was made with uncommitted changes, which are gone: {listed or 'not named'}",
            "commit before dvc repro; this version cannot be made again",
        )
    case.notes.append(f"uncommitted when it was made, restored or without effect: {', '.join(changed)}")


def _bring_data(scratch: Scratch, record: Record, at: str | None) -> None:
    """Brings the version's data; with `at` what data.dvc of that commit names. The sample is drawn, by its stage."""
    if at is None:
        origin, md5 = record.version.tags.get("data.source", NONE), find_data(record.stages)
    else:
        outputs = read_yaml(scratch.root / paths.DATA_FILE).get("outs") or [{}]
        origin, md5 = read_source(scratch.root).origin or NONE, str(outputs[0].get("md5", ""))
    if origin == str(paths.SAMPLE):
        name_sample(scratch)
    else:
        log.info("restoring data %s", md5)
        restore_data(scratch, md5, record.cache)


def _stages_to_run(scratch: Scratch, record: Record) -> list[str]:
    """Lists the recorded stages in the order of dvc.yaml; drawing the sample is one only where it is the data."""
    defined = read_yaml(scratch.root / "dvc.yaml").get("stages") or {}
    names = [name for name in defined if name in record.stages]
    if not read_source(scratch.root).is_sample:
        names = [name for name in names if str(paths.SAMPLE) not in record.stages[name].outputs]
    if not names:
        raise NotAuditableError("none of the recorded stages is in the commit's dvc.yaml", "audit at another commit")
    return names
