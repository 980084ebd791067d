"""Moves the alias `champion`: through the policy, against it with a reason, or back; each move is logged first.

The log decides and the alias follows. A process that is killed between the two leaves a log that is ahead, and the
next command completes the move.
"""

import socket
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, hash_json, write_json
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.registry.promotion.log import (
    FORM,
    VERDICT_TAG,
    Kind,
    Log,
    LogEntry,
    append_entry,
    look,
    mark_applied,
    overtaken_error,
    read_log,
)
from pocketaffect.registry.promotion.policy import (
    CheckResult,
    apply_policy,
    describe_policy,
    failed_checks,
    gather_evidence,
)
from pocketaffect.registry.store.runs import login_name
from pocketaffect.registry.store.store import Store
from pocketaffect.registry.store.versions import CANDIDATE, CHAMPION, RegisteredVersion, check_forms, get_version

VERDICTS: Final = "promotion"
"""Folder of a version's verdicts among its run's artifacts."""

TIME_TAG: Final = "promotion.time"
FAILED_TAG: Final = "promotion.failed"

Outcome = Literal["promoted", "overridden", "refused", "would be promoted", "would be refused", "champion already"]


@dataclass(frozen=True)
class Decision:
    """What came of a promotion: which version was to replace which, by which checks, and the log's entry if it did."""

    outcome: Outcome
    version: RegisteredVersion
    before: RegisteredVersion | None
    checks: tuple[CheckResult, ...]
    remark: str = ""
    entry: LogEntry | None = None


def promote(
    store: Store,
    params: Params,
    wanted: str | int = CANDIDATE,
    *,
    root: Path = Path(),
    dry_run: bool = False,
    override: str | None = None,
) -> Decision:
    """Makes a version, by alias or number, champion if every check of `promotion` in params.yaml holds.

    `root` is the repository, for the validation faces where a version must be executed on them. A dry run only judges;
    to `override` is to promote against failed checks, for this reason.

    Raises:
        PocketAffectError: No such version, its files are not what was registered, an empty reason, or another
            promotion came first.
    """
    if override is not None and not override.strip():
        raise PocketAffectError("--override: no reason given", todo='--override "why the policy does not hold here"')
    model_name = params.register_.model_name
    version = get_version(store, model_name, wanted)
    log, champion, remark = look(store, model_name) if dry_run else settle(store, model_name)
    check_forms(store, version)
    if champion is not None and champion.version == version.version:
        return Decision("champion already", version, champion, (), remark)
    evidence = gather_evidence(store, version, champion, root, params)
    checks = apply_policy(params.promotion.checks, evidence)
    policy = describe_policy(root, params.promotion)
    remark = "; ".join(
        filter(None, (remark, _warn_of_policy(policy, checks), _warn_of_candidate(version, wanted, root)))
    )
    failed = failed_checks(checks)
    if dry_run:
        return Decision("would be refused" if failed else "would be promoted", version, champion, checks, remark)
    made = [check.name for check in checks if check.passed is not None]
    outcome: Outcome = "promoted" if not failed else "refused" if override is None else "overridden"
    why = (override or "").strip() or f"held: {', '.join(made) or 'no check was made'}"
    draft = _draft("override" if failed else "promotion", version, champion, log, why, remark)
    verdict = {
        "outcome": outcome,
        "version": version.version,
        "package_sha256": version.digest,
        "champion": None if champion is None else {"version": champion.version, "package_sha256": champion.digest},
        "when": draft.when,
        "who": draft.who,
        "override": override,
        "checks": [asdict(check) for check in checks],
        "policy": params.promotion.model_dump(),
        "policy_from": policy,
    }
    names, kept = tuple(check.name for check in failed), _write_verdict(store, version, verdict)
    if outcome == "refused":
        _tag_verdict(store, model_name, version.version, outcome, draft.when, names)
        return Decision(outcome, version, champion, checks, remark)
    entry = replace(draft, failed=names, verdict_sha256=kept, checks=tuple(made), policy=policy)
    entry = _move(store, version, entry)
    return Decision(outcome, get_version(store, model_name, version.version), champion, checks, remark, entry)


def roll_back(store: Store, model_name: str, to: str | int | None = None, *, why: str = "") -> Decision:
    """Makes an earlier champion champion again; by default the one before the present.

    Raises:
        PocketAffectError: There is no earlier one, `to` never was champion, its package is not what was registered,
            or another promotion came first.
    """
    log, champion, remark = settle(store, model_name)
    target = log.earlier_champion() if to is None else get_version(store, model_name, to).version
    if target is None:
        raise PocketAffectError(
            f"model {model_name!r} has no champion to go back to",
            found=f"champions so far: {_listed(log)}",
            todo="pocketaffect promote",
        )
    if target not in {entry.after for entry in log.entries}:
        raise PocketAffectError(
            f"version {target} of {model_name!r} never was champion",
            allowed=f"one of {_listed(log)}",
            todo=f"pocketaffect promote {target}",
        )
    version = get_version(store, model_name, target)
    check_forms(store, version)
    if champion is not None and champion.version == target:
        return Decision("champion already", version, champion, (), remark)
    draft = _draft("rollback", version, champion, log, why.strip() or "rolled back", remark)
    entry = _move(store, version, draft)
    return Decision("promoted", get_version(store, model_name, target), champion, (), remark, entry)


def settle(store: Store, model_name: str) -> tuple[Log, RegisteredVersion | None, str]:
    """Does as `look`, after completing the move of a process that was killed."""
    with store.locked():
        log, champion, remark = look(store, model_name)
        if log.entries and not log.entries[-1].applied:
            _apply(store, model_name, log.entries[-1])
            log = read_log(store, model_name)
    return log, champion, remark


def _draft(
    kind: Kind, version: RegisteredVersion, champion: RegisteredVersion | None, log: Log, why: str, remark: str
) -> LogEntry:
    return LogEntry(
        kind=kind,
        who=f"{login_name()}@{socket.gethostname()}",
        when=datetime.now(UTC).isoformat(timespec="microseconds"),
        why=why,
        before=None if champion is None else champion.version,
        after=version.version,
        digest=version.digest,
        remark=remark,
        previous=log.head,
        form=FORM,
    )


def _move(store: Store, version: RegisteredVersion, entry: LogEntry) -> LogEntry:
    """Logs the move and makes it, unless the champion is another one than was compared with."""
    with store.locked():
        latest, now, _ = look(store, version.model_name)
        if latest.head != entry.previous:
            raise overtaken_error(latest)
        if (None if now is None else now.version) != entry.before:
            raise PocketAffectError("the champion was moved by other means meanwhile", todo="repeat the command")
        entry = append_entry(store, entry, version)
        _apply(store, version.model_name, entry)
    return entry


def _warn_of_policy(policy: str, checks: Sequence[CheckResult]) -> str:
    few = "" if checks else "the policy makes no check"
    return "; ".join(filter(None, (few, f"the policy is {policy}" if "not committed" in policy else "")))


def _warn_of_candidate(version: RegisteredVersion, wanted: str | int, root: Path) -> str:
    """Says where the newest registration is not what lies in out/, as after going back to an earlier commit."""
    package = root / paths.PACKAGE
    if wanted != CANDIDATE or not package.is_dir() or (digest := package_digest(package)) == version.digest:
        return ""
    return (
        f"{CANDIDATE} is version {version.version}, and {package} is another package (sha256 {digest[:12]}): "
        "`pocketaffect register` makes that one the candidate"
    )


def _apply(store: Store, model_name: str, entry: LogEntry) -> None:
    store.client().set_registered_model_alias(model_name, CHAMPION, str(entry.after))
    if entry.kind != "rollback":
        outcome: Outcome = "promoted" if entry.kind == "promotion" else "overridden"
        _tag_verdict(store, model_name, entry.after, outcome, entry.when, entry.failed)
    mark_applied(store, model_name, entry)


def _write_verdict(store: Store, version: RegisteredVersion, verdict: dict[str, Any]) -> str:
    """Keeps the verdict with the version's run; returns its SHA-256."""
    with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
        content = hash_json(verdict)
        file = Path(folder) / f"{verdict['when'].replace(':', '')}-{content[:8]}.json"
        write_json(file, verdict)
        store.client().log_artifact(version.run_id, str(file), VERDICTS)
        return hash_file(file)


def _tag_verdict(
    store: Store, model_name: str, version: int, outcome: Outcome, when: str, failed: Sequence[str]
) -> None:
    client = store.client()
    for key, value in ((FAILED_TAG, ", ".join(failed) or "none"), (TIME_TAG, when), (VERDICT_TAG, outcome)):
        client.set_model_version_tag(model_name, str(version), key, value)


def _listed(log: Log) -> str:
    return ", ".join(map(str, sorted({entry.after for entry in log.entries}))) or "none"
