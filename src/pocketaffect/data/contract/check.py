"""The data contract: rows are held to the rules step by step, and every row that came in is accounted for.

A row is kept, quarantined with the first rule it broke, or dropped by a rule that sends sound rows away. The rules are
in `rules`, what they look at in `evidence`, which rows broke them and the tables in `ledger`.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pocketaffect import paths
from pocketaffect.config import ValidateParams
from pocketaffect.data.contract.duplicates import find_near_duplicates, group_duplicates
from pocketaffect.data.contract.evidence import Evidence
from pocketaffect.data.contract.ledger import (
    DROPPED_COLUMNS,
    Ledger,
    make_duplicates,
    make_kept,
    make_quarantine,
    make_sent_away,
    set_choosing_apart,
    sort_pairs,
)
from pocketaffect.data.contract.profile import Drift, Profile, compare_profiles, profile_of, write_profile
from pocketaffect.data.contract.rules import RULES, Severity
from pocketaffect.data.faces.probe import Probes
from pocketaffect.data.release.layouts import Annotations
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.labels import EXPRESSIONS, NO_EXPRESSION, SOFT_COLUMNS, SPLITS, VALENCE_AROUSAL

MAX_DRIFT_LINES: Final = 8
"""More figures that drifted are one sentence: the data is another than the profile's."""

VA: Final = "valence and arousal"
ROW_GROUP: Final = 1 << 16


@dataclass(frozen=True)
class RuleCount:
    """How many rows a rule was asked about (none: it had nothing to look at, or is switched off), how many broke it."""

    name: str
    severity: Severity
    demand: str
    checked: int
    broken: int


@dataclass(frozen=True)
class ContractResult:
    """What became of the rows, the counts of every rule, and the drift from a profile where one was given."""

    kept: pd.DataFrame
    """`KEPT_COLUMNS`; training rows first, each split in the lists' order."""
    quarantine: pd.DataFrame
    """`QUARANTINE_COLUMNS`, rows that break a rule of severity error, by list and line."""
    dropped: pd.DataFrame
    """`DROPPED_COLUMNS`, rows that a rule of severity drop sent away, by list and line."""
    duplicates: pd.DataFrame
    """`DUPLICATES_COLUMNS`, pairs of near-duplicates; `dropped` where row b left for it."""
    counts: tuple[RuleCount, ...]
    drift: tuple[Drift, ...]
    notes: tuple[str, ...] = ()
    """What is to be said aloud of the data, from its reader."""
    derived_va: bool = False
    """Whether valence and arousal are derived from votes."""
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The columns that the rules looked at, a row for each row that came in (without lines that are none)."""
    suite: Mapping[str, Any] = field(default_factory=dict)
    """The rules as Great Expectations' suite, plain values, and in `validation` what it found in `evidence`."""
    validation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows that came in."""
        return len(self.kept) + len(self.quarantine) + len(self.dropped)

    def describe(self) -> str:
        """Writes lines for a log: what became of the rows, which rules were broken, what has drifted."""
        lines = [
            f"{self.rows:,} rows: {len(self.kept):,} kept, {len(self.quarantine):,} quarantined, "
            f"{len(self.dropped):,} dropped"
        ]
        reasons = Counter([*self.quarantine["rule"], *self.dropped["rule"]])
        for count in self.counts:
            if count.broken:
                earlier = 0 if count.severity == "warning" else count.broken - reasons[count.name]
                told = f", {earlier:,} of them counted under a rule above" if earlier else ""
                lines.append(f"  {count.severity} {count.name}: {count.broken:,}{told}")
        warned = [finding for finding in self.drift if finding.warned]
        if len(warned) > MAX_DRIFT_LINES:
            furthest = max(warned, key=lambda finding: abs(finding.difference))
            lines.append(
                f"  drift: {len(warned)} of {len(self.drift)} figures are further from the profile than "
                f"validate.max_drift ({furthest}): this seems to be other data; `pocketaffect data profile FILE` "
                "keeps its own figures"
            )
        else:
            lines += [f"  drift: {finding}" for finding in warned]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, in a fixed order."""
        return {
            "rows": self.rows,
            "kept": len(self.kept),
            "quarantined": len(self.quarantine),
            "dropped": len(self.dropped),
            "near_duplicates": len(self.duplicates),
            "rules": [asdict(count) for count in self.counts],
            "drift": [asdict(finding) for finding in self.drift],
        } | ({"notes": list(self.notes)} if self.notes else {})


def check_contract(
    annotations: Annotations, probes: Probes, settings: ValidateParams, profile: Profile | None
) -> ContractResult:
    """Holds every row to every rule; `probes` are the rows', in their order, and drift is measured from `profile`."""
    rows, unsplit = annotations.rows, annotations.unsplit
    evidence = Evidence(rows, probes, has_votes=annotations.has_votes)
    ledger, table = Ledger(len(rows)), evidence.table
    evidence.enter("row", ledger.alive)
    ledger.apply("row", table)
    evidence.enter_path(ledger.alive)
    ledger.apply("path", table)
    evidence.enter("label", ledger.alive)
    ledger.apply("label", table)
    if annotations.has_identity:
        evidence.enter_identity(ledger.alive)
        ledger.apply("identity", table)
    faces = ledger.alive
    look = settings.near_duplicate_distance >= 0
    pairs, distances = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)
    if look:
        pairs, distances = find_near_duplicates(
            probes.face_hash if len(faces) == len(rows) else probes.face_hash[faces],
            max_distance=settings.near_duplicate_distance,
            preferred=evidence.is_validation[faces],
        )
        evidence.enter_leak(faces, pairs, distances)
        ledger.apply("leak", table)
    pairs, distances, leaked = sort_pairs(faces[pairs], distances, evidence.is_validation, ledger.alive)
    groups = group_duplicates(len(ledger.alive), np.searchsorted(ledger.alive, pairs[~leaked]))
    evidence.enter("doubt", ledger.alive)
    ledger.apply("doubt", table)
    if look:
        evidence.enter("twin", ledger.alive, has_twin=groups >= 0)
        ledger.apply("twin", table)

    kept = make_kept(evidence, ledger, groups)
    checked = ledger.checked | {RULES[0].name: len(rows) + len(unsplit)}
    broken = ledger.broken | {RULES[0].name: len(unsplit)}
    result = ContractResult(
        kept=kept,
        quarantine=make_quarantine(evidence, ledger, unsplit),
        dropped=make_sent_away(evidence, ledger, "drop")[list(DROPPED_COLUMNS)],
        duplicates=make_duplicates(rows, pairs, distances, leaked),
        counts=tuple(
            RuleCount(rule.name, rule.severity, rule.demand, checked.get(rule.name, 0), broken.get(rule.name, 0))
            for rule in RULES
        ),
        drift=() if profile is None else compare_profiles(profile, profile_of(kept), max_drift=settings.max_drift),
        notes=annotations.notes,
        derived_va=annotations.derived_va,
        evidence=table,
        suite=ledger.suite.to_dict(),
        validation=ledger.suite.results_to_dict(),
    )
    if result.rows != len(rows) + len(unsplit):
        raise RuntimeError(
            f"{len(rows) + len(unsplit)} rows came in, but {len(result.kept)} are kept, {len(result.quarantine)} in "
            f"quarantine and {len(result.dropped)} dropped"
        )
    return result


def write_result(result: ContractResult, target: Path, *, choosing_share: float = 0.0) -> None:
    """Writes tables, counts, Great Expectations' files and the kept rows' profile into folder `target`, whole or not.

    The manifest alone tells the part of training that chooses (`ledger.set_choosing_apart`), and has a column
    `va_derived` where valence and arousal are derived from votes.

    Raises:
        PocketAffectError: The disk is full, or the place cannot be written to.
    """
    manifest = set_choosing_apart(result.kept, choosing_share)
    if result.derived_va:
        manifest = manifest.assign(va_derived=True)
    with write_atomically(target) as draft:
        draft.mkdir()
        for file, table in (
            (paths.MANIFEST_TABLE, manifest),
            (paths.QUARANTINE_TABLE, result.quarantine),
            (paths.DROPPED_TABLE, result.dropped),
            (paths.DUPLICATES_TABLE, result.duplicates),
            (paths.EVIDENCE_TABLE, result.evidence),
        ):
            # Preprocessing reads the manifest a row group at a time.
            table.to_parquet(draft / file.name, index=False, row_group_size=ROW_GROUP)
        write_json(draft / paths.CONTRACT_REPORT.name, result.to_dict())
        write_json(draft / paths.CONTRACT_SUITE.name, result.suite)
        write_json(draft / paths.CONTRACT_VALIDATION.name, result.validation)
        write_profile(draft / paths.DATA_PROFILE.name, profile_of(result.kept))


def enforce_limits(result: ContractResult, settings: ValidateParams) -> None:
    """Stops on a data set that is too dirty, or too small to judge a model by.

    Raises:
        PocketAffectError: Names the rule that most rows broke, the count, and three examples; or the classes.
    """
    fraction = len(result.quarantine) / max(1, result.rows)
    if fraction > settings.max_quarantine_fraction:
        rules = result.quarantine["rule"].value_counts()
        worst = max(result.counts, key=lambda count: int(rules.get(count.name, 0)))
        examples = result.quarantine[result.quarantine["rule"] == worst.name].head(3)
        shown = "; ".join(f"{row.list} line {row.line}: {row.value}" for row in examples.itertuples())
        raise PocketAffectError(
            f"data contract: {len(result.quarantine):,} of {result.rows:,} rows ({fraction:.1%}) break it, "
            f"most of them {worst.name} ({rules[worst.name]:,} rows: {worst.demand})",
            found=shown,
            allowed=f"{settings.max_quarantine_fraction:.1%} (params.yaml: validate.max_quarantine_fraction)",
            todo="fix the rows that .work/validate/quarantine.csv lists, or raise the limit",
        )
    if not (result.kept["split"] == "train").any():
        raise PocketAffectError(
            "training split: no usable row",
            found=f"{len(result.quarantine):,} rows in quarantine, {len(result.dropped):,} dropped",
            todo="see .work/validate/quarantine.csv",
        )
    _refuse_one_sided_labels(result.kept, settings.min_validation_per_class)


def _refuse_one_sided_labels(kept: pd.DataFrame, least: int) -> None:
    """Refuses labels that can only be learnt or only be judged; what no row has is left out by all later stages."""
    trained, judged = (_count_labels(kept, split) for split in SPLITS)
    for name in trained:
        if bool(trained[name]) != bool(judged[name]) and (least or name == VA):
            raise PocketAffectError(
                f"{'validation' if trained[name] else 'training'} split: no image of {name}",
                found=f"{trained[name]:,} in training, {judged[name]:,} in validation",
                allowed="images of it in both splits, or in neither",
                todo="add such images, or take these labels out of the other list",
            )
    poor = {name: count for name, count in judged.items() if 0 < count < least and name != VA}
    if poor:
        raise PocketAffectError(
            "validation split: too few images of " + ", ".join(f"{name} ({count})" for name, count in poor.items()),
            found=", ".join(f"{name} {count}" for name, count in judged.items()),
            allowed=f"at least {least} each (params.yaml: validate.min_validation_per_class)",
            todo="add validation images of these classes, or lower the limit",
        )
    classes = [name for name in trained if trained[name] and name != VA]
    if len(classes) < 2 and not trained[VA]:
        raise PocketAffectError(
            "nothing to learn: fewer than two expressions, and no valence and arousal",
            found=", ".join(classes) or "no expression",
            allowed="two expressions or more, or valence and arousal",
        )
    if absent := [name for name in trained if not trained[name] and not judged[name]]:
        logging.getLogger(__name__).warning(
            "no image of %s: the network does not learn it, and no metric is of it", ", ".join(absent)
        )


def _count_labels(kept: pd.DataFrame, split: str) -> dict[str, int]:
    """Counts a split's rows by expression, in training by votes too, and those with valence and arousal."""
    rows = kept[(kept["split"] == split).to_numpy()]
    expression = rows["expression"].to_numpy()
    if split == SPLITS[0]:
        votes = rows[list(SOFT_COLUMNS)].fillna(0).to_numpy()
        likeliest = np.where(votes.any(axis=1), votes.argmax(axis=1), NO_EXPRESSION)
        expression = np.where(expression == NO_EXPRESSION, likeliest, expression)
    counts = np.bincount(expression[expression >= 0].astype(np.int64), minlength=len(EXPRESSIONS))
    return dict(zip(EXPRESSIONS, counts.tolist(), strict=True)) | {VA: int(rows[VALENCE_AROUSAL[0]].notna().sum())}
