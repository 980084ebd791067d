"""AffectNet's CSV release: one line an image, with face box, landmarks, expression, valence and arousal.

`training.csv`, `validation.csv` and perhaps `automatically_annotated.csv` lie beside the image folders, or in the
`…_file_lists` folders that the release's archives unpack to. Some copies have no header line, a byte-order mark or
Windows line ends. Landmarks, nine tenths of a list's bytes, are reduced to what is used of them while reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.release import delimited
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.rows import (
    MAX_SHOWN,
    NUMBER_COLUMNS,
    ListSummary,
    RowTable,
    describe_unread,
    reduce_landmarks,
)
from pocketaffect.data.release.votes import VOTES_FILE
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS

CSV_COLUMNS: Final = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
IDENTITY_COLUMNS: Final = ("identity", "subject", "person_id")
"""Names of an optional column that says who is pictured."""


@dataclass(frozen=True)
class AnnotationList:
    """One CSV file of the release: its name, its split, where it may lie and where its image paths may start from."""

    name: str
    split: str
    required: bool
    list_folders: tuple[str, ...]
    image_folders: tuple[str, ...]


_MANUAL: Final = (
    ("", "Manually_Annotated_file_lists/", "Manually_Annotated/"),
    ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images"),
)
_AUTOMATIC: Final = (
    ("", "Automatically_Annotated_file_lists/", "Automatically_annotated_file_list/", "Automatically_Annotated/"),
    ("Automatically_Annotated_Images", "Automatically_Annotated/Automatically_Annotated_Images"),
)

LISTS: Final = (
    AnnotationList("training.csv", "train", True, *_MANUAL),
    AnnotationList("validation.csv", "validation", True, *_MANUAL),
    AnnotationList("automatically_annotated.csv", "train", False, *_AUTOMATIC),
)


@dataclass(frozen=True)
class ListFile:
    """A list that lies in the data folder: its kind, its path there, and the folder its image paths start from."""

    kind: AnnotationList
    path: str
    image_folder: str


def find_lists(folder: DataFolder) -> list[ListFile]:
    """Finds the lists that lie in the folder, each at the first of the places where it may lie."""
    found = []
    for kind in LISTS:
        path = next((start + kind.name for start in kind.list_folders if folder.has(start + kind.name)), None)
        if path is not None:
            images = next((name for name in kind.image_folders if folder.has(name + "/")), kind.image_folders[0])
            found.append(ListFile(kind, path, images))
    return found


def find_votes(folder: DataFolder, lists: Sequence[ListFile]) -> str | None:
    """Finds FER+'s votes at the folder's top or beside one of its lists."""
    places = ("", *(file.path.removesuffix(file.kind.name) for file in lists))
    return next((place + VOTES_FILE for place in places if folder.has(place + VOTES_FILE)), None)


def read_csv_release(
    folder: DataFolder, lists: Sequence[ListFile], table: RowTable
) -> tuple[list[ListSummary], list[tuple[str, int, str]]]:
    """Reads the lists into `table`.

    Returns:
        What each list turned out to be; the lines that could not be split into columns (`list`, `line`, `text`).

    Raises:
        PocketAffectError: A list without its columns or without rows.
    """
    summaries: list[ListSummary] = []
    unsplit: list[tuple[str, int, str]] = []
    for file in lists:
        summary, broken = _read_list(folder, file, table)
        summaries.append(summary)
        unsplit += broken
    return summaries, unsplit


def _read_list(folder: DataFolder, file: ListFile, table: RowTable) -> tuple[ListSummary, list[tuple[str, int, str]]]:
    name = file.kind.name
    columns: _Columns | None = None
    rows = 0
    unsplit: list[tuple[str, int, str]] = []
    with folder.open_file(file.path) as stream:
        for lines in delimited.read_lines(stream, f"{folder.root / file.path}"):
            if columns is None:
                columns, lines = _find_columns(lines, f"{folder.root / file.path}")
            block = delimited.split_columns(lines, columns.names, columns.wanted)
            unsplit += zip(
                [name] * len(block.unsplit.numbers),
                block.unsplit.numbers.tolist(),
                block.unsplit.text.to_pylist(),
                strict=True,
            )
            if len(block.numbers):
                table.add(name, file.kind.split, _read_block(block, columns, file.image_folder))
                rows += len(block.numbers)
    if columns is None:
        raise PocketAffectError(
            f"{folder.root / file.path}: no rows", found="an empty file", allowed="AffectNet's columns"
        )
    if not rows:
        first = f"; line {unsplit[0][1]}: {unsplit[0][2][:80]!r}" if unsplit else ""
        raise PocketAffectError(
            f"{folder.root / file.path}: no rows",
            found=f"{len(unsplit)} line(s) without the {len(columns.names)} columns{first}"
            if unsplit
            else "a header line alone",
            allowed="at least one image",
        )
    return ListSummary(name, columns.header, rows, len(unsplit), columns.identity), unsplit


@dataclass(frozen=True)
class _Columns:
    names: list[str]
    header: bool
    identity: str

    @property
    def wanted(self) -> list[str]:
        return [*CSV_COLUMNS, self.identity] if self.identity else list(CSV_COLUMNS)


def _find_columns(lines: delimited.Lines, name: str) -> tuple[_Columns, delimited.Lines]:
    """Finds the columns, in AffectNet's own order where the first line is a row; and the lines that are rows."""
    first = lines.text[0].as_py()
    cells = delimited.split_cells(first)
    names = delimited.match_header(cells, (*CSV_COLUMNS, *IDENTITY_COLUMNS))
    if names is None:
        if len(cells) == len(CSV_COLUMNS):
            return _Columns(list(CSV_COLUMNS), header=False, identity=""), lines
        raise PocketAffectError(
            f"{name}, first line: neither a header nor a row",
            found=f"{len(cells)} column(s): {first[:80]!r}",
            allowed=f"a header with {', '.join(CSV_COLUMNS)}; or rows of these {len(CSV_COLUMNS)} columns",
        )
    delimited.check_header(names, CSV_COLUMNS, f"{name}, line {lines.numbers[0]}", known=IDENTITY_COLUMNS)
    identity = next((column for column in IDENTITY_COLUMNS if column in names), "")
    return _Columns(names, header=True, identity=identity), delimited.Lines(lines.numbers[1:], lines.text[1:])


def _read_block(block: delimited.Rows, columns: _Columns, image_folder: str) -> dict[str, object]:
    text = block.columns
    numbers = {name: delimited.parse_numbers(text[name]) for name in NUMBER_COLUMNS}
    box_given = np.zeros(len(block.numbers), dtype=bool)
    for name in BOX_COLUMNS:
        box_given |= pc.not_equal(text[name], "").to_numpy(zero_copy_only=False)
    unread = []
    for name in NUMBER_COLUMNS:
        missing = np.isnan(numbers[name]) & (box_given | (name not in BOX_COLUMNS))
        rows = np.flatnonzero(missing)
        found = [repr(cell[:MAX_SHOWN]) for cell in text[name].take(pa.array(rows)).to_pylist()]
        unread.append((name, rows, found))
    counts, eyes = _read_landmarks(text["facial_landmarks"])
    listed = text["subDirectory_filePath"]
    return {
        "line": block.numbers,
        "path": pc.binary_join_element_wise(image_folder, delimited.tidy_paths(listed), "/"),
        "listed_path": listed,
        **numbers,
        "box_given": box_given,
        "unread": describe_unread(len(listed), unread),
        "landmark_count": counts,
        **{name: eyes[:, place].copy() for place, name in enumerate(EYE_COLUMNS)},
        "identity": text[columns.identity] if columns.identity else pa.repeat("", len(listed)),
    }


def _read_landmarks(text: pa.StringArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    absent = pc.equal(text, "")
    if absent.true_count:
        text = pc.if_else(absent, pa.scalar(None, pa.string()), text)
    parts = pc.split_pattern(text, ";")
    offsets = parts.offsets.to_numpy().astype(np.int64)
    return reduce_landmarks(delimited.parse_numbers(parts.values), offsets)
