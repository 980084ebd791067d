"""FER2013 with the votes of FER+, whose rows stand side by side in `fer2013.csv` and `fer2013new.csv`.

A picture of fer2013.csv is a cell of 2,304 numbers. The file is taken as an archive of such cells, under the names that
fer2013new.csv has for them: each is read where it lies, like a member of a tar. PrivateTest is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pocketaffect.data.release.headers import check_header, match_header
from pocketaffect.data.release.rows import ListSummary, RowTable
from pocketaffect.data.release.votes import VOTE_COLUMNS, judge_votes
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS

if TYPE_CHECKING:
    from pocketaffect.data.release.folder import DataFolder

PIXELS_FILE: Final = "fer2013.csv"
LABELS_FILE: Final = "fer2013new.csv"
PIXEL_COLUMNS: Final = ("pixels", "Usage")
LABEL_COLUMNS: Final = ("Usage", "Image name", *VOTE_COLUMNS)
USAGES: Final = {"Training": "train", "PublicTest": "validation"}
HELD_OUT: Final = "PrivateTest"
"""Rows of this usage are for whoever judges a finished network: nothing here reads their pictures."""

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
    usages, starts, lengths = zip(*_find_cells(base / PIXELS_FILE), strict=True)
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
        names = _match_names(header.decode("utf-8-sig", "replace").strip().split(","), PIXEL_COLUMNS, file)
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


def _match_names(cells: Sequence[str], wanted: Sequence[str], file: Path) -> list[str]:
    names = match_header([cell.strip(' "') for cell in cells], wanted) or []
    check_header(names, wanted, f"{file}, line 1")
    return names


def _read_faces(stream: BinaryIO, file: Path) -> pd.DataFrame:
    """Reads LABEL_COLUMNS, by line from 2 on. A face that nobody saw has no name there: it gets one by its line."""
    cells = _read_cells(stream, file)
    names = _match_names(cells.iloc[0].tolist(), LABEL_COLUMNS, file)
    faces = cells.iloc[1:].set_axis(names, axis="columns")[list(LABEL_COLUMNS)]
    unnamed = pd.Series([f"unnamed-{line}.png" for line in faces.index], faces.index, dtype="str")
    return faces.assign(**{"Image name": faces["Image name"].where(faces["Image name"] != "", unnamed)})


def _read_cells(stream: BinaryIO, file: Path) -> pd.DataFrame:
    """Reads a table's cells as texts, by line."""
    try:
        cells = pd.read_csv(
            stream, header=None, dtype="str", keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig"
        )
    except ValueError as error:  # no UTF-8, nothing in it, or lines of more cells than the first
        raise PocketAffectError(f"{file}: not readable as CSV", found=" ".join(str(error).split())) from None
    return pd.DataFrame({name: cells[name].str.strip() for name in cells}).set_axis(cells.index + 1)


def read_fer(folder: DataFolder, table: RowTable) -> tuple[list[ListSummary], npt.NDArray[np.float32]]:
    """Reads the rows of fer2013new.csv that are not held out into `table`, as `votes.judge_votes` labels them.

    Returns:
        What each part turned out to be; soft labels float32 [n, 8] in the table's order, NaN for none.

    Raises:
        PocketAffectError: Columns are missing, or votes are no numbers from 0 up.
    """
    file = folder.root / folder.top / LABELS_FILE
    with folder.open_file(LABELS_FILE) as stream:
        faces = _read_faces(stream, file)
    summaries, soft = [], []
    for usage, split in USAGES.items():
        mine = faces[faces["Usage"] == usage]
        name = f"{LABELS_FILE} {usage}"
        soft.append(add_faces(table, name, split, mine, mine["Image name"], file))
        summaries.append(ListSummary(name, header=True, rows=len(mine), unsplit=0, identity=""))
    return summaries, np.concatenate(soft)


def add_faces(
    table: RowTable, name: str, split: str, faces: pd.DataFrame, paths: pd.Series[str], file: Path
) -> npt.NDArray[np.float32]:
    """Adds voted faces as a block of rows, and gives their soft labels: float32 [n, 8]."""
    if faces.empty:
        raise PocketAffectError(f"{file}: no rows", found=f"none of {name}", allowed="at least one face")
    lines = faces.index.to_numpy(dtype=np.int64)
    votes = faces[list(VOTE_COLUMNS)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if not (sound := ((votes >= 0) & np.isfinite(votes)).all(axis=1)).all():
        row = int(np.argmin(sound))
        raise PocketAffectError(
            f"{file}, line {lines[row]}: no counts of votes ({(~sound).sum()} such rows)",
            found=", ".join(faces[list(VOTE_COLUMNS)].iloc[row])[:200],
            allowed=f"{len(VOTE_COLUMNS)} numbers, 0 or more",
        )
    expression, soft, affect = judge_votes(votes)
    none = np.full(len(faces), np.nan)
    table.add(
        name,
        split,
        {
            "line": lines,
            "path": pa.array(paths, pa.string()),
            "listed_path": pa.array(paths, pa.string()),
            **dict.fromkeys(BOX_COLUMNS, none),
            "box_given": np.zeros(len(faces), dtype=bool),
            "expression": expression,
            "valence": affect[:, 0].copy(),
            "arousal": affect[:, 1].copy(),
            "unread": pa.repeat("", len(faces)),
            "landmark_count": np.zeros(len(faces), dtype=np.int32),
            **dict.fromkeys(EYE_COLUMNS, none.astype(np.float32)),
            "identity": pa.repeat("", len(faces)),
        },
    )
    return soft
