"""The registry on one screen: versions with size and scores, aliases, and the champions so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pocketaffect.registry.lineage.lineage import EXPERIMENT_TAG
from pocketaffect.registry.promotion.log import Log, LogEntry
from pocketaffect.registry.promotion.policy import AUDITS_THAT_PASS
from pocketaffect.registry.promotion.promote import VERDICT_TAG, look
from pocketaffect.registry.store.store import Store, advise_register
from pocketaffect.registry.store.versions import ARCHIVED_TAG, REMOVED_TAG, RegisteredVersion, list_versions
from pocketaffect.tables import render_table

SCORES: Final = {
    "package_bytes": "bytes",
    "balanced_accuracy": "bal. acc.",
    "ccc_valence": "CCC V",
    "ccc_arousal": "CCC A",
}
"""Metrics of the list; of the shipped file where it was measured, else of the network."""
_ALIGN: Final = "ll" + "r" * len(SCORES) + "l"

MARKS: Final = {ARCHIVED_TAG: "archived", REMOVED_TAG: "files removed"}


@dataclass(frozen=True)
class Listed:
    """A version with the scores of its run."""

    version: RegisteredVersion
    scores: dict[str, float]


@dataclass(frozen=True)
class Overview:
    """What `pocketaffect registry` shows."""

    model_name: str
    versions: tuple[Listed, ...]
    log: Log
    remark: str

    def to_text(self) -> str:
        """Writes it for a person."""
        if not self.versions:
            return f"{self.model_name}: no versions in this store yet; {advise_register()}"
        rows: list[tuple[str, ...]] = [("version", "alias", *SCORES.values(), "commit", "audit", "verdict", "package")]
        rows += [_version_row(listed) for listed in reversed(self.versions)]
        lines = [self.model_name, render_table(rows, _ALIGN), ""]
        if self.log.entries:
            history: list[tuple[str, ...]] = [("champion", "instead of", "when", "who", "why")]
            history += [_entry_row(entry) for entry in reversed(self.log.entries)]
            lines.append(render_table(history, "l"))
        else:
            lines.append("no champion yet: `pocketaffect promote`")
        if self.remark:
            lines += ["", f"warning: {self.remark}"]
        return "\n".join(lines)


def survey(store: Store, model_name: str) -> Overview:
    """Reads versions, aliases, scores and the promotion log; changes nothing."""
    client = store.client()
    versions = []
    for version in list_versions(store, model_name):
        metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
        scores = {name: metrics.get(f"shipped_{name}", metrics.get(name)) for name in SCORES}
        versions.append(Listed(version, {name: value for name, value in scores.items() if value is not None}))
    log, _, remark = look(store, model_name)
    return Overview(model_name, tuple(versions), log, remark)


def _version_row(listed: Listed) -> tuple[str, ...]:
    version, tags = listed.version, listed.version.tags
    scores = [listed.scores.get(name) for name in SCORES]
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
