"""FER2013 with FER+'s votes: two tables whose rows stand side by side, or the folders that FER+'s own script makes.

A picture of fer2013.csv is a cell of 2,304 numbers. The file is taken as an archive of such cells, under the names that
fer2013new.csv has for them: each is read where it lies, like a member of a tar. PrivateTest is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect.data.release.delimited import check_header, match_header, split_cells
from pocketaffect.data.release.rows import ListSummary, RowTable, label_rows
from pocketaffect.data.release.votes import VOTE_COLUMNS, count_votes, judge_votes, name_columns, read_cells
from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    from pocketaffect.data.release.folder import DataFolder

PIXELS_FILE: Final = "fer2013.csv"
LABELS_FILE: Final = "fer2013new.csv"
PIXEL_COLUMNS: Final = ("pixels", "Usage")
LABEL_COLUMNS: Final = ("Usage", "Image name", *VOTE_COLUMNS)
USAGES: Final = {"Training": "train", "PublicTest": "validation"}
HELD_OUT: Final = "PrivateTest"
"""Rows of this usage are for whoever judges a finished network: nothing here reads their pictures."""

FER_FOLDERS: Final = {"FER2013Train": "train", "FER2013Valid": "validation"}
"""FER+'s folders; a third, FER2013Test, holds the pictures of PrivateTest."""

FOLDER_LIST: Final = "label.csv"
MAX_LINE: Final = 1 << 16
"""Bytes of a line; 2,304 numbers take up to 9,216."""


def scan_pixels(base: Path) -> pa.Table:
    """Lists the pictures of fer2013.csv that are not held out, by their names.

    Returns:
        path, offset and length of the numbers in bytes, deflated (never); of two rows of one name, the first.

    Raises:
        PocketAffectError: The two files do not stand row by row for the same pictures, or lack columns.
    """
    with (base / LABELS_FILE).open("rb") as stream:
        faces = _read_faces(stream, base / LABELS_FILE)
    cells = [*_find_cells(base / PIXELS_FILE)]
    usages, starts, lengths = zip(*cells, strict=True) if cells else ((), (), ())
    same = len(usages) == len(faces) and faces["Usage"].to_numpy() == np.array(usages)
    if not np.all(same):
        counts = f"{len(usages):,} and {len(faces):,} rows"
        raise PocketAffectError(
            f"{base}: {PIXELS_FILE} and {LABELS_FILE} do not stand row by row for the same pictures",
            found=counts if same is False else f"another Usage in row {int(np.argmin(same)) + 1:,} of each",
            allowed="FER2013's 35,887 pictures in their order in both",
            todo=f"put both back as they came: {PIXELS_FILE} of the Kaggle challenge, {LABELS_FILE} of "
            "github.com/microsoft/FERPlus",
        )
    places = pd.DataFrame({"path": faces["Image name"], "offset": starts, "length": lengths})
    places = places[faces["Usage"].isin(list(USAGES))].drop_duplicates("path")
    schema = {"path": pa.large_string(), "offset": pa.int64(), "length": pa.int64(), "deflated": pa.bool_()}
    return pa.Table.from_pandas(places.assign(deflated=False), pa.schema(schema), preserve_index=False)


def _find_cells(file: Path) -> Iterator[tuple[str, int, int]]:
    """Finds usage, and where the pixels are, of each row; a line that lacks cells has pixels of no length."""
    with file.open("rb") as stream:
        header = stream.readline(MAX_LINE)
        names = match_header(split_cells(header.decode("utf-8-sig", "replace")), PIXEL_COLUMNS) or []
        check_header(names, PIXEL_COLUMNS, f"{file}, line 1")
        pixels, usage = (names.index(name) for name in PIXEL_COLUMNS)
        start = len(header)
        while line := stream.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise PocketAffectError(f"{file}: a line of more than {MAX_LINE:,} bytes, at byte {start:,}")
            cells = line.rstrip(b"\r\n").split(b",")
            whole = len(cells) == len(names)
            before = sum(len(cell) + 1 for cell in cells[:pixels]) if whole else 0
            told = cells[usage].strip(b' "').decode("utf-8", "replace") if whole else ""
            yield told, start + before, len(cells[pixels]) if whole else 0
            start += len(line)


def _read_faces(stream: BinaryIO, file: Path) -> pd.DataFrame:
    """Reads LABEL_COLUMNS, by line from 2 on. A face that nobody saw has no name there: it gets one by its line."""
    faces = name_columns(read_cells(stream, file), LABEL_COLUMNS, file)
    unnamed = pd.Series([f"unnamed-{line}.png" for line in faces.index], faces.index, dtype="str")
    return faces.assign(**{"Image name": faces["Image name"].where(faces["Image name"] != "", unnamed)})


def read_fer(folder: DataFolder, table: RowTable) -> tuple[list[ListSummary], npt.NDArray[np.float32], list[str]]:
    """Reads the rows of fer2013new.csv that are not held out into `table`, as `votes.judge_votes` labels them.

    Returns:
        What each part turned out to be; soft labels float32 [n, 8] in the table's order, NaN for none; a line on what
        is held out.

    Raises:
        PocketAffectError: Columns are missing, or votes are no numbers from 0 up.
    """
    file = folder.root / folder.top / LABELS_FILE
    with folder.open_file(LABELS_FILE) as stream:
        faces = _read_faces(stream, file)
    read = []
    for usage, split in USAGES.items():
        mine = faces[faces["Usage"] == usage]
        read.append(_add_faces(table, f"{LABELS_FILE} {usage}", split, mine, mine["Image name"], file))
    summaries, soft = zip(*read, strict=True)
    held = int((~faces["Usage"].isin(list(USAGES))).sum())
    return list(summaries), np.concatenate(soft), [f"{held:,} rows of {HELD_OUT} are held out and never read"]


def read_fer_folders(
    folder: DataFolder, table: RowTable
) -> tuple[list[ListSummary], npt.NDArray[np.float32], list[str]]:
    """Reads the `label.csv` of FER+'s own folders likewise: picture, box (all of it), votes; no header line."""
    read = []
    for name, split in FER_FOLDERS.items():
        file = folder.root / folder.top / name / FOLDER_LIST
        with folder.open_file(f"{name}/{FOLDER_LIST}") as stream:
            cells = read_cells(stream, file)
        if cells.shape[1] != 2 + len(VOTE_COLUMNS):
            raise PocketAffectError(
                f"{file}: not FER+'s columns",
                found=f"{cells.shape[1]} columns",
                allowed=f"a picture, its box and {len(VOTE_COLUMNS)} votes, without a header line",
            )
        faces = cells.set_axis(["Image name", "box", *VOTE_COLUMNS], axis="columns")
        read.append(_add_faces(table, f"{name}/{FOLDER_LIST}", split, faces, f"{name}/" + faces["Image name"], file))
    summaries, soft = zip(*read, strict=True)
    return list(summaries), np.concatenate(soft), ["FER2013Test/ is held out and never read"]


def _add_faces(
    table: RowTable, name: str, split: str, faces: pd.DataFrame, paths: pd.Series[str], file: Path
) -> tuple[ListSummary, npt.NDArray[np.float32]]:
    """Adds voted faces as a block of rows, and gives their soft labels: float32 [n, 8]."""
    if faces.empty:
        raise PocketAffectError(f"{file}: no rows", found=f"none of {name}", allowed="at least one face")
    lines = faces.index.to_numpy(dtype=np.int64)
    expression, soft, affect = judge_votes(count_votes(faces, file))
    table.add(name, split, label_rows(lines, paths, expression, affect))
    return ListSummary(name, header=file.name == LABELS_FILE, rows=len(faces), unsplit=0, identity=""), soft
