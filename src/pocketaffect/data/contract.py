"""The data contract: named rules as a Great Expectations suite; rows that break one go to quarantine with it.

The suite checks a table that holds, beside the annotations, what `probe` found in the files. Derived columns carry
what no built-in expectation can compute (how much of a box lies on its image), so that each rule stays one line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.data.layouts import BOX_COLUMNS, NUMBER_COLUMNS
from pocketaffect.data.probe import Probe, describe_path_problem
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, MAX_EXPRESSION_CODE, NO_VA_CODE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

MIN_IMAGE_SIDE: Final = 24
MIN_BOX_OVERLAP: Final = 0.5
SPLIT_RULE: Final = "columns_complete"
QUARANTINE_COLUMNS: Final = ("list", "line", "path", "rule", "value", "also_broken")


@dataclass(frozen=True)
class Rule:
    """One rule: its name, what it demands, the columns shown for a row that breaks it."""

    name: str
    demand: str
    shown: tuple[str, ...]


RULES: Final = (
    Rule("path_inside_folder", "the path is relative and stays below the data folder", ("subDirectory_filePath",)),
    Rule("path_unique", "a path is listed once, in one split", ("path",)),
    Rule("image_readable", "the file exists and decodes", ("image_problem",)),
    Rule(
        "image_large_enough",
        f"the image has at least {MIN_IMAGE_SIDE} pixels a side",
        ("image_width", "image_height"),
    ),
    Rule(
        "box_on_image",
        f"the face box is absent, or positive and at least {MIN_BOX_OVERLAP:.0%} of it lies on the image",
        tuple(f"{name}_text" for name in BOX_COLUMNS),
    ),
    Rule("expression_known", f"the expression is a whole number 0..{MAX_EXPRESSION_CODE}", ("expression_text",)),
    Rule(
        "valence_in_range",
        "valence lies in [-1, 1]; or both are -2, for no label",
        ("valence_text", "arousal_text"),
    ),
    Rule(
        "arousal_in_range",
        "arousal lies in [-1, 1]; or both are -2, for no label",
        ("valence_text", "arousal_text"),
    ),
)


@dataclass(frozen=True)
class RuleCount:
    """How many rows a rule was asked about and how many broke it."""

    rule: str
    demand: str
    checked: int
    broken: int


@dataclass(frozen=True)
class ContractResult:
    """Kept rows, quarantined rows (`QUARANTINE_COLUMNS`), and the count of each rule. Together they are all rows."""

    kept: pd.DataFrame
    quarantine: pd.DataFrame
    counts: tuple[RuleCount, ...]

    @property
    def rows(self) -> int:
        """All rows that came in."""
        return len(self.kept) + len(self.quarantine)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
        return {
            "rows": self.rows,
            "kept": len(self.kept),
            "quarantined": len(self.quarantine),
            "rules": [asdict(count) for count in self.counts],
        }


def check_contract(rows: pd.DataFrame, unsplit: pd.DataFrame, probes: Iterable[Probe]) -> ContractResult:
    """Checks every row against every rule.

    Args:
        rows: As `layouts.read_annotations` gives them.
        unsplit: Lines that could not be split into columns; they are quarantined as `columns_complete`.
        probes: One for each of `rows`, in their order.
    """
    table = _derive_columns(rows, list(probes))
    broken = _run_suite(table)
    quarantine = _quarantine(table, unsplit, broken)
    counts = [RuleCount(SPLIT_RULE, "the line has all columns", len(table) + len(unsplit), len(unsplit))]
    counts += [RuleCount(rule.name, rule.demand, len(table), len(broken[rule.name])) for rule in RULES]
    bad = set().union(*broken.values())
    kept = table.loc[[index not in bad for index in table.index]]
    columns = [
        "list",
        "line",
        "split",
        "path",
        *NUMBER_COLUMNS,
        "facial_landmarks",
        "image_width",
        "image_height",
    ]
    return ContractResult(kept[columns].reset_index(drop=True), quarantine, tuple(counts))


def enforce_limits(result: ContractResult, *, max_quarantine_fraction: float, min_validation_per_class: int) -> None:
    """Stops on a data set that is too dirty, or too small to judge a model by.

    Raises:
        PocketAffectError: Names the rule that most rows broke, the count, and three examples; or the classes.
    """
    fraction = len(result.quarantine) / result.rows
    if fraction > max_quarantine_fraction:
        first_rules = result.quarantine["rule"].to_list()
        worst = max(result.counts, key=lambda count: first_rules.count(count.rule))
        examples = result.quarantine[result.quarantine["rule"] == worst.rule].head(3)
        shown = "; ".join(f"{row.list} line {row.line}: {row.value}" for row in examples.itertuples())
        raise PocketAffectError(
            f"data contract: {len(result.quarantine):,} of {result.rows:,} rows ({fraction:.1%}) break it, "
            f"most of them {worst.rule} ({first_rules.count(worst.rule):,} rows: {worst.demand})",
            found=shown,
            allowed=f"{max_quarantine_fraction:.1%} (params.yaml: validate.max_quarantine_fraction)",
            todo="mend the rows that .work/validate/quarantine.csv lists, or raise the limit",
        )
    validation = result.kept[result.kept["split"] == "validation"]
    support = {name: int((validation["expression"] == code).sum()) for code, name in enumerate(EXPRESSIONS)}
    poor = {name: count for name, count in support.items() if count < min_validation_per_class}
    if poor:
        raise PocketAffectError(
            "validation split: too few images of " + ", ".join(f"{name} ({count})" for name, count in poor.items()),
            found=", ".join(f"{name} {count}" for name, count in support.items()),
            allowed=f"at least {min_validation_per_class} each (params.yaml: validate.min_validation_per_class)",
            todo="add validation images of these classes, or lower the limit",
        )
    if not (result.kept["split"] == "train").any():
        raise PocketAffectError("training split: no usable row", todo="see .work/validate/quarantine.csv")


def _derive_columns(rows: pd.DataFrame, probes: list[Probe]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    table = rows.copy()
    path_problem = [describe_path_problem(path) for path in table["subDirectory_filePath"]]
    table["path_problem"] = pd.Series([text or None for text in path_problem], index=table.index, dtype=object)
    table["image_problem"] = pd.Series([probe.problem or None for probe in probes], index=table.index, dtype=object)
    sides = np.array([(probe.width, probe.height) for probe in probes], dtype=np.float64).reshape(-1, 2)
    table[["image_width", "image_height"]] = np.where(sides > 0, sides, np.nan)  # an unread image has no size
    table["box_overlap"] = _box_overlap(table)
    # The validation copy of a path that both splits list is the one to keep: training may lose an image, a
    # measurement may not be moved by one.
    table["copy_number"] = table.sort_values("split", ascending=False, kind="stable").groupby("path").cumcount()
    table["has_va"] = ~((table["valence"] == NO_VA_CODE) & (table["arousal"] == NO_VA_CODE))
    return table


def _box_overlap(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Share of the box that lies on the image; NaN where no box is given or no image, 0 where it is no box."""
    import numpy as np

    box = table[list(BOX_COLUMNS)].to_numpy(dtype=np.float64)
    image = table[["image_width", "image_height"]].to_numpy(dtype=np.float64)
    written = table[[f"{name}_text" for name in BOX_COLUMNS]].apply(lambda text: text.str.strip()).to_numpy()
    is_box = np.isfinite(box).all(axis=1) & (box[:, 2:] > 0).all(axis=1)
    corner, sides = np.where(is_box[:, None], box[:, :2], 0.0), np.where(is_box[:, None], box[:, 2:], 1.0)
    shared = np.minimum(corner + sides, image) - np.maximum(corner, 0)
    share = (np.clip(shared, 0, None) / sides).prod(axis=1)
    unknown = (written == "").all(axis=1) | np.isnan(image).any(axis=1)
    return np.where(unknown, np.nan, np.where(is_box, share, 0.0))


def _run_suite(table: pd.DataFrame) -> dict[str, set[int]]:
    """Runs the suite; the rows (index values) that break each rule."""
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    # This module alone sets its own level, and tells at every start of a temporary folder that it does not use.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    given = Column("has_va") == True  # noqa: E712  Great Expectations builds the condition from ==
    expectations: dict[str, list[Any]] = {
        "path_inside_folder": [gxe.ExpectColumnValuesToBeNull(column="path_problem")],
        "path_unique": [gxe.ExpectColumnValuesToBeBetween(column="copy_number", max_value=0)],
        "image_readable": [gxe.ExpectColumnValuesToBeNull(column="image_problem")],
        "image_large_enough": [
            gxe.ExpectColumnValuesToBeBetween(column=f"image_{side}", min_value=MIN_IMAGE_SIDE)
            for side in ("width", "height")
        ],
        "box_on_image": [gxe.ExpectColumnValuesToBeBetween(column="box_overlap", min_value=MIN_BOX_OVERLAP)],
        "expression_known": [
            gxe.ExpectColumnValuesToNotBeNull(column="expression"),
            gxe.ExpectColumnValuesToBeInSet(column="expression", value_set=list(range(MAX_EXPRESSION_CODE + 1))),
        ],
    }
    for name in ("valence", "arousal"):
        expectations[f"{name}_in_range"] = [
            gxe.ExpectColumnValuesToNotBeNull(column=name),
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-1, max_value=1, row_condition=given),
        ]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for rule, parts in expectations.items():
        for part in parts:
            part.meta = {"rule": rule}
    suite = gx.ExpectationSuite(
        "data contract", expectations=[part for parts in expectations.values() for part in parts]
    )
    asset = context.data_sources.add_pandas("annotations").add_dataframe_asset("rows")
    # Great Expectations hashes all that it is given, again and again: the columns that it checks, and once.
    checked = table[[*dict.fromkeys(part.column for part in suite.expectations), "has_va"]]
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": checked})
    outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    broken: dict[str, set[int]] = {rule.name: set() for rule in RULES}
    for result in outcome.results:
        rule = result.expectation_config.meta["rule"]
        if result.exception_info.get("raised_exception", False) or "unexpected_index_list" not in result.result:
            raise RuntimeError(f"rule {rule} could not run: {result.exception_info}")
        broken[rule].update(int(index) for index in result.result["unexpected_index_list"] or ())
    return broken


def _quarantine(table: pd.DataFrame, unsplit: pd.DataFrame, broken: dict[str, set[int]]) -> pd.DataFrame:
    """One row for each quarantined row: the first rule it broke with the values, then the others' names."""
    import pandas as pd

    rules_of: dict[int, list[Rule]] = {}
    for rule in RULES:
        for index in broken[rule.name]:
            rules_of.setdefault(index, []).append(rule)
    unsplit_lines = unsplit[["list", "line", "text"]].to_dict("records")
    lines = [(str(row["list"]), int(row["line"]), "", SPLIT_RULE, str(row["text"]), "") for row in unsplit_lines]
    indices = sorted(rules_of)
    for index, row in zip(indices, table.loc[indices].to_dict("records"), strict=True):
        first, *others = rules_of[index]
        value = ", ".join(f"{name.removesuffix('_text')} {row[name]}" for name in first.shown)
        source = (str(row["list"]), int(row["line"]), str(row["path"]))
        lines.append((*source, first.name, value, ", ".join(rule.name for rule in others)))
    lines.sort(key=lambda line: (line[0], line[1]))
    return pd.DataFrame(lines, columns=list(QUARANTINE_COLUMNS)).astype({"line": "int64"})
