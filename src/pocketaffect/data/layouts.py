"""Reads a data set's annotation lists into one table, every value as it was written and as a number.

Known layout: AffectNet's CSV release. A data folder holds `training.csv` and `validation.csv`, optionally
`automatically_annotated.csv`, and the images below `Manually_Annotated_Images/` (`Automatically_Annotated_Images/`
for the automatic list). Some copies have no header line, a byte-order mark or Windows line ends.
"""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketaffect.errors import PocketAffectError

if TYPE_CHECKING:
    import pandas as pd

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
LINE_END: Final = re.compile(rb"\r\n|\r|\n")


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

    content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PocketAffectError(
            f"{file}: not readable as CSV", found="UTF-16", allowed="UTF-8", todo="save it as UTF-8"
        )
    if not content.strip():
        raise PocketAffectError(f"{file}: no rows", found="an empty file", allowed="AffectNet's columns")
    names, start = _read_header(file, content)
    raw, broken = _split_columns(file, content[start:], names)
    above = len(LINE_END.findall(content, 0, start))
    if len(raw) == 0:
        first = f"; line {broken[0][0] + above}: {broken[0][1][:80]!r}" if broken else ""
        raise PocketAffectError(
            f"{file}: no rows",
            found=f"{len(broken)} line(s) without the {len(names)} columns{first}" if broken else "a header line alone",
            allowed="at least one image",
        )
    rows = pd.DataFrame({"list": item.name, "line": raw["line"] + above, "split": item.split})
    path = _clean(raw["subDirectory_filePath"])
    # Two spellings of one path must not pass as two images.
    tidy = path.str.replace(r"/(\.?/)+", "/", regex=True).str.removeprefix("./")
    rows["path"] = item.image_folder + "/" + tidy.where(tidy != "", "?")
    for name in NUMBER_COLUMNS:
        rows[name] = pd.to_numeric(_clean(raw[name]), errors="coerce").astype("float64")
        rows[f"{name}_text"] = raw[name]
    rows["subDirectory_filePath"] = path
    rows["facial_landmarks"] = _clean(raw["facial_landmarks"])
    unsplit = pd.DataFrame(broken, columns=["line", "text"]).astype({"line": "int64"})
    unsplit["line"] += above
    unsplit.insert(0, "list", item.name)
    return rows, unsplit


def _clean(text: pd.Series[str]) -> pd.Series[str]:
    return text.str.strip().str.strip('"').str.strip()


def _read_header(file: Path, content: bytes) -> tuple[list[str], int]:
    """The column names, and where the rows start; AffectNet's own order where there is no header line."""
    end = LINE_END.search(content, len(content) - len(content.lstrip()))
    first = content[: end.start() if end else None].decode("utf-8", "replace").strip()
    names = [name.strip().strip('"') for name in first.split(",")]
    if CSV_COLUMNS[0] not in names and "expression" not in names:
        if len(names) == len(CSV_COLUMNS):
            return list(CSV_COLUMNS), 0
        raise PocketAffectError(
            f"{file}, first line: neither a header nor a row",
            found=f"{len(names)} column(s): {first[:80]!r}",
            allowed=f"a header with {', '.join(CSV_COLUMNS)}; or rows of these {len(CSV_COLUMNS)} columns",
        )
    for problem, wrong in (
        ("missing", [name for name in CSV_COLUMNS if name not in names]),
        ("given twice", [name for name in CSV_COLUMNS if names.count(name) > 1]),
    ):
        if wrong:
            raise PocketAffectError(
                f"{file}: column(s) {problem}: {', '.join(wrong)}",
                found=", ".join(names),
                allowed=", ".join(CSV_COLUMNS),
            )
    return names, end.end() if end else len(content)


def _split_columns(file: Path, content: bytes, names: list[str]) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The table as text with a `line` column from 1, and the lines that do not have these columns.

    Lines of nothing but separators are no rows. A quote does not join lines: one that is never closed would swallow
    them.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.csv

    broken: list[tuple[int, str]] = []

    def keep_broken(row: pyarrow.csv.InvalidRow) -> str:
        broken.append((int(row.number), str(row.text)))
        return "skip"

    if not content:  # Arrow calls this an error
        return pd.DataFrame(columns=[*CSV_COLUMNS, "line"]), []
    try:
        pa.array([content], pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:  # bytes that are no UTF-8: keep the rows, show the bytes as U+FFFD
        content = content.decode("utf-8", "replace").encode()
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            # Arrow numbers the rows for keep_broken only when it reads in one thread.
            read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 24),
            parse_options=pyarrow.csv.ParseOptions(
                quote_char=False, invalid_row_handler=keep_broken, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=list(CSV_COLUMNS),
                strings_can_be_null=False,
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        raise PocketAffectError(f"{file}: not readable as CSV", found=str(error)) from None
    frame = table.to_pandas().astype("str")
    bad = {number for number, _ in broken}
    lines = (line for line in range(1, 1 + len(frame) + len(broken)) if line not in bad)
    frame["line"] = pd.array(list(lines), dtype="int64")
    pathless = frame[_clean(frame[CSV_COLUMNS[0]]) == ""]
    blank = pathless.index[(pathless[list(CSV_COLUMNS)].apply(_clean) == "").all(axis=1)]
    kept = [(number, text[:500]) for number, text in broken if text.strip(', "\t')]
    return frame.drop(index=blank).reset_index(drop=True), kept
