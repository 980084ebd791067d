"""Runs the rules with Great Expectations, notes who broke which, and makes the tables that follow from it.

Each row is in exactly one table. Suite and result are kept as files that Great Expectations' own API loads.
"""

from __future__ import annotations

import hashlib
import logging
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect import labels
from pocketaffect.data.contract.evidence import MAX_VALUE, Evidence, Positions
from pocketaffect.data.contract.rules import RULE_NAMES, RULES, Rule, Severity, Step

NAME: Final = "pocketaffect data contract"
_LEVELS: Final[dict[Severity, str]] = {"error": "critical", "drop": "info", "warning": "warning"}
_COUNTED: Final = (
    *("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent"),
    *("unexpected_percent_nonmissing", "unexpected_percent_total"),
    *("partial_unexpected_list", "partial_unexpected_index_list"),
)
"""Parts of a result that are written: all rows that break a rule stand in the tables."""


class Suite:
    """The contract as an expectation suite that runs step by step over one table. Imports Great Expectations (8 s)."""

    def __init__(self) -> None:
        import great_expectations as gx
        import great_expectations.expectations as gxe

        # This module alone sets its own level, and tells at every start of a temporary folder that it does not use.
        logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        rows = context.data_sources.add_pandas("annotations").add_dataframe_asset("rows")
        self._batch = rows.add_batch_definition_whole_dataframe("all")
        self._gx, self._expectations = gx, gxe
        self._ran: list[Any] = []
        self._results: list[Any] = []

    def run(self, step: Step, table: pd.DataFrame) -> dict[str, npt.NDArray[np.int64]]:
        """Holds the rows that came to a step to its rules; finds for each rule the places of those that break it.

        A missing value in `table` is what a rule does not ask about. In ranges Great Expectations is quick with
        float64 and int64, others take it half a microsecond a row in Python.
        """
        rules = [rule for rule in RULES if rule.step == step]
        expectations = [expect(self._expectations) for rule in rules for expect in rule.expect]
        names = [rule for rule in rules for _ in rule.expect]
        for place, (rule, expectation) in enumerate(zip(names, expectations, strict=True)):
            expectation.severity = _LEVELS[rule.severity]
            expectation.meta = {"rule": rule.name, "demand": rule.demand, "place": len(self._ran) + place}
        self._ran += expectations
        found = {rule.name: [np.empty(0, dtype=np.int64)] for rule in rules}
        if table.empty:
            return {name: places[0] for name, places in found.items()}
        asked = {one.column for one in expectations}
        conditions = " ".join(str(one.row_condition) for one in expectations)  # each copies the rows that it is about
        slim = table[[name for name in table if name in asked or str(name) in conditions]]
        outcome = self._batch.get_batch({"dataframe": slim}).validate(
            self._gx.ExpectationSuite(NAME, expectations=expectations), result_format={"result_format": "COMPLETE"}
        )
        if len(outcome.results) != len(expectations):
            raise RuntimeError(f"step {step}: {len(outcome.results)} of {len(expectations)} expectations ran")
        for result in outcome.results:
            name = result.expectation_config.meta["rule"]
            if result.exception_info.get("raised_exception", False) or "unexpected_index_list" not in result.result:
                raise RuntimeError(f"rule {name} could not run: {result.exception_info}")
            found[name].append(np.asarray(result.result.pop("unexpected_index_list") or (), dtype=np.int64))
            result.result = {key: result.result[key] for key in _COUNTED if key in result.result}
            self._results.append(result)
        return {name: np.unique(np.concatenate(places)) for name, places in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Gives what ran as plain values that `great_expectations.ExpectationSuite` takes, without ids and versions."""
        suite: dict[str, Any] = _plain(self._gx.ExpectationSuite(NAME, expectations=self._ran).to_json_dict())
        return suite | {"meta": {}}

    def results_to_dict(self) -> dict[str, Any]:
        """Gives what the suite found as plain values that `ExpectationSuiteValidationResultSchema` loads."""
        results = sorted(self._results, key=lambda result: int(result.expectation_config.meta["place"]))
        passed = sum(result.success for result in results)
        return {
            "success": passed == len(results),
            "suite_name": NAME,
            "results": [_plain(result.to_json_dict()) for result in results],
            "suite_parameters": {},
            "statistics": {
                "evaluated_expectations": len(results),
                "successful_expectations": passed,
                "unsuccessful_expectations": len(results) - passed,
                "success_percent": 100 * passed / len(results) if results else None,
            },
            "meta": {},
        }


def _plain(value: Any) -> Any:
    """Leaves out ids and places, and infinite numbers, for which JSON has no form."""
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items() if key not in ("id", "batch_id", "place")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


KEPT_COLUMNS: Final = (
    "list",
    "line",
    "split",
    "path",
    *labels.PLACE_COLUMNS[1:],
    *labels.BOX_COLUMNS,
    *labels.EYE_COLUMNS,
    "image_width",
    "image_height",
    "expression",
    *labels.VALENCE_AROUSAL,
    *labels.SOFT_COLUMNS,
    "identity",
    "warnings",
    "duplicate_group",
)
CHOOSING_SEED: Final = 2018
SENT_AWAY_COLUMNS: Final = ("list", "line", "split", "path", "expression", "rule", "value")
QUARANTINE_COLUMNS: Final = (*SENT_AWAY_COLUMNS, "also_broken", *labels.PLACE_COLUMNS[1:])
DROPPED_COLUMNS: Final = SENT_AWAY_COLUMNS
DUPLICATES_COLUMNS: Final = (
    *(f"{name}_{side}" for side in ("a", "b") for name in ("path", "split", *labels.PLACE_COLUMNS[1:])),
    "distance",
    "dropped",
)


class Ledger:
    """Which rules each row broke, and which rows are left."""

    def __init__(self, rows: int) -> None:
        self.alive: Positions = np.arange(rows, dtype=np.int64)
        self.bits: npt.NDArray[np.uint32] = np.zeros(rows, dtype=np.uint32)
        """Bit i: the row broke RULES[i]."""
        self.checked: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.suite = Suite()

    def apply(self, step: Step, table: pd.DataFrame) -> None:
        """Runs a step's rules over the rows that are left; those that break an error or a drop rule leave."""
        for name, rows in self.suite.run(step, table).items():
            self.bits[rows] |= np.uint32(1 << RULE_NAMES.index(name))
            self.checked[name], self.broken[name] = len(self.alive), len(rows)
        self.alive = self.alive[self.bits[self.alive] & _mask("error", "drop") == 0]

    def first_rules(self, severity: Severity) -> list[tuple[Rule, Positions]]:
        """Finds, for each rule of a severity, the rows for which it is the first that they broke."""
        left = self.bits & _mask(severity)
        found = []
        for place, rule in enumerate(RULES):
            if rule.severity == severity:
                first = np.flatnonzero(left & np.uint32(1 << place))
                left[first] = 0
                found.append((rule, first))
        return found


def _mask(*severities: Severity) -> np.uint32:
    return np.uint32(sum(1 << place for place, rule in enumerate(RULES) if rule.severity in severities))


def _name_rules(bits: npt.NDArray[np.uint32], severity: Severity, separator: str) -> pd.Series[str]:
    """Joins the names of the rules of a severity that each row broke."""
    patterns, places = np.unique(bits & _mask(severity), return_inverse=True)
    names = [
        separator.join(rule.name for place, rule in enumerate(RULES) if int(pattern) >> place & 1)
        for pattern in patterns
    ]
    return pd.Series(names, dtype="str").take(places).reset_index(drop=True)


def make_kept(evidence: Evidence, ledger: Ledger, groups: Positions) -> pd.DataFrame:
    """Makes the table of the rows that are left: KEPT_COLUMNS, training first, each split in the lists' order.

    `groups` has the group of near-duplicates of each of them, -1 for none.
    """
    rows = evidence.rows
    order = np.argsort(evidence.is_validation[ledger.alive], kind="stable")
    chosen = ledger.alive[order]
    expression = evidence.number("expression")[chosen]
    has_va = evidence.has_va[chosen]
    made: dict[str, Any] = {
        "image_width": evidence.width[chosen].astype(np.int32),
        "image_height": evidence.height[chosen].astype(np.int32),
        "expression": np.where(expression < len(labels.EXPRESSIONS), expression, labels.NO_EXPRESSION).astype(np.int8),
        **{
            name: np.where(has_va, evidence.number(name)[chosen], np.nan).astype(np.float32)
            for name in labels.VALENCE_AROUSAL
        },
        "warnings": _name_rules(ledger.bits[chosen], "warning", ","),
        "duplicate_group": groups[order].astype(np.int32),
    }
    columns = {
        name: made[name] if name in made else rows[name].take(chosen).reset_index(drop=True) for name in KEPT_COLUMNS
    }
    return pd.DataFrame(columns, copy=False)


def set_choosing_apart(kept: pd.DataFrame, share: float) -> pd.DataFrame:
    """Gives the rows of `make_kept` with about a share of training's in the split "choosing".

    Which ones depends on CHOOSING_SEED and on who or what is shown, by identity, group of near-duplicates or path: all
    pictures of a person fall to one side, and rows that come later change no other row's.
    """
    if not share:
        return kept
    shown = kept["path"].where(kept["duplicate_group"] < 0, "group " + kept["duplicate_group"].astype("str"))
    shown = shown.where(kept["identity"] == "", "identity " + kept["identity"])
    draws = [int.from_bytes(hashlib.sha256(f"{CHOOSING_SEED} {text}".encode()).digest()[:8]) / 2**64 for text in shown]
    chosen = (kept["split"] == labels.SPLITS[0]).to_numpy() & (np.array(draws) < share)
    split = kept["split"].astype("str").mask(chosen, labels.CHOOSING)
    return kept.assign(split=pd.Categorical(split, categories=list(labels.ALL_SPLITS)))


def make_sent_away(evidence: Evidence, ledger: Ledger, severity: Severity) -> pd.DataFrame:
    """Makes the table of rows that left for a rule of this severity, with the first such rule and its values."""
    found = ledger.first_rules(severity)
    positions = np.concatenate([first for _, first in found])
    values = pa.chunked_array(
        [evidence.describe(rule.name, first) for rule, first in found if len(first)], pa.large_string()
    )
    rows = evidence.rows
    others = ledger.bits[positions] & ~np.concatenate(
        [np.full(len(first), 1 << RULES.index(rule), dtype=np.uint32) for rule, first in found]
    )
    names = np.array([rule.name for rule, _ in found])
    own = ["list", "line", "split", "path", "expression", *labels.PLACE_COLUMNS[1:]]
    table = rows[own].take(positions).astype({"list": "str", "split": "str"}).reset_index(drop=True)
    table["rule"] = pd.Series(np.repeat(names, [len(first) for _, first in found]), dtype="str")
    table["value"] = pd.Series(values.to_pandas(), dtype="str")
    table["also_broken"] = _name_rules(others, severity, ", ")
    return table.sort_values(["list", "line"], kind="stable", ignore_index=True)


def make_quarantine(evidence: Evidence, ledger: Ledger, unsplit: pd.DataFrame) -> pd.DataFrame:
    """Makes the table of rows that broke an error, and of lines that are no rows: QUARANTINE_COLUMNS."""
    table = make_sent_away(evidence, ledger, "error")
    if len(unsplit):
        nothing: dict[str, Any] = {
            "path": "",
            "expression": np.nan,
            "also_broken": "",
            "archive": "",
            "offset": 0,
            "length": 0,
        }
        lines = unsplit[["list", "line"]].assign(
            split=_find_splits(unsplit["list"], evidence.rows),
            rule=RULES[0].name,
            value=unsplit["text"].astype("str").str.slice(stop=MAX_VALUE),
            deflated=False,
            **nothing,
        )
        table = pd.concat([table, lines[list(QUARANTINE_COLUMNS)].astype(table.dtypes)], ignore_index=True)
        table = table.sort_values(["list", "line"], kind="stable", ignore_index=True)
    return table[list(QUARANTINE_COLUMNS)]


def _find_splits(lists: pd.Series[str], rows: pd.DataFrame) -> pd.Series[str]:
    """Finds the split of each list's sound rows; a list without any is judged by its name."""
    pairs = rows[["list", "split"]].drop_duplicates().astype("str")
    names = lists.astype("str")
    by_name = names.str.contains("val").map({True: "validation", False: "train"})
    return names.map(dict(zip(pairs["list"], pairs["split"], strict=True))).fillna(by_name).astype("str")


def sort_pairs(
    pairs: Positions, distances: Positions, is_validation: npt.NDArray[np.bool_], alive: Positions
) -> tuple[Positions, Positions, npt.NDArray[np.bool_]]:
    """Leaves out pairs that a row's leaving has settled; validation's row comes first, else the earlier one.

    Returns:
        Pairs [m, 2] as row positions, their distances, and whether row b left for it.
    """
    is_alive = np.zeros(len(is_validation), dtype=bool)
    is_alive[alive] = True
    across = is_validation[pairs[:, 0]] != is_validation[pairs[:, 1]]
    swap = across & is_validation[pairs[:, 1]]
    pairs = np.where(swap[:, None], pairs[:, ::-1], pairs)
    told = across | (is_alive[pairs[:, 0]] & is_alive[pairs[:, 1]])
    pairs, distances, across = pairs[told], distances[told], across[told]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], ~across))
    return pairs[order], distances[order], across[order]


def make_duplicates(
    rows: pd.DataFrame, pairs: Positions, distances: Positions, leaked: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Makes the table of pairs from `sort_pairs`: DUPLICATES_COLUMNS."""
    own = rows[["path", "split", *labels.PLACE_COLUMNS[1:]]]
    sides = [
        own.take(pairs[:, place]).astype({"split": "str"}).reset_index(drop=True).add_suffix(f"_{side}")
        for place, side in enumerate("ab")
    ]
    table = pd.concat(sides, axis=1).assign(distance=distances.astype(np.int16), dropped=leaked)
    return table[list(DUPLICATES_COLUMNS)]
