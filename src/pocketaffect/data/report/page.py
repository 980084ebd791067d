"""The pictures and the one self-contained HTML page about a data set that was held to the contract."""

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from pocketaffect import paths
from pocketaffect.data.contract.check import ContractResult, RuleCount
from pocketaffect.data.contract.profile import format_figure
from pocketaffect.data.contract.rules import describe_region
from pocketaffect.data.faces.images import RGB, ImageProblemError, decode_image
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.data.report import sheets
from pocketaffect.data.report.pictures import SPLITS, draw_class_balance, draw_split_drift, draw_va_density
from pocketaffect.figures import inline_svg, page_template, render_png, render_svg
from pocketaffect.files import write_atomically
from pocketaffect.labels import BOX_COLUMNS, EXPRESSIONS, PLACE_COLUMNS

PAGE: Final = "contract.html"
QUARANTINE_LIST: Final = "quarantine.csv"
SVGS: Final = ("class_balance", "split_drift")
PNGS: Final = ("va_density", "quarantine", "duplicates")
MAX_EXAMPLES: Final = 5
MAX_PAIRS: Final = 20
MAX_TEXT: Final = 240
"""Characters shown of a path or value: with the limits above it bounds the page whatever the data holds."""

MAX_TILES: Final = 24
MAX_PAIR_TILES: Final = 12
TILE_SIDE: Final = 132
PAIR_SIDE: Final = 112
PAIR_GAP: Final = 2

FILES: Final = {
    str(paths.MANIFEST_TABLE): "the rows that were kept, when the limits allow",
    str(paths.QUARANTINE_TABLE): "every quarantined row with rule, value and source line",
    str(paths.DROPPED_TABLE): "every dropped row with its rule",
    str(paths.DUPLICATES_TABLE): "every pair of near-duplicates",
    str(paths.CONTRACT_REPORT): "the counts of this page, for programs",
    QUARANTINE_LIST: "beside this page: the quarantined rows, also when the stage stops for them",
    "docs/data-contract.md": "what each rule means and where it comes from",
}


def report_contract(result: ContractResult, root: Path, target: Path, *, limit: float) -> None:
    """Writes folder `target` anew: the pictures, the page with all of them in it, and the list of quarantined rows.

    `root` is the data folder, `limit` the share of quarantined rows that is allowed, for the page's verdict.

    Raises:
        PocketAffectError: The disk is full, or `target` cannot be written.
    """
    with write_atomically(target) as draft:
        draft.mkdir()
        for name, figure in (
            ("class_balance", draw_class_balance(result.kept, result.quarantine, result.dropped)),
            ("split_drift", draw_split_drift(result.kept, result.drift)),
        ):
            (draft / f"{name}.svg").write_text(render_svg(figure), encoding="utf-8")
        (draft / "va_density.png").write_bytes(render_png(draw_va_density(result.kept)))
        (draft / "quarantine.png").write_bytes(draw_quarantine(result.quarantine, root))
        (draft / "duplicates.png").write_bytes(draw_duplicates(result.duplicates, root))
        (draft / PAGE).write_text(render_page(result, draft, limit), encoding="utf-8")
        listed = result.quarantine[["list", "line", "path", "rule", "value", "also_broken"]]
        listed.to_csv(draft / QUARANTINE_LIST, index=False, lineterminator="\n")


def render_page(result: ContractResult, pictures: Path, limit: float) -> str:
    """Renders one HTML file that needs nothing beside it, no network and no scripts, with the files of `pictures`."""
    filters = {
        "count": lambda number: f"{number:,}",
        "share": _format_share,
        "figure_number": format_figure,
        "shown": lambda text: sheets.show_text(text, MAX_TEXT),
    }
    split, duplicates = result.kept["split"], result.duplicates
    level, verdict = _judge(result, limit)
    checked = {count.name: count.checked for count in result.counts}
    return page_template("data/report/contract.html.jinja", filters).render(
        level=level,
        verdict=verdict,
        rows=result.rows,
        kept=len(result.kept),
        quarantined=len(result.quarantine),
        dropped=len(result.dropped),
        facts={
            **{f"{title} rows kept": f"{int((split == name).sum()):,}" for name, title in SPLITS.items()},
            "kept, but marked": f"{int((result.kept['warnings'] != '').sum()):,} rows with a warning",
            **({"notes": "; ".join(result.notes)} if result.notes else {}),
            "quarantine": f"{len(result.quarantine) / max(1, result.rows):.2%} of {100 * limit:g}% allowed",
        },
        rules=_describe_rules(result),
        drift=result.drift,
        pair_count=len(duplicates),
        pairs_dropped=int(duplicates["dropped"].sum()),
        pairs=_choose_pairs(duplicates),
        duplicates_checked=bool(checked["near_duplicate_of_validation"]),
        svgs={
            name: inline_svg((pictures / f"{name}.svg").read_text(encoding="utf-8"), f"f{number}")
            for number, name in enumerate(SVGS)
        },
        pngs={name: base64.b64encode((pictures / f"{name}.png").read_bytes()).decode("ascii") for name in PNGS},
        files=FILES,
    )


def _judge(result: ContractResult, limit: float) -> tuple[str, str]:
    """Decides the level of the page's first line, good, doubt or bad, and its text."""
    quarantined, rows = len(result.quarantine), result.rows
    drifted = sum(finding.warned for finding in result.drift)
    drift = f" {drifted} of {len(result.drift)} figures have drifted from the stored profile." if drifted else ""
    if not quarantined:
        dropped = f" {len(result.dropped):,} sound rows are dropped by rule." if len(result.dropped) else ""
        return "doubt" if drifted else "good", f"All {rows:,} rows keep the contract.{dropped}{drift}"
    rules = result.quarantine["rule"].value_counts()
    worst = max(rules.index, key=lambda name: (int(rules[name]), name))
    over, none_left = quarantined / rows > limit, len(result.kept) == 0
    text = (
        f"{quarantined:,} of {rows:,} rows ({_format_share(quarantined, rows)}) break the contract, most of them "
        f"{worst} ({int(rules[worst]):,}). That is {'more than' if over else 'within'} the {100 * limit:g}% of "
        f"validate.max_quarantine_fraction.{' No row is left.' if none_left else ''}{drift}"
    )
    return "bad" if over or none_left else "doubt", text


def _describe_rules(result: ContractResult) -> list[dict[str, Any]]:
    """Lists the rules' counts, how many rows were lost to each, and examples of the `shown_of` that it is said of."""
    lost = pd.concat([result.quarantine["rule"], result.dropped["rule"]]).value_counts()
    return [
        asdict(count) | {"lost": int(lost.get(count.name, 0)), **_find_examples(result, count)}
        for count in result.counts
    ]


def _find_examples(result: ContractResult, count: RuleCount) -> dict[str, Any]:
    """Counts the rows that have the rule as their reason, or as their warning, and picks some of them."""
    if count.severity == "warning":
        table, reasons = result.kept, result.kept["warnings"]
        chosen = np.flatnonzero(reasons.str.contains(rf"(?:^|,){count.name}(?:,|$)", regex=True).to_numpy(dtype=bool))
    else:
        table = result.quarantine if count.severity == "error" else result.dropped
        chosen = np.flatnonzero((table["rule"] == count.name).to_numpy(dtype=bool))
    rows = table.take(sheets.spread_evenly(chosen, MAX_EXAMPLES)).to_dict("records")
    for row in rows:
        if count.severity == "warning":
            row["value"] = _describe_doubt(count.name, row)
    return {"shown_of": len(chosen), "examples": rows}


def _describe_doubt(rule: str, row: Mapping[Any, Any]) -> str:
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
    nearest = pd.concat([ordered[across].head(MAX_PAIRS // 2), ordered[~across].head(MAX_PAIRS // 2)])
    return nearest.to_dict("records")


def _format_share(part: int, whole: int) -> str:
    share = part / max(1, whole)
    return "< 0.1%" if 0 < share < 0.001 else "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def draw_quarantine(quarantine: pd.DataFrame, root: Path) -> bytes:
    """Draws up to MAX_TILES rows of the quarantine table as a PNG, as many of each rule, with pictures that decode."""
    if len(quarantine) == 0:
        return sheets.draw_sheet("Quarantine: no row broke a rule", [], columns=6)
    rows = quarantine.take(_choose(quarantine["rule"].to_numpy(dtype=object), MAX_TILES))
    tiles = []
    for row in rows.to_dict("records"):
        box = _read_box(str(row["value"])) if row["rule"] == "box_on_image" else None
        picture = _read_picture(root, row, TILE_SIDE, box)
        tiles.append(sheets.Tile(picture, str(row["rule"]), f"{row['list']} line {row['line']}: {row['value']}"))
    title = f"Quarantine: {len(quarantine):,} row{'s' * (len(quarantine) > 1)}"
    return sheets.draw_sheet(
        title, [sheets.Section(_say_shown(len(tiles), len(quarantine)), tiles)], columns=6, caption_lines=5
    )


def draw_duplicates(duplicates: pd.DataFrame, root: Path) -> bytes:
    """Draws up to MAX_PAIR_TILES pairs side by side as a PNG, across splits and inside one, near and far ones."""
    if len(duplicates) == 0:
        return sheets.draw_sheet("Near-duplicates: none found", [], columns=3)
    ordered = duplicates.sort_values("distance", kind="stable")
    dropped = ordered["dropped"].to_numpy(dtype=bool)
    sections = []
    groups = [("across splits: the training copy is dropped", dropped), ("inside a split: marked and kept", ~dropped)]
    quotas = _share_out([int(chosen.sum()) for _, chosen in groups], MAX_PAIR_TILES)
    for (name, chosen), quota in zip(groups, quotas, strict=True):
        pairs = ordered.take(sheets.spread_evenly(np.flatnonzero(chosen), quota))
        tiles = [_draw_pair(pair, root) for pair in pairs.to_dict("records")]
        if tiles:
            sections.append(sheets.Section(f"{name}; {_say_shown(len(tiles), int(chosen.sum()))}", tiles))
    title = f"Near-duplicates: {len(duplicates):,} pair{'s' * (len(duplicates) > 1)}"
    return sheets.draw_sheet(title, sections, columns=3, caption_lines=2)


def _draw_pair(pair: Mapping[Any, Any], root: Path) -> sheets.Tile:
    places = [{name: pair[f"{name}_{side}"] for name in PLACE_COLUMNS} for side in ("a", "b")]
    gap = np.full((PAIR_SIDE, PAIR_GAP, 3), 255, dtype=np.uint8)
    one, other = (_read_picture(root, place, PAIR_SIDE) for place in places)
    bits = int(pair["distance"])
    heading = f"{bits} bit{'s' * (bits != 1)} apart: {pair['split_a']}, {pair['split_b']}"
    names = " | ".join("/".join(str(place["path"]).split("/")[-2:]) for place in places)
    return sheets.Tile(np.concatenate([one, gap, other], axis=1), heading, names)


def _read_picture(root: Path, row: Mapping[Any, Any], side: int, box: sheets.Box | None = None) -> RGB:
    """Draws the picture in a square with the box on it, or a grey square with the reason why there is none."""
    if not row["path"]:
        return sheets.draw_reason("no path", side)
    place = Place(str(row["path"]), str(row["archive"]), int(row["offset"]), int(row["length"]), bool(row["deflated"]))
    try:
        image = decode_image(read_place(root, place), least_side=side)
    except ImageProblemError as error:
        return sheets.draw_reason(str(error), side)
    if box is not None:
        x, y, width, height = (value * image.scale for value in box)
        box = (x, y, width, height)
    return sheets.fit_picture(image.pixels, side, box)


def _read_box(value: str) -> sheets.Box | None:
    """Reads the face box, where the reason of a quarantined row gives all four of its numbers."""
    number = r"(-?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)(?=[,;]|$)"
    found = [re.search(rf"\b{name} {number}", value) for name in BOX_COLUMNS]
    x, y, width, height = (float(one[1]) if one else float("nan") for one in found)
    return (x, y, width, height) if all(found) else None


def _choose(kinds: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Chooses the positions of at most `most` items, as many of each kind as possible, evenly apart within a kind."""
    names = list(dict.fromkeys(kinds))
    places = [np.flatnonzero(kinds == name) for name in names]
    quotas = _share_out([len(found) for found in places], most)
    chosen = [sheets.spread_evenly(found, quota) for found, quota in zip(places, quotas, strict=True)]
    return np.concatenate(chosen)


def _share_out(counts: list[int], most: int) -> list[int]:
    """Decides how many of each kind are shown: one more of each in turn, until `most` are or none is left."""
    quotas = [0] * len(counts)
    while sum(quotas) < min(most, sum(counts)):
        for kind, count in enumerate(counts):
            if quotas[kind] < count and sum(quotas) < most:
                quotas[kind] += 1
    return quotas


def _say_shown(shown: int, total: int) -> str:
    return f"all {total:,}" if shown == total else f"{shown:,} of {total:,}"
