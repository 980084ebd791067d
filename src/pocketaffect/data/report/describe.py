"""What a data folder turned out to be, in seconds: layout, counts beside the official ones, missing files, as text.

No image is opened and nothing is judged: that is the contract's part (`dvc repro validate`).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.filesize import decimal

from pocketaffect.data.faces.images import IMAGE_SUFFIXES
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import FER, FERPLUS, name_layout, read_annotations
from pocketaffect.data.release.members import IMAGE_FOLDERS
from pocketaffect.data.release.npy_release import SETS
from pocketaffect.data.release.rows import ListSummary
from pocketaffect.data.release.votes import VoteCounts
from pocketaffect.labels import EXPRESSIONS, NO_VA_CODE, OTHER_EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.names import SYSTEM_FILE, find_on_disk, show_name
from pocketaffect.tables import render_table

CLASSES: Final = (*EXPRESSIONS, *OTHER_EXPRESSIONS)
TRAINING_COUNTS: Final = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750, 33088, 11645, 82414)
OFFICIAL_COUNTS: Final = {
    "training.csv": TRAINING_COUNTS,
    "validation.csv": (500,) * len(CLASSES),
    "train_set": TRAINING_COUNTS[: len(EXPRESSIONS)],
    "val_set": (*(500,) * 7, 499),
}
"""Images of each class in the releases.

The manual lists: Mollahosseini et al. 2017, "AffectNet", as Hewitt & Gunes 2018 split them. The 8-label release holds
the first eight classes, 287,651 and 3,999 images. The automatic list has no official counts by class.
"""

OFFICIAL_VA: Final = {"training.csv": (0.19, 0.09), "validation.csv": (-0.16, 0.30)}
"""Mean valence and arousal of the manual lists (Hewitt & Gunes 2018)."""

PICTURE: Final = rf"(?i)^({'|'.join(IMAGE_FOLDERS)})/|({'|'.join(map(re.escape, IMAGE_SUFFIXES))})$"
"""Files that somebody may miss in the lists: all in the image folders, elsewhere what is called an image."""

NO_PICTURE: Final = rf"{SYSTEM_FILE}|^({'|'.join(SETS)})/annotations/"
ARCHIVE: Final = r"(?i)\.(tar|zip|tar\.\w+|tgz|tbz2?|txz|rar|7z)$"
INNER_ARCHIVE: Final = "an archive that is not at the top of the data folder, or of another kind"
EXAMPLES: Final = 3


@dataclass(frozen=True)
class ListDescription:
    """One list (or set) and what its rows say."""

    summary: ListSummary
    split: str
    counts: dict[str, int]
    """Rows of each of CLASSES."""
    other_expression: int
    """Rows whose expression is none of them."""
    official: dict[str, int] | None
    """Rows of each class in the official list of this name."""
    with_va: int
    without_va: float
    """Share of rows without valence and arousal."""
    va: dict[str, dict[str, float | None]]
    """Mean and standard deviation of valence and arousal over the rows that have both, and the official means."""
    with_box: int
    with_landmarks: int
    missing: int
    """Rows whose image is not there."""


@dataclass(frozen=True)
class Description:
    """What lies in a data folder."""

    root: str
    layout: str
    archives: dict[str, int]
    """Bytes of each archive."""
    lists: tuple[ListDescription, ...]
    listed: int
    """Different images that the lists name."""
    repeated: int
    """Rows that name an image which a row before them named."""
    missing: int
    """Different images that are not there."""
    missing_examples: tuple[str, ...]
    unlisted: int
    """Files in the image folders, and images elsewhere, that no list names."""
    unlisted_examples: tuple[str, ...]
    refused: dict[str, int]
    """Archive members, and archives, that are not opened, by the reason."""
    image_bytes: int
    """Bytes of the listed images; as stored where an archive compresses them."""
    total_bytes: int
    """Bytes of all files, archives as they are."""
    votes: VoteCounts | None
    notes: tuple[str, ...]
    """What is held out, and where a split comes from that has no folder."""


def describe(root: Path) -> Description:
    """Looks at a data folder and reads its lists; at 450,000 images some seconds.

    Raises:
        PocketAffectError: As `DataFolder.open` and `layouts.read_annotations`.
    """
    folder = DataFolder.open(root)
    annotations = read_annotations(folder)
    rows = annotations.rows
    names, sizes, loose_bytes = _measure_files(folder)
    listed = pa.chunked_array([pa.array(rows["path"], pa.large_string())]).combine_chunks()
    place = pc.index_in(listed, value_set=names.filter(pa.array(sizes >= 0)))
    there = place.is_valid().to_numpy(zero_copy_only=False)
    found = np.unique(place.drop_null().to_numpy())
    absent = pc.unique(listed.filter(pa.array(~there)))
    others = names.filter(pc.invert(pc.is_in(names, value_set=listed)))
    own = pa.array([name.removeprefix(folder.top) for name in folder.archives], names.type)
    unopened = others.filter(pc.and_not(pc.match_substring_regex(others, ARCHIVE), pc.is_in(others, value_set=own)))
    refused = folder.count_refused() | ({INNER_ARCHIVE: len(unopened)} if len(unopened) else {})
    others = others.filter(pc.match_substring_regex(others, PICTURE))
    others = others.filter(pc.invert(pc.match_substring_regex(others, NO_PICTURE)))
    archives = {name: folder.stat_archive(name).st_size for name in folder.archives}
    return Description(
        root=show_name(root),
        layout=annotations.layout,
        archives=archives,
        lists=tuple(_describe_list(summary, rows, there) for summary in annotations.lists),
        listed=len(found) + len(absent),
        repeated=len(rows) - len(found) - len(absent),
        missing=len(absent),
        missing_examples=tuple(absent.slice(0, EXAMPLES).to_pylist()),
        unlisted=len(others),
        unlisted_examples=tuple(others.slice(0, EXAMPLES).to_pylist()),
        refused=refused,
        image_bytes=int(sizes[sizes >= 0][found].sum()),
        total_bytes=loose_bytes + sum(archives.values()),
        votes=annotations.votes,
        notes=annotations.notes,
    )


def _measure_files(folder: DataFolder) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64], int]:
    """Lists all files, their bytes (as archived for members; negative: not to be read), and the loose ones' bytes."""
    names = pa.array(folder.names(""), pa.large_string())
    places = folder.locate(names.to_pandas().astype("str"))
    codes, archives = pd.factorize(places["archive"])
    loose = np.flatnonzero(np.isin(codes, [code for code, name in enumerate(archives) if name[-1:] in ("", "/")]))
    sizes = places["length"].to_numpy(dtype=np.int64, copy=True)
    sizes[loose] = [_measure(find_on_disk(folder.base, name)) for name in names.take(pa.array(loose)).to_pylist()]
    packed = sum(folder.stat_archive(name).st_size for name in folder.archives)  # archives are loose files, too
    loose_bytes = int(sizes[loose][sizes[loose] > 0].sum()) - packed
    return names, sizes, loose_bytes


def _measure(path: str) -> int:
    """Measures a file's bytes; -1 for a link that leads nowhere."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  half a million times
    except OSError:
        return -1


def _describe_list(summary: ListSummary, rows: pd.DataFrame, there: npt.NDArray[np.bool_]) -> ListDescription:
    chosen = (rows["list"] == summary.name).to_numpy()
    mine = rows.loc[chosen, ["split", "box_given", "expression", "valence", "arousal", "landmark_count"]]
    expression = mine["expression"].to_numpy()
    known = np.isin(expression, np.arange(len(CLASSES)))
    counts = np.bincount(expression[known].astype(np.int64), minlength=len(CLASSES))
    affect = mine[list(VALENCE_AROUSAL)].to_numpy()
    affect = affect[np.isfinite(affect).all(axis=1) & ~(affect == NO_VA_CODE).all(axis=1)]
    official_means = OFFICIAL_VA.get(summary.name, (None, None))
    official = OFFICIAL_COUNTS.get(summary.name)
    va: dict[str, dict[str, float | None]] = {}
    for name, values, official_mean in zip(VALENCE_AROUSAL, affect.T, official_means, strict=True):
        found = (float(values.mean()), float(values.std())) if len(values) else (None, None)
        va[name] = {"mean": found[0], "deviation": found[1], "official_mean": official_mean}
    return ListDescription(
        summary=summary,
        split=str(mine["split"].iloc[0]),
        counts=dict(zip(CLASSES, counts.tolist(), strict=True)),
        other_expression=int((~known).sum()),
        official=dict(zip(CLASSES, official, strict=False)) if official else None,
        with_va=len(affect),
        without_va=1 - len(affect) / summary.rows,
        va=va,
        with_box=int(mine["box_given"].sum()),
        with_landmarks=int((mine["landmark_count"] != 0).sum()),
        missing=int((~there[chosen]).sum()),
    )


def render(description: Description) -> str:
    """Renders the description as aligned plain text."""
    parts = [part(description) for part in (_render_facts, _render_counts, _render_va, _render_given)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _render_facts(description: Description) -> list[str]:
    packed = f"in {len(description.archives)} archive(s)" if description.archives else "loose files"
    facts = [("layout", f"{name_layout(description.layout)}, {packed}")]
    archives = [f"{name} {decimal(size)}" for name, size in description.archives.items()]
    if archives:
        facts.append(("archives", ", ".join(archives[:4]) + (f", … {len(archives) - 4} more" if archives[4:] else "")))
    for item in description.lists:
        header = "" if description.layout == "npy8" else ", header line" if item.summary.header else ", no header line"
        unsplit = f", {item.summary.unsplit:,} not readable as rows" if item.summary.unsplit else ""
        facts.append((item.summary.name, f"{item.split}, {item.summary.rows:,} rows{header}{unsplit}"))
    found = description.listed - description.missing
    facts.append(
        ("images", f"{found:,} of {description.listed:,} listed are there ({decimal(description.image_bytes)})")
    )
    if description.missing:
        facts.append(("missing", _tell_examples(description.missing, description.missing_examples)))
    if description.repeated:
        facts.append(("repeated", f"{description.repeated:,} rows name an image that a row before them named"))
    if description.unlisted:
        facts.append(("unlisted", _tell_examples(description.unlisted, description.unlisted_examples)))
    facts += [("not opened", f"{count:,}: {reason}") for reason, count in description.refused.items()]
    facts.append(("size", f"{decimal(description.total_bytes)} in all"))
    facts.append(("soft labels", _tell_votes(description)))
    facts += [("note", note) for note in description.notes]
    identity = sorted({item.summary.identity for item in description.lists} - {""})
    facts.append(("identity", f"column {', '.join(identity)}" if identity else "no column says who is pictured"))
    return [description.root, render_table([(f"  {name}", fact) for name, fact in facts], "l")]


def _render_counts(description: Description) -> list[str]:
    """Renders rows by class, the official ones beside them; classes that are not learnt only where there are rows."""
    head: list[list[str]] = [["expression"], [""]]
    columns: list[dict[str, int] | None] = []
    for item in description.lists:
        head[0] += [item.summary.name, ""]
        head[1] += ["found", "official" if item.official else ""]
        columns.append(item.counts | {"no such code": item.other_expression, "all": item.summary.rows})
        columns.append(item.official and item.official | {"all": sum(item.official.values())})
    body = []
    for code, name in enumerate((*CLASSES, "no such code", "all")):
        counts = [column and column.get(name, 0) for column in columns]
        if any(counts) or name in EXPRESSIONS:
            title = f"{code:>2} {name}" if name in CLASSES else name
            body.append([title, *("" if count is None else f"{count:,}" for count in counts)])
    return [render_table(head + body, "lr")]


def _render_va(description: Description) -> list[str]:
    table = [["valence and arousal", "without", "valence mean", "official", "sd", "arousal mean", "official", "sd"]]
    for item in description.lists:
        values = [item.va[name][key] for name in VALENCE_AROUSAL for key in ("mean", "official_mean", "deviation")]
        shown = ["" if value is None else f"{value:.2f}" for value in values]
        table.append([item.summary.name, f"{item.without_va:.1%}", *shown])
    return [render_table(table, "lr")]


def _render_given(description: Description) -> list[str]:
    table = [["rows with", "face box", "landmarks"]]
    for item in description.lists:
        shares = (item.with_box / item.summary.rows, item.with_landmarks / item.summary.rows)
        table.append([item.summary.name, *(f"{share:.1%}" for share in shares)])
    return [render_table(table, "lr")]


def _tell_examples(count: int, examples: tuple[str, ...]) -> str:
    return f"{count:,}: {', '.join(examples)}" + (", …" if count > len(examples) else "")


def _tell_votes(description: Description) -> str:
    if (votes := description.votes) is None:
        return "the votes" if description.layout in (FER, FERPLUS) else "none"
    more = [
        f"{count:,} {what}"
        for count, what in (
            (votes.unlisted, "of images in no list"),
            (votes.without_expression, "without a vote for one of the eight"),
        )
        if count
    ]
    return f"{votes.labelled:,} rows, from {votes.rows:,} rows of votes" + (f" ({', '.join(more)})" if more else "")
