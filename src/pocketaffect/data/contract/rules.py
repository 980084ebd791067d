"""The rules of the data contract, each with what it demands, how severe it is and its Great Expectations form.

A rule looks at columns that `evidence` derives from rows and images. Rules run in steps: what a step sends away
takes no part in the later ones, so that a broken row is nobody's duplicate and a picture without a face leaks nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pocketaffect.data.release.rows import LANDMARK_NUMBERS
from pocketaffect.labels import MAX_EXPRESSION_CODE, NON_FACE_CODE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Severity = Literal["error", "warning", "drop"]
"""error: the row goes to quarantine. drop: it is sound, but of no use or unsafe. warning: it is kept and marked."""

Step = Literal["reading", "row", "path", "label", "identity", "leak", "doubt", "twin"]
"""In this order; `reading` is what the layout's reader found, the others are suites."""

MIN_IMAGE_SIDE: Final = 24
MIN_BOX_OVERLAP: Final = 0.5


@dataclass(frozen=True)
class VaRegion:
    """Where valence and arousal of a class are plausible.

    Attributes:
        valence: Lowest and highest; None where nothing is demanded.
        arousal: The same.
        above: The lowest valence itself lies outside.
    """

    valence: tuple[float | None, float | None] = (None, None)
    arousal: tuple[float | None, float | None] = (None, None)
    above: bool = False

    def excess(self, valence: npt.NDArray[np.float64], arousal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """How far each point lies outside, in the dimension where it is further; 0 inside."""
        import numpy as np

        outside = np.zeros_like(valence)
        for values, (low, high), is_open in ((valence, self.valence, self.above), (arousal, self.arousal, False)):
            if low is not None:
                outside = np.maximum(outside, (np.nextafter(low, np.inf) if is_open else low) - values)
            if high is not None:
                outside = np.maximum(outside, values - high)
        return outside


VA_REGIONS: Final[Mapping[str, VaRegion]] = {
    "neutral": VaRegion((-0.4, 0.4), (-0.4, 0.4)),
    "happiness": VaRegion((0.0, 1.0), (-0.2, 0.5), above=True),
    "sadness": VaRegion(valence=(None, 0.0)),
    "surprise": VaRegion(arousal=(0.0, None)),
    "fear": VaRegion(arousal=(0.0, None)),
    "disgust": VaRegion((None, 0.0), (0.0, None)),
    "anger": VaRegion((None, 0.0), (0.0, None)),
    "contempt": VaRegion((None, 0.0), (0.0, None)),
}
"""Happiness: AffectNet's own region (Mollahosseini, Hasani & Mahoor 2017, section 3.2.2). Its annotation tool had one
for each class, but no other is printed. The others are ours, and wide: a sign is demanded where the class's mean on
the validation split (`labels.CLASS_MEAN_VA`) is at least twice the spread within classes (RMSE of the class means .169
and .146, Hewitt & Gunes 2018) away from zero; neutral gets two spreads around its mean, rounded up to a tenth."""


@dataclass(frozen=True)
class Rule:
    """One rule: its name, its severity, the step it belongs to, what it demands, and its expectation."""

    name: str
    severity: Severity
    step: Step
    demand: str
    expect: Callable[[Any], Any] | None
    """From the module `great_expectations.expectations` to an expectation of one of the step's columns."""


def _one_of(column: str, *values: float) -> Callable[[Any], Any]:
    return lambda gxe: gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values))


def _between(column: str, least: float | None, most: float | None) -> Callable[[Any], Any]:
    return lambda gxe: gxe.ExpectColumnValuesToBeBetween(column=column, min_value=least, max_value=most)


RULES: Final = (
    Rule("columns_complete", "error", "reading", "the line has all columns", None),
    Rule(
        "path_inside_folder",
        "error",
        "row",
        "the path is relative, names a file and stays below the data folder",
        _one_of("path_problem", 0),
    ),
    Rule("image_readable", "error", "row", "the file exists and decodes", _one_of("image_problem", 0)),
    Rule(
        "image_large_enough",
        "error",
        "row",
        f"the image has at least {MIN_IMAGE_SIDE} pixels a side",
        _between("image_side", MIN_IMAGE_SIDE, None),
    ),
    Rule(
        "box_on_image",
        "error",
        "row",
        f"the face box is absent, or positive and at least {MIN_BOX_OVERLAP:.0%} of it lies on the image",
        _between("box_overlap", MIN_BOX_OVERLAP, None),
    ),
    Rule(
        "landmarks_complete",
        "error",
        "row",
        f"the landmarks are {LANDMARK_NUMBERS} finite numbers, or absent",
        _one_of("landmark_count", 0, LANDMARK_NUMBERS),
    ),
    Rule(
        "expression_known",
        "error",
        "row",
        f"the expression is a whole number 0..{MAX_EXPRESSION_CODE}",
        _one_of("expression", *range(MAX_EXPRESSION_CODE + 1)),
    ),
    Rule(
        "valence_in_range",
        "error",
        "row",
        "valence lies in [-1, 1]; or both are -2, for no label",
        _between("valence", -1, 1),
    ),
    Rule(
        "arousal_in_range",
        "error",
        "row",
        "arousal lies in [-1, 1]; or both are -2, for no label",
        _between("arousal", -1, 1),
    ),
    Rule(
        "path_in_one_split",
        "error",
        "path",
        "a training path is not listed for validation too (validation's copy is kept)",
        _one_of("held_by_validation", 0),
    ),
    Rule(
        "path_unique",
        "error",
        "path",
        "a path is listed once in its split (the first copy is kept)",
        _one_of("repeated", 0),
    ),
    Rule(
        "non_face",
        "drop",
        "label",
        f"the image shows a face (expression {NON_FACE_CODE}: it does not)",
        lambda gxe: gxe.ExpectColumnValuesToNotBeInSet(column="expression", value_set=[NON_FACE_CODE]),
    ),
    Rule(
        "no_label",
        "drop",
        "label",
        "the row has one of the eight expressions, or valence and arousal, or a soft label",
        _one_of("has_label", 1),
    ),
    Rule(
        "identity_in_validation",
        "drop",
        "identity",
        "a training face is of nobody whom validation holds (where identities are given)",
        _one_of("identity_in_validation", 0),
    ),
    Rule(
        "near_duplicate_of_validation",
        "drop",
        "leak",
        "a training face is no near-duplicate of a validation face",
        _one_of("validation_twin", 0),
    ),
    Rule(
        "va_plausible",
        "warning",
        "doubt",
        "valence and arousal lie in the region of their expression",
        _between("va_excess", None, 0),
    ),
    Rule(
        "near_duplicate_in_split",
        "warning",
        "twin",
        "a face has no near-duplicate in its split",
        _one_of("has_twin", 0),
    ),
)

RULE_NAMES: Final = tuple(rule.name for rule in RULES)


class Suites:
    """Great Expectations, set up once for all steps."""

    def __init__(self) -> None:
        import great_expectations as gx

        # This module alone sets its own level, and tells at every start of a temporary folder that it does not use.
        logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        rows = context.data_sources.add_pandas("annotations").add_dataframe_asset("rows")
        self._batch = rows.add_batch_definition_whole_dataframe("step")

    def run(self, step: Step, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.int64]]:
        """Holds a step's columns to its rules.

        Args:
            step: Which rules.
            columns: Arrays of one length; NaN stands for what a rule does not ask about. In ranges Great Expectations
                is quick with float64 and int64, others take it half a microsecond a row in Python.

        Returns:
            For each rule the places in the arrays, in order, that break it.
        """
        import great_expectations as gx
        import great_expectations.expectations as gxe
        import numpy as np
        import pandas as pd

        rules = [rule for rule in RULES if rule.step == step]
        table = pd.DataFrame(columns, copy=False)
        broken = {rule.name: np.empty(0, dtype=np.int64) for rule in rules}
        if table.empty:
            return broken
        expectations = []
        for rule in rules:
            if rule.expect is not None:
                expectations.append(rule.expect(gxe))
                expectations[-1].meta = {"rule": rule.name}
        outcome = self._batch.get_batch({"dataframe": table}).validate(
            gx.ExpectationSuite(f"data contract: {step}", expectations=expectations),
            result_format={"result_format": "COMPLETE"},
        )
        ran = set()
        for result in outcome.results:
            name = result.expectation_config.meta["rule"]
            if result.exception_info.get("raised_exception", False) or "unexpected_index_list" not in result.result:
                raise RuntimeError(f"rule {name} could not run: {result.exception_info}")
            broken[name] = np.asarray(result.result["unexpected_index_list"] or (), dtype=np.int64)
            ran.add(name)
        if ran != broken.keys():
            raise RuntimeError(f"rules that did not run: {', '.join(sorted(broken.keys() - ran))}")
        return broken


def describe_region(expression: str) -> str:
    """The plausible region of a class as text, `valence (0, 1], arousal [-0.2, 0.5]`."""
    region = VA_REGIONS[expression]
    parts = []
    for name, (low, high) in (("valence", region.valence), ("arousal", region.arousal)):
        low, high = (-1.0 if low is None else low, 1.0 if high is None else high)
        if (low, high) != (-1.0, 1.0):
            opening = "(" if region.above and name == "valence" else "["
            parts.append(f"{name} {opening}{low:g}, {high:g}]")
    return ", ".join(parts)
