"""The rules of the data contract: what each demands, how severe it is, and its Great Expectations form.

Where it can, a rule holds the table's own columns to ranges, sets, patterns and missing values. What only pixels or
several rows tell (how much of a box lies on the image, which copy of a path came first, whose near-duplicate a face is)
stands in a column that `evidence` derives. Rules run in steps: a row that a step sends away comes to none of the later
ones, so that a broken row is nobody's duplicate and a picture without a face leaks nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pocketaffect.data.release.rows import LANDMARK_NUMBERS
from pocketaffect.labels import EXPRESSIONS, MAX_EXPRESSION_CODE, NON_FACE_CODE

Severity = Literal["error", "warning", "drop"]
"""error: the row goes to quarantine. drop: it is sound, but of no use or unsafe. warning: it is kept and marked."""

Step = Literal["reading", "row", "path", "label", "identity", "leak", "doubt", "twin"]
STEPS: Final[tuple[Step, ...]] = ("reading", "row", "path", "label", "identity", "leak", "doubt", "twin")
"""Steps in their order; `reading` is what the layout's reader found, the others are Great Expectations' work."""

MIN_IMAGE_SIDE: Final = 24
MIN_BOX_OVERLAP: Final = 0.5
NO_CLASS: Final = f"expression >= {len(EXPRESSIONS)}"

PATH_PROBLEMS: Final = {
    "path without a file name": r"(?:^|[/\\])[.?]?$",
    "path leaves the data folder": r"^[/\\]|(?:^|[/\\])\.\.(?:[/\\]|$)|^(?s:.):",
    "path holds a NUL byte": r"\x00",
}
"""A list from elsewhere must not make us read other files; the same goes for paths in Windows' spelling."""


@dataclass(frozen=True)
class VaRegion:
    """Lowest and highest plausible valence and arousal of a class; None where nothing is demanded."""

    valence: tuple[float | None, float | None] = (None, None)
    arousal: tuple[float | None, float | None] = (None, None)
    above: bool = False
    """Whether the lowest valence itself lies outside."""


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


Expect = Callable[[Any], Any]
"""Makes an expectation from the module `great_expectations.expectations`, which takes seconds to import."""


@dataclass(frozen=True)
class Rule:
    """One rule: its name, its severity, its step, what it demands, and the expectations that a sound row meets."""

    name: str
    severity: Severity
    step: Step
    demand: str
    expect: tuple[Expect, ...]


def _one_of(column: str, *values: float) -> Expect:
    return lambda gxe: gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values))


def _between(column: str, least: float | None, most: float | None, **more: Any) -> Expect:
    return lambda gxe: gxe.ExpectColumnValuesToBeBetween(column=column, min_value=least, max_value=most, **more)


def _present(column: str, **more: Any) -> Expect:
    return lambda gxe: gxe.ExpectColumnValuesToNotBeNull(column=column, **more)


def _of_rows(step: Step, condition: str = "") -> dict[str, Any]:
    """Asks only the rows that came to a step, and meet a further condition in pandas' query language."""
    came = f"step >= {STEPS.index(step)}"
    return {"row_condition": f"{came} and {condition}" if condition else came, "condition_parser": "pandas"}


def _plausible() -> Iterator[Expect]:
    """Makes one expectation for all classes that have the same demand on valence, or on arousal."""
    demands: dict[tuple[Any, ...], list[int]] = {}
    for code, name in enumerate(EXPRESSIONS):
        region = VA_REGIONS[name]
        demands.setdefault(("valence", *region.valence, region.above), []).append(code)
        demands.setdefault(("arousal", *region.arousal, False), []).append(code)
    for (column, low, high, above), codes in demands.items():
        if (low, high) != (None, None):
            yield _between(column, low, high, strict_min=above, **_of_rows("doubt", f"expression in {codes}"))


def _rules(step: Step, severity: Severity, **rules: tuple[str, Sequence[Expect]]) -> Iterator[Rule]:
    """Makes the rules of a step and a severity from what each demands and expects, by its name."""
    for name, (demand, expect) in rules.items():
        yield Rule(name, severity, step, demand, tuple(expect))


RULES: Final = (
    *_rules("reading", "error", columns_complete=("the line has all columns", ())),
    *_rules(
        "row",
        "error",
        path_inside_folder=(
            "the path is relative, names a file and stays below the data folder",
            [
                lambda gxe: gxe.ExpectColumnValuesToNotMatchRegex(
                    column="listed_path", regex="|".join(PATH_PROBLEMS.values())
                )
            ],
        ),
        image_readable=(
            "the file exists and decodes",
            [lambda gxe: gxe.ExpectColumnValuesToBeNull(column="image_problem")],
        ),
        image_large_enough=(
            f"the image has at least {MIN_IMAGE_SIDE} pixels a side",
            [_between(f"image_{side}", MIN_IMAGE_SIDE, None) for side in ("width", "height")],
        ),
        box_on_image=(
            f"the face box is absent, or positive and at least {MIN_BOX_OVERLAP:.0%} of it lies on the image",
            [_between("box_overlap", MIN_BOX_OVERLAP, None)],
        ),
        landmarks_complete=(
            f"the landmarks are {LANDMARK_NUMBERS} finite numbers, or absent",
            [_one_of("landmark_count", 0, LANDMARK_NUMBERS)],
        ),
        expression_known=(
            f"the expression is a whole number 0..{MAX_EXPRESSION_CODE}",
            [_present("expression"), _one_of("expression", *range(MAX_EXPRESSION_CODE + 1))],
        ),
        valence_in_range=("valence lies in [-1, 1]; or both are -2, for no label", [_between("valence", -1, 1)]),
        arousal_in_range=("arousal lies in [-1, 1]; or both are -2, for no label", [_between("arousal", -1, 1)]),
    ),
    *_rules(
        "path",
        "error",
        path_in_one_split=(
            "a training path is not listed for validation too (validation's copy is kept)",
            [_one_of("held_by_validation", 0)],
        ),
        path_unique=("a path is listed once in its split (the first copy is kept)", [_one_of("repeated", 0)]),
    ),
    *_rules(
        "label",
        "drop",
        non_face=(
            f"the image shows a face (expression {NON_FACE_CODE}: it does not)",
            [
                lambda gxe: gxe.ExpectColumnValuesToNotBeInSet(
                    column="expression", value_set=[NON_FACE_CODE], **_of_rows("label", NO_CLASS)
                )
            ],
        ),
        no_label=(
            "the row has one of the eight expressions, or valence and arousal, or a soft label",
            [_present("valence", **_of_rows("label", f"{NO_CLASS} and votes.isnull()"))],
        ),
    ),
    *_rules(
        "identity",
        "drop",
        identity_in_validation=(
            "a training face is of nobody whom validation holds (where identities are given)",
            [_one_of("identity_in_validation", 0)],
        ),
    ),
    *_rules(
        "leak",
        "drop",
        near_duplicate_of_validation=(
            "a training face is no near-duplicate of a validation face",
            [_one_of("validation_twin", 0)],
        ),
    ),
    *_rules(
        "doubt",
        "warning",
        va_plausible=("valence and arousal lie in the region of their expression", [*_plausible()]),
    ),
    *_rules(
        "twin",
        "warning",
        near_duplicate_in_split=("a face has no near-duplicate in its split", [_one_of("has_twin", 0)]),
    ),
)

RULE_NAMES: Final = tuple(rule.name for rule in RULES)


def describe_region(expression: str) -> str:
    """Writes the plausible region of a class as text, `valence (0, 1], arousal [-0.2, 0.5]`."""
    region = VA_REGIONS[expression]
    parts = []
    for name, (low, high) in (("valence", region.valence), ("arousal", region.arousal)):
        low, high = (-1.0 if low is None else low, 1.0 if high is None else high)
        if (low, high) != (-1.0, 1.0):
            opening = "(" if region.above and name == "valence" else "["
            parts.append(f"{name} {opening}{low:g}, {high:g}]")
    return ", ".join(parts)
