"""A data folder's description as aligned plain text."""

from __future__ import annotations

from typing import Final

from pocketaffect.data.release.votes import VoteCounts
from pocketaffect.data.report.describe import CLASSES, Description
from pocketaffect.labels import EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.tables import render_table

LAYOUT_NAMES: Final = {"csv": "AffectNet's CSV release", "npy8": "AffectNet's 8-label release (npy)"}


def render(description: Description) -> str:
    """Renders the description as aligned plain text."""
    parts = [part(description) for part in (_render_facts, _render_counts, _render_va, _render_given)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _render_facts(description: Description) -> list[str]:
    packed = f"in {len(description.archives)} archive(s)" if description.archives else "loose files"
    facts = [("layout", f"{LAYOUT_NAMES[description.layout]}, {packed}")]
    archives = [f"{name} {_tell_bytes(size)}" for name, size in description.archives.items()]
    if archives:
        facts.append(("archives", ", ".join(archives[:4]) + (f", … {len(archives) - 4} more" if archives[4:] else "")))
    for item in description.lists:
        header = "" if description.layout == "npy8" else ", header line" if item.summary.header else ", no header line"
        unsplit = f", {item.summary.unsplit:,} not readable as rows" if item.summary.unsplit else ""
        facts.append((item.summary.name, f"{item.split}, {item.summary.rows:,} rows{header}{unsplit}"))
    found = description.listed - description.missing
    facts.append(
        ("images", f"{found:,} of {description.listed:,} listed are there ({_tell_bytes(description.image_bytes)})")
    )
    if description.missing:
        facts.append(("missing", _tell_examples(description.missing, description.missing_examples)))
    if description.repeated:
        facts.append(("repeated", f"{description.repeated:,} rows name an image that a row before them named"))
    if description.unlisted:
        facts.append(("unlisted", _tell_examples(description.unlisted, description.unlisted_examples)))
    facts += [("not opened", f"{count:,}: {reason}") for reason, count in description.refused.items()]
    facts.append(("size", f"{_tell_bytes(description.total_bytes)} in all"))
    facts.append(("soft labels", _tell_votes(description.votes)))
    identity = sorted({item.summary.identity for item in description.lists} - {""})
    facts.append(("identity", f"column {', '.join(identity)}" if identity else "no column says who is pictured"))
    return [description.root, render_table([(f"  {name}", fact) for name, fact in facts], "l")]


def _render_counts(description: Description) -> list[str]:
    lists = description.lists
    counted = [(*item.counts, item.other_expression, item.summary.rows) for item in lists]
    official = [item.official and (*item.official, *[0] * (len(CLASSES) - len(item.official))) for item in lists]
    beside = [counts and (*counts, 0, sum(counts)) for counts in official]
    names = [*(f"{code:>2} {name}" for code, name in enumerate(CLASSES)), "no such code", "all"]
    head = [["expression"], [""]]
    for item, counts in zip(lists, official, strict=True):
        head[0] += [item.summary.name, ""]
        head[1] += ["found", "official" if counts else ""]
    body = []
    for place, name in enumerate(names):
        found = [counts[place] for counts in counted]
        expected = [counts[place] if counts else 0 for counts in beside]
        if name != "all" and place >= len(EXPRESSIONS) and not any((*found, *expected)):
            continue
        cells = [
            (f"{count:,}", f"{other:,}" if counts else "")
            for count, other, counts in zip(found, expected, official, strict=True)
        ]
        body.append([name, *(cell for pair in cells for cell in pair)])
    return [render_table(head + body, "lr")]


def _render_va(description: Description) -> list[str]:
    table = [["valence and arousal", "without", "valence mean", "official", "sd", "arousal mean", "official", "sd"]]
    for item in description.lists:
        values = [
            value
            for name in VALENCE_AROUSAL
            for value in (item.va[name].mean, item.va[name].official_mean, item.va[name].deviation)
        ]
        shown = ["" if value is None else f"{value:.2f}" for value in values]
        table.append([item.summary.name, f"{item.without_va:.1%}", *shown])
    return [render_table(table, "lr")]


def _render_given(description: Description) -> list[str]:
    table = [["rows with", "face box", "landmarks"]]
    for item in description.lists:
        shares = (item.with_box / item.summary.rows, item.with_landmarks / item.summary.rows)
        table.append([item.summary.name, *(f"{share:.1%}" for share in shares)])
    return [render_table(table, "lr")]


def _tell_bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count:,} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"


def _tell_examples(count: int, examples: tuple[str, ...]) -> str:
    return f"{count:,}: {', '.join(examples)}" + (", …" if count > len(examples) else "")


def _tell_votes(votes: VoteCounts | None) -> str:
    if votes is None:
        return "none"
    more = [
        f"{count:,} {what}"
        for count, what in (
            (votes.unlisted, "of images in no list"),
            (votes.without_expression, "without a vote for one of the eight"),
        )
        if count
    ]
    return f"{votes.labelled:,} rows, from {votes.rows:,} rows of votes" + (f" ({', '.join(more)})" if more else "")
