"""Reads a data set's annotation lists into one table, every value as it was written and as a number.

Known layout: AffectNet's CSV release. A data folder holds `training.csv` and `validation.csv`, optionally
`automatically_annotated.csv`, and the images below `Manually_Annotated_Images/` (`Automatically_Annotated_Images/`
for the automatic list). Some copies have no header line, a byte-order mark or Windows line ends.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
BOX_COLUMNS: Final = ("face_x", "face_y", "face_width", "face_height")
NUMBER_COLUMNS: Final = (*BOX_COLUMNS, "expression", "valence", "arousal")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class AnnotationList:
    """One CSV file of the release: its name, its split, and the folder its image paths start from."""

    name: str
    split: str
    image_folder: str
    required: bool


LISTS: Final = (
    AnnotationList("training.csv", "train", "Manually_Annotated_Images", required=True),
    AnnotationList("validation.csv", "validation", "Manually_Annotated_Images", required=True),
    AnnotationList("automatically_annotated.csv", "train", "Automatically_Annotated_Images", required=False),
)


def read_annotations(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads every list below `root`.

    Returns:
        The rows (`list`, `line`, `split`, `path` relative to `root`, `CSV_COLUMNS` as numbers where they are
        numbers, NaN where the text is none; the written text beside them as `<column>_text`), and the rows
        that could not be split into columns (`list`, `line`, `text`).

    Raises:
        PocketAffectError: No folder, no such layout in it, a list without its columns or without rows.
    """
    import pandas as pd

    if not root.is_dir():
        raise PocketAffectError(
            f"{root}: no such data folder",
            found="nothing" if not root.exists() else "a file",
            allowed=f"a folder with {' and '.join(item.name for item in LISTS if item.required)}",
            todo="`pocketaffect data use PATH` to point the pipeline at your copy, `pocketaffect data sample` "
            "for the embedded sample, then `dvc repro`",
        )
    missing = [item.name for item in LISTS if item.required and not (root / item.name).is_file()]
    if missing:
        entries = sorted(entry.name for entry in root.iterdir())
        raise PocketAffectError(
            f"{root}: not AffectNet's CSV release, {' and '.join(missing)} missing",
            found=", ".join(entries[:8]) + (" …" if len(entries) > 8 else "") if entries else "an empty folder",
            allowed="training.csv, validation.csv and Manually_Annotated_Images/ side by side",
            todo="`pocketaffect data use PATH` with the folder that holds the two lists",
        )
    tables, broken = [], []
    for item in LISTS:
        if (root / item.name).is_file():
            table, unsplit = _read_list(root / item.name, item)
            tables.append(table)
            broken.append(unsplit)
    return pd.concat(tables, ignore_index=True), pd.concat(broken, ignore_index=True)


def _read_list(file: Path, item: AnnotationList) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    content = file.read_bytes().removeprefix(BYTE_ORDER_MARK)
    if not content.strip():
        raise PocketAffectError(f"{file}: no rows", found="an empty file", allowed="AffectNet's columns")
    names, headed = _column_names(file, content)
    raw, broken = _split_columns(file, content, names, headed=headed)
    if len(raw) == 0:
        raise PocketAffectError(f"{file}: no rows", found="a header line alone", allowed="at least one image")
    rows = pd.DataFrame({"list": item.name, "line": raw["line"], "split": item.split})
    path = raw["subDirectory_filePath"].str.strip()
    rows["path"] = item.image_folder + "/" + path.where(path != "", "?")
    for name in NUMBER_COLUMNS:
        rows[name] = pd.to_numeric(raw[name].str.strip(), errors="coerce").astype("float64")
        rows[f"{name}_text"] = raw[name]
    rows["subDirectory_filePath"] = path
    rows["facial_landmarks"] = raw["facial_landmarks"]
    unsplit = pd.DataFrame(broken, columns=["line", "text"])
    unsplit.insert(0, "list", item.name)
    return rows, unsplit


def _column_names(file: Path, content: bytes) -> tuple[list[str], bool]:
    """Names from the header line; AffectNet's own order, and False, where there is none."""
    first = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    names = [name.strip().strip('"') for name in first.split(",")]
    if CSV_COLUMNS[0] not in names and "expression" not in names:
        if len(names) == len(CSV_COLUMNS):
            return list(CSV_COLUMNS), False
        raise PocketAffectError(
            f"{file}, line 1: neither a header nor a row",
            found=f"{len(names)} column(s): {first[:80]!r}",
            allowed=f"a header with {', '.join(CSV_COLUMNS)}; or rows of these {len(CSV_COLUMNS)} columns",
        )
    missing = [name for name in CSV_COLUMNS if name not in names]
    if missing:
        raise PocketAffectError(
            f"{file}: column(s) missing: {', '.join(missing)}",
            found=", ".join(names),
            allowed=", ".join(CSV_COLUMNS),
        )
    return names, True


def _split_columns(
    file: Path, content: bytes, names: list[str], *, headed: bool
) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The table as text with a `line` column, and the lines that do not have these columns."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.csv

    broken: list[tuple[int, str]] = []

    def keep_broken(row: pyarrow.csv.InvalidRow) -> str:
        broken.append((int(row.number), str(row.text)[:500]))
        return "skip"

    def parse(data: bytes) -> pa.Table:
        broken.clear()
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            # Arrow numbers the rows for keep_broken only when it reads in one thread.
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=1 if headed else 0, use_threads=False, block_size=1 << 24
            ),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=keep_broken, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=list(CSV_COLUMNS),
                strings_can_be_null=False,
                null_values=[],
            ),
        )

    try:
        try:
            table = parse(content)
        except pa.ArrowInvalid:  # bytes that are no UTF-8: keep the rows, show the bytes as U+FFFD
            table = parse(content.decode("utf-8", "replace").encode())
    except pa.ArrowInvalid as error:
        raise PocketAffectError(f"{file}: not readable as CSV", found=str(error)) from None
    frame = table.to_pandas().astype("str")
    first = 2 if headed else 1
    total = len(frame) + len(broken)
    bad = {number for number, _ in broken}
    frame["line"] = pd.array([line for line in range(first, first + total) if line not in bad], dtype="int64")
    blank = (frame[list(CSV_COLUMNS)] == "").all(axis=1)
    return frame[~blank].reset_index(drop=True), broken
