"""Runs the rules with Great Expectations, and keeps suite and result as files that its own API loads."""

from __future__ import annotations

import logging
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect.data.contract.rules import RULES, Severity, Step

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
        """Holds the rows that came to a step to its rules.

        Args:
            step: The rules' step.
            table: The columns that the rules look at; a missing value is what a rule does not ask about. In ranges
                Great Expectations is quick with float64 and int64, others take it half a microsecond a row in Python.

        Returns:
            For each rule the places of the rows that break it, in order.
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
