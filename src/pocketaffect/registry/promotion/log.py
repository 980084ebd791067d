"""The promotion log (who made which version champion, when, why, instead of which), and the registry on one screen.

Its entries are the versions of a second registered model, `<model>.promotions`, since that is the one thing that
MLflow appends atomically on every kind of store: a version's number and its tags appear in one transaction, numbers
only grow, and two writers never get the same one. So the log lies in the database beside what it tells of, travels
with every backup, and a process that is killed leaves an entry whole or not at all.

Each entry names the hash of the one before it. A changed or removed entry breaks the chain, which `read_log` says;
of two entries that name the same predecessor the first holds, and the second's writer is told that it was overtaken.
An entry's form says which fields it was hashed with, so that logs of earlier versions still verify.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG
from pocketaffect.registry.store import versions
from pocketaffect.registry.store.store import Store, advise_register
from pocketaffect.tables import render_table

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SUFFIX: Final = ".promotions"
ENTRY_TAG: Final = "promotion.entry"
HASH_TAG: Final = "promotion.sha256"
APPLIED_TAG: Final = "promotion.applied"
"""Set once the alias was moved; an entry without it is one whose process was killed before."""

FORM: Final = 2
"""The form of new entries; the first had no `form`, `checks` and `policy`."""

VERDICT_TAG: Final = "promotion.verdict"
AUDITS_THAT_PASS: Final = ("bit-identical", "equal within tolerance")

SCORES: Final = {
    "package_bytes": "bytes",
    "balanced_accuracy": "bal. acc.",
    "ccc_valence": "CCC V",
    "ccc_arousal": "CCC A",
}
"""Metrics of the list; of the shipped file where it was measured, else of the network."""
_ALIGN: Final = "ll" + "r" * len(SCORES) + "l"

MARKS: Final = {versions.ARCHIVED_TAG: "archived", versions.REMOVED_TAG: "files removed"}

Kind = Literal["promotion", "override", "rollback"]


@dataclass(frozen=True)
class LogEntry:
    """One move of the alias `champion`: by the policy, against it, or back.

    Attributes:
        who: login@host.
        when: UTC, to the microsecond.
        why: The reason in the mover's words, or the policy's verdict.
        before: The champion until then; None for the first.
        digest: Digest of the package of `after`.
        failed: Checks that were overridden.
        verdict_sha256: Digest of the verdict's file among the artifacts of `after`; empty for a rollback.
        remark: Other findings, such as an alias that somebody had moved by hand.
        policy: The commit that holds the policy, and whether params.yaml says otherwise.
        previous: Hash of the entry before; empty for the first.
        form: Number of the form, which says which fields are hashed.
        number: Place in the log, given by the store; no part of the hash, as whether the alias followed.
    """

    kind: Kind
    who: str
    when: str
    why: str
    before: int | None
    after: int
    digest: str
    failed: tuple[str, ...] = ()
    verdict_sha256: str = ""
    remark: str = ""
    previous: str = ""
    checks: tuple[str, ...] = ()
    policy: str = ""
    form: int = 1
    number: int = 0
    applied: bool = False

    def to_json(self) -> str:
        """Gives what is hashed and stored."""
        aside = {"number", "applied"} | (set() if self.form > 1 else {"form", "checks", "policy"})
        content = {name: value for name, value in asdict(self).items() if name not in aside}
        return json.dumps(content, sort_keys=True, ensure_ascii=False)

    @property
    def sha256(self) -> str:
        """Computes the hash that the next entry names."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class Log:
    """The entries that hold, oldest first."""

    entries: tuple[LogEntry, ...] = ()
    overtaken: tuple[LogEntry, ...] = ()
    """Entries that came second: their promotion did not take place."""
    problems: tuple[str, ...] = field(default=())
    """Signs that somebody changed the log."""

    @property
    def head(self) -> str:
        """Gives the hash of the last entry; empty without any."""
        return self.entries[-1].sha256 if self.entries else ""

    @property
    def champion(self) -> int | None:
        """Gives the version that the log says is live."""
        return self.entries[-1].after if self.entries else None

    def earlier_champion(self) -> int | None:
        """Finds the version to roll back to: the champion before the present one, whatever was rolled back since."""
        champions: list[int] = []
        for entry in self.entries:
            if entry.kind == "rollback" and entry.after in champions:
                while champions[-1] != entry.after:
                    champions.pop()
            elif not champions or champions[-1] != entry.after:
                champions.append(entry.after)
        return champions[-2] if len(champions) > 1 else None

    def versions(self) -> frozenset[int]:
        """Lists every version that an entry points to."""
        named = {entry.after for entry in self.entries} | {entry.before for entry in self.entries}
        return frozenset(number for number in named if number is not None)


def read_log(store: Store, model_name: str) -> Log:
    """Reads the log of a model and follows its chain."""
    entries: list[LogEntry] = []
    overtaken: list[LogEntry] = []
    problems: list[str] = []
    seen = {""}
    head = ""
    for entry, stored_hash in _stored_entries(store, model_name, problems):
        if entry.sha256 != stored_hash:
            problems.append(f"entry {entry.number} was changed after it was written")
        if entry.previous == head:
            entries.append(entry)
        elif entry.previous in seen:
            overtaken.append(entry)
            continue
        else:
            problems.append(f"an entry before {entry.number} is missing")
            entries.append(entry)
        head = stored_hash
        seen.add(head)
    return Log(tuple(entries), tuple(overtaken), tuple(problems))


def append_entry(store: Store, entry: LogEntry, version: versions.RegisteredVersion) -> LogEntry:
    """Adds an entry, which must name the log's head and make `version` champion, and gives it with its number.

    The caller has locked the store: that keeps this machine's processes apart, the chain other machines'.

    Raises:
        PocketAffectError: Another entry with the same predecessor came first.
    """
    client = store.client()
    log_name = version.model_name + SUFFIX
    versions.ensure_model(
        client,
        log_name,
        description=f"The promotion log of {version.model_name}: a version is an entry. Written by `pocketaffect "
        "promote` and `rollback`; a changed or deleted entry breaks its chain of hashes.",
    )
    made = client.create_model_version(
        log_name,
        version.source,
        version.run_id,
        tags={ENTRY_TAG: entry.to_json(), HASH_TAG: entry.sha256},
        description=f"{entry.kind}: {entry.before or 'none'} to {entry.after} by {entry.who}: {entry.why}"[:1000],
    )
    log = read_log(store, version.model_name)
    mine = next((one for one in log.entries if one.number == int(made.version)), None)
    if mine is None:
        raise overtaken_error(log)
    return mine


def mark_applied(store: Store, model_name: str, entry: LogEntry) -> None:
    """Records that the alias stands where the entry says."""
    store.client().set_model_version_tag(model_name + SUFFIX, str(entry.number), APPLIED_TAG, "true")


def overtaken_error(log: Log) -> PocketAffectError:
    """Makes the error for the one of two promotions at the same time that came second."""
    last = log.entries[-1]
    return PocketAffectError(
        "another promotion came first; this one did not take place",
        found=f"version {last.after} became champion at {last.when} by {last.who}",
        todo="repeat the command: it compares with the new champion",
    )


def _stored_entries(store: Store, model_name: str, problems: list[str]) -> Iterator[tuple[LogEntry, str]]:
    known = {field.name for field in fields(LogEntry)}
    found = versions.search_versions(store.client(), f"name = '{model_name}{SUFFIX}'")
    for version in sorted(found, key=lambda one: int(one.version)):
        content = _content(version)
        if content is None or not content.keys() <= known:
            problems.append(f"entry {version.version} cannot be read")
            continue
        content |= {name: tuple(content.get(name, ())) for name in ("failed", "checks")}
        applied = version.tags.get(APPLIED_TAG) == "true"
        yield LogEntry(**content, number=int(version.version), applied=applied), version.tags.get(HASH_TAG, "")


def _content(version: ModelVersion) -> dict[str, Any] | None:
    try:
        content = json.loads(version.tags.get(ENTRY_TAG, ""))
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def look(store: Store, model_name: str) -> tuple[Log, versions.RegisteredVersion | None, str]:
    """Looks up the log, the champion that holds, and what does not fit; changes nothing."""
    log = read_log(store, model_name)
    remarks = [f"the promotion log was tampered with: {problem}" for problem in log.problems]
    champion = versions.aliased_version(store, model_name, versions.CHAMPION)
    number = None if champion is None else champion.version
    if log.entries and not log.entries[-1].applied:
        champion = versions.get_version(store, model_name, log.entries[-1].after)
    elif number != log.champion:
        said = f"version {log.champion}" if log.champion is not None else "none"
        stands = f"at version {number}" if number is not None else "nowhere"
        remarks.append(f"the log says that the champion is {said}, but the alias stands {stands}: moved by other means")
    return log, champion, "; ".join(remarks)


def survey(store: Store, model_name: str) -> str:
    """Tells a person versions, aliases, scores and the promotion log; changes nothing."""
    client, known = store.client(), versions.list_versions(store, model_name)[::-1]
    if not known:
        return f"{model_name}: no versions in this store yet; {advise_register()}"
    rows: list[tuple[str, ...]] = [("version", "alias", *SCORES.values(), "commit", "audit", "verdict", "package")]
    metrics = (client.get_run(one.run_id).data.metrics if one.run_id else {} for one in known)
    rows += map(_version_row, known, metrics)
    log, _, remark = look(store, model_name)
    lines = [model_name, render_table(rows, _ALIGN), ""]
    if log.entries:
        history: list[tuple[str, ...]] = [("champion", "instead of", "when", "who", "why")]
        history += [_entry_row(entry) for entry in reversed(log.entries)]
        lines.append(render_table(history, "l"))
    else:
        lines.append("no champion yet: `pocketaffect promote`")
    return "\n".join([*lines, "", f"warning: {remark}"] if remark else lines)


def _version_row(version: versions.RegisteredVersion, metrics: Mapping[str, float]) -> tuple[str, ...]:
    tags, scores = version.tags, [metrics.get(f"shipped_{name}", metrics.get(name)) for name in SCORES]
    commit = tags.get("git.commit", "")[:8] + ("+changes" if tags.get("git.dirty") == "true" else "")
    commit += f" (experiment {tags[EXPERIMENT_TAG]})" if EXPERIMENT_TAG in tags else ""
    audit = tags.get("audit", "")
    return (
        str(version.version),
        ", ".join([*version.aliases, *(mark for tag, mark in MARKS.items() if tag in tags)]),
        *("-" if value is None else f"{value:,.0f}" if value > 100 else f"{value:.3f}" for value in scores),
        commit,
        "passed" if audit.startswith(AUDITS_THAT_PASS) else audit or "-",
        tags.get(VERDICT_TAG, "-"),
        version.digest[:12],
    )


def _entry_row(entry: LogEntry) -> tuple[str, ...]:
    kind = {"promotion": "", "override": f"AGAINST {', '.join(entry.failed)}: ", "rollback": "rollback: "}[entry.kind]
    before = "-" if entry.before is None else str(entry.before)
    policy = f" ({entry.policy})" if entry.policy else ""
    return (str(entry.after), before, entry.when[:19].replace("T", " "), entry.who, kind + entry.why + policy)
