"""The pictures and the one self-contained HTML page about a data set that was held to the contract."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pocketaffect import paths
from pocketaffect.data.contract.check import ContractResult, RuleCount
from pocketaffect.data.contract.rules import describe_region
from pocketaffect.data.report.examples import draw_duplicates, draw_quarantine
from pocketaffect.data.report.pictures import SPLITS, draw_class_balance, draw_split_drift, draw_va_density
from pocketaffect.data.report.sheets import show_text, spread_evenly
from pocketaffect.figures import inline_svg, page_template, render_png, render_svg
from pocketaffect.files import write_atomically
from pocketaffect.labels import EXPRESSIONS

PAGE: Final = "contract.html"
QUARANTINE_LIST: Final = "quarantine.csv"
SVGS: Final = ("class_balance", "split_drift")
PNGS: Final = ("va_density", "quarantine", "duplicates")
MAX_EXAMPLES: Final = 5
MAX_PAIRS: Final = 20
MAX_TEXT: Final = 240
"""Characters shown of a path or value: with the limits above it bounds the page whatever the data holds."""


def report_contract(
    result: ContractResult, root: Path, target: Path, *, max_quarantine_fraction: float | None = None
) -> None:
    """Writes folder `target`: the pictures, the page with all of them in it, and the list of quarantined rows.

    Args:
        result: The result of `check_contract`.
        root: The data folder, for pictures of quarantined rows and near-duplicates.
        target: Replaced as a whole.
        max_quarantine_fraction: The limit that the page's verdict names.

    Raises:
        PocketAffectError: The disk is full, or `target` cannot be written.
    """
    with write_atomically(target) as draft:
        draft.mkdir()
        write_pictures(result, root, draft)
        write_contract_report(result, draft, draft / PAGE, max_quarantine_fraction=max_quarantine_fraction)
        listed = result.quarantine[["list", "line", "path", "rule", "value", "also_broken"]]
        listed.to_csv(draft / QUARANTINE_LIST, index=False, lineterminator="\n")


def write_pictures(result: ContractResult, root: Path, folder: Path) -> None:
    """Draws SVGS and PNGS into an existing folder; what there is nothing of says so."""
    balance = draw_class_balance(result.kept, result.quarantine, result.dropped)
    (folder / "class_balance.svg").write_text(render_svg(balance), encoding="utf-8")
    (folder / "split_drift.svg").write_text(render_svg(draw_split_drift(result.kept, result.drift)), encoding="utf-8")
    (folder / "va_density.png").write_bytes(render_png(draw_va_density(result.kept)))
    (folder / "quarantine.png").write_bytes(draw_quarantine(result.quarantine, root))
    (folder / "duplicates.png").write_bytes(draw_duplicates(result.duplicates, root))


def write_contract_report(
    result: ContractResult, pictures: Path, target: Path, *, max_quarantine_fraction: float | None = None
) -> None:
    """Writes one HTML file that needs nothing beside it: no network, no scripts.

    Args:
        result: The result of `check_contract`.
        pictures: The folder that `write_pictures` filled.
        target: The page.
        max_quarantine_fraction: The limit that the verdict names; None names none.

    Raises:
        PocketAffectError: The disk is full, or `target` cannot be written.
    """
    filters = {
        "count": lambda number: f"{number:,}",
        "share": _format_share,
        "figure_number": _format_figure,
        "shown": lambda text: show_text(text, MAX_TEXT),
    }
    duplicates = result.duplicates
    page = page_template("data/report/contract.html.jinja", filters).render(
        verdict=_judge(result, max_quarantine_fraction),
        rows=result.rows,
        kept=len(result.kept),
        quarantined=len(result.quarantine),
        dropped=len(result.dropped),
        facts=dict(_state_facts(result, max_quarantine_fraction)),
        rules=_describe_rules(result),
        drift=result.drift,
        pair_count=len(duplicates),
        pairs_dropped=int(duplicates["dropped"].sum()),
        pairs=_choose_pairs(duplicates),
        duplicates_checked=any(
            count.checked for count in result.counts if count.name == "near_duplicate_of_validation"
        ),
        svgs={
            name: inline_svg((pictures / f"{name}.svg").read_text(encoding="utf-8"), f"f{number}")
            for number, name in enumerate(SVGS)
        },
        pngs={name: base64.b64encode((pictures / f"{name}.png").read_bytes()).decode("ascii") for name in PNGS},
        files=_list_files(),
    )
    with write_atomically(target) as draft:
        draft.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class Verdict:
    """The page's first line; `level` is good, doubt or bad."""

    level: str
    text: str


@dataclass(frozen=True)
class Example:
    """A row that broke a rule."""

    list: str
    line: int
    path: str
    value: str
    also: str = ""


@dataclass(frozen=True)
class RuleRow:
    """A line of the rule table; `examples` are of the `shown_of` rows that have the rule as their reason."""

    name: str
    severity: str
    demand: str
    checked: int
    broken: int
    lost: int
    shown_of: int
    examples: tuple[Example, ...]


def _judge(result: ContractResult, limit: float | None) -> Verdict:
    quarantined, rows = len(result.quarantine), result.rows
    drifted = sum(finding.warned for finding in result.drift)
    drift = f" {drifted} of {len(result.drift)} figures have drifted from the stored profile." if drifted else ""
    if not quarantined:
        level = "doubt" if drifted else "good"
        sound = f"All {rows:,} rows keep the contract."
        dropped = f" {len(result.dropped):,} sound rows are dropped by rule." if len(result.dropped) else ""
        return Verdict(level, sound + dropped + drift)
    rules = result.quarantine["rule"].value_counts()
    worst = max(rules.index, key=lambda name: (int(rules[name]), name))
    text = f"{quarantined:,} of {rows:,} rows ({_format_share(quarantined, rows)}) break the contract, "
    text += f"most of them {worst} ({int(rules[worst]):,})."
    over = limit is not None and quarantined / rows > limit
    if limit is not None:
        text += (
            f" That is {'more than' if over else 'within'} the {100 * limit:g}% of validate.max_quarantine_fraction."
        )
    if len(result.kept) == 0:
        text += " No row is left."
    return Verdict("bad" if over or len(result.kept) == 0 else "doubt", text + drift)


def _state_facts(result: ContractResult, limit: float | None) -> Iterator[tuple[str, str]]:
    split = result.kept["split"]
    for name, title in SPLITS.items():
        yield f"{title} rows kept", f"{int((split == name).sum()):,}"
    yield "kept, but marked", f"{int((result.kept['warnings'] != '').sum()):,} rows with a warning"
    if limit is not None:
        shown = f"{len(result.quarantine) / max(1, result.rows):.2%} of {100 * limit:g}% allowed"
        yield "quarantine", shown


def _describe_rules(result: ContractResult) -> list[RuleRow]:
    quarantined = result.quarantine["rule"].value_counts()
    dropped = result.dropped["rule"].value_counts()
    rows = []
    for count in result.counts:
        shown_of, examples = _find_examples(result, count)
        rows.append(
            RuleRow(
                count.name,
                count.severity,
                count.demand,
                count.checked,
                count.broken,
                int(quarantined.get(count.name, 0)) + int(dropped.get(count.name, 0)),
                shown_of,
                examples,
            )
        )
    return rows


def _find_examples(result: ContractResult, count: RuleCount) -> tuple[int, tuple[Example, ...]]:
    """Counts the rows that have the rule as their reason, or as their warning, and picks some of them."""
    if not count.broken:
        return 0, ()
    if count.severity == "warning":
        table, reasons = result.kept, result.kept["warnings"]
        chosen = np.flatnonzero(reasons.str.contains(rf"(?:^|,){count.name}(?:,|$)", regex=True).to_numpy(dtype=bool))
    else:
        table = result.quarantine if count.severity == "error" else result.dropped
        chosen = np.flatnonzero((table["rule"] == count.name).to_numpy(dtype=bool))
    rows = table.take(spread_evenly(chosen, MAX_EXAMPLES)).to_dict("records")
    examples = [
        Example(
            str(row["list"]),
            int(row["line"]),
            str(row["path"]),
            _describe_doubt(count.name, row) if count.severity == "warning" else str(row["value"]),
            str(row.get("also_broken", "")),
        )
        for row in rows
    ]
    return len(chosen), tuple(examples)


def _describe_doubt(rule: str, row: dict[Any, Any]) -> str:
    """Says what is doubtful about a row that was kept."""
    if rule == "va_plausible":
        name = EXPRESSIONS[int(row["expression"])]
        region = describe_region(name)
        return f"{name}: valence {row['valence']:.2f}, arousal {row['arousal']:.2f}; plausible {region}"
    return f"group {row['duplicate_group']} of near-duplicates"


def _choose_pairs(duplicates: pd.DataFrame) -> list[dict[Any, Any]]:
    """Chooses the nearest pairs across splits, then the nearest inside one."""
    ordered = duplicates.sort_values("distance", kind="stable")
    across = ordered["dropped"].to_numpy(dtype=bool)
    parts = [ordered[across].head(MAX_PAIRS // 2), ordered[~across].head(MAX_PAIRS // 2)]
    return [pair for part in parts for pair in part.to_dict("records")]


def _list_files() -> dict[str, str]:
    return {
        str(paths.MANIFEST_TABLE): "the rows that were kept, when the limits allow",
        str(paths.QUARANTINE_TABLE): "every quarantined row with rule, value and source line",
        str(paths.DROPPED_TABLE): "every dropped row with its rule",
        str(paths.DUPLICATES_TABLE): "every pair of near-duplicates",
        str(paths.CONTRACT_REPORT): "the counts of this page, for programs",
        QUARANTINE_LIST: "beside this page: the quarantined rows, also when the stage stops for them",
        "docs/data-contract.md": "what each rule means and where it comes from",
    }


def _format_share(part: int, whole: int) -> str:
    share = part / max(1, whole)
    return "< 0.1%" if 0 < share < 0.001 else "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _format_figure(value: float, what: str, *, signed: bool = False) -> str:
    """Formats a share in percent or a difference of shares in points, a mean with two decimals."""
    if " share " in what:
        return f"{100 * value:+.1f} points" if signed else f"{value:.1%}"
    return f"{value:+.2f}" if signed else f"{value:.2f}"
