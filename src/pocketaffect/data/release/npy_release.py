"""AffectNet's 8-label release: `train_set/` and `val_set/`, a picture and up to four small arrays an image.

`images/N.jpg` has beside it `annotations/N_exp.npy`, `N_val.npy` and `N_aro.npy`, arrays of one value that is a number
or its text, and `N_lnd.npy`, the landmarks. There is no face box. A million small files are read in blocks, in the
order in which they lie in their archive, and decoded from bytes without ever unpickling one: what stands where a number
should be is told, not raised.
"""

import functools
import io
import math
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.release.delimited import parse_numbers
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.data.release.rows import (
    LABEL_COLUMNS,
    MAX_SHOWN,
    ListSummary,
    RowTable,
    describe_unread,
    label_rows,
    reduce_landmarks,
)
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EYE_COLUMNS
from pocketaffect.names import SYSTEM_FILE

SETS: Final = {"train_set": "train", "val_set": "validation"}
KINDS: Final = dict(zip(LABEL_COLUMNS, ("exp", "val", "aro"), strict=True))
LANDMARKS: Final = "lnd"
ANNOTATIONS: Final = (*KINDS.values(), LANDMARKS)
ANNOTATION_FILE: Final = rf"^annotations/(?P<number>\d{{1,18}})_(?P<kind>{'|'.join(ANNOTATIONS)})\.npy$"
IMAGE_FILE: Final = r"^images/(?P<number>\d{1,18})\.[^./]+$"
"""A file of any suffix: its content says whether it is an image."""

BLOCK_ROWS: Final = 8192
NO_FILE: Final = "no file"
MAX_BYTES: Final = 1 << 16
"""A larger annotation file is none: the landmarks take about a kilobyte."""


def read_npy_release(folder: DataFolder, table: RowTable) -> tuple[list[ListSummary], list[tuple[str, int, str]]]:
    """Reads both sets into `table`: a row for each number that has a picture or an annotation.

    A picture without annotations is a row without labels; annotations without a picture are a row whose image is
    missing.

    Returns:
        What each set turned out to be; and the files whose names are no picture's or annotation's (`list`, `line` 0,
        `text`).

    Raises:
        PocketAffectError: A set without pictures and annotations.
    """
    summaries: list[ListSummary] = []
    unsplit: list[tuple[str, int, str]] = []
    for name, split in SETS.items():
        found, other = _list_set(folder, name)
        if not len(found.lines):
            raise PocketAffectError(
                f"{folder.root / name}: no rows",
                found=f"{len(other):,} file(s), none of them named so" if other else "no files",
                allowed="images/<number>.jpg and annotations/<number>_exp.npy, _val.npy, _aro.npy, _lnd.npy",
            )
        located = folder.locate(pd.Series(found.annotations, dtype="str"))
        for start in range(0, len(found.lines), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            contents = _read_files(folder, found, located, found.files[block].reshape(-1))
            columns = _decode_block(found.lines[block], found.paths[block], contents.reshape(-1, len(ANNOTATIONS)))
            table.add(name, split, columns)
        unsplit += [(name, 0, text) for text in other]
        summaries.append(ListSummary(name, header=False, rows=len(found.lines), unsplit=len(other), identity=""))
    return summaries, unsplit


class _Set(NamedTuple):
    """The rows of a set, by number."""

    lines: npt.NDArray[np.int64]
    paths: pa.StringArray
    """The images' paths below the data folder."""
    files: npt.NDArray[np.int64]
    """[n, 4] which of `annotations` each of ANNOTATIONS is in; -1 for none."""
    annotations: pa.StringArray
    """The annotation files' paths below the data folder."""


def _list_set(folder: DataFolder, name: str) -> tuple[_Set, list[str]]:
    """Lists the set's rows, and the files that are none of them (without the set's name)."""
    files = pc.utf8_slice_codeunits(pa.array(folder.names(f"{name}/"), pa.string()), len(name) + 1)
    annotations, images = pc.extract_regex(files, ANNOTATION_FILE), pc.extract_regex(files, IMAGE_FILE)
    used = pc.or_(annotations.is_valid(), images.is_valid())
    other = files.filter(pc.invert(pc.or_(used, pc.match_substring_regex(files, SYSTEM_FILE)))).to_pylist()
    numbers = annotations.drop_null().field("number")
    pictured = images.drop_null().field("number")
    known = pc.unique(pa.chunked_array([numbers, pictured], pa.string()))
    order = np.lexsort((np.array(known.to_pylist(), dtype="U18"), known.cast(pa.int64()).to_numpy()))
    known = known.take(pa.array(order))
    matrix = np.full((len(known), len(ANNOTATIONS)), -1, dtype=np.int64)
    kinds = pc.index_in(annotations.drop_null().field("kind"), value_set=pa.array(ANNOTATIONS)).to_numpy()
    matrix[pc.index_in(numbers, value_set=known).to_numpy(), kinds] = np.arange(len(numbers))

    places = pc.index_in(pictured, value_set=known).to_numpy().astype(np.int64)
    without = np.setdiff1d(np.arange(len(known)), places)
    guessed = pc.binary_join_element_wise("images/", known.take(pa.array(without)), ".jpg", "")
    paths = pa.chunked_array([files.filter(images.is_valid()), guessed], pa.string()).combine_chunks()
    places = np.concatenate([places, without])
    order = np.argsort(places, kind="stable")
    paths = pc.binary_join_element_wise(name, paths.take(pa.array(order)), "/")
    lines = known.cast(pa.int64()).to_numpy()[places[order]]
    listed = pc.binary_join_element_wise(name, files.filter(annotations.is_valid()), "/")
    return _Set(lines, paths, matrix[places[order]], listed), other


def _read_files(
    folder: DataFolder, found: _Set, located: pd.DataFrame, files: npt.NDArray[np.int64]
) -> npt.NDArray[np.object_]:
    """The bytes of annotation files, or why there are none; None for no file. Read in the order of the disk."""
    contents = np.full(len(files), None, dtype=object)
    present = np.flatnonzero(files >= 0)
    chosen = located.iloc[files[present]]
    order = np.lexsort((chosen["offset"], pd.factorize(chosen["archive"])[0]))
    paths = found.annotations.take(pa.array(files[present[order]])).to_pylist()
    places = chosen.iloc[order].itertuples(index=False, name=None)
    for target, path, place in zip(present[order].tolist(), paths, places, strict=True):
        try:
            contents[target] = read_place(folder.root, Place(path, *place), limit=MAX_BYTES)
        except ImageProblemError as error:
            contents[target] = str(error)
    return contents


def _decode_block(
    lines: npt.NDArray[np.int64], paths: pa.StringArray, contents: npt.NDArray[np.object_]
) -> dict[str, object]:
    numbers, unread = {}, []
    for place, column in enumerate(LABEL_COLUMNS):
        numbers[column], said = decode_values(contents[:, place].tolist())
        unread.append((column, np.array([row for row, _ in said], dtype=np.int64), [what for _, what in said]))
    counts, eyes = decode_landmarks(contents[:, -1].tolist())
    return label_rows(lines, paths, numbers["expression"]) | {
        **numbers,
        "unread": describe_unread(len(lines), unread),
        "landmark_count": counts,
        **{column: eyes[:, place].copy() for place, column in enumerate(EYE_COLUMNS)},
    }


def decode_values(contents: Sequence[bytes | str | None]) -> tuple[npt.NDArray[np.float64], list[tuple[int, str]]]:
    """Decodes files that hold one value each: bytes, None where there is no file, a text where it is not readable.

    Returns:
        float64 [n], NaN where there is no finite number; and, for these rows, what there is instead.
    """
    numbers, said = np.full(len(contents), np.nan), []
    arrays = [_decode(content) for content in contents]
    single = {row: array for row, array in enumerate(arrays) if not isinstance(array, str) and array.size == 1}
    numbers[list(single)] = _to_numbers([*single.values()])
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        array = arrays[row]
        if isinstance(array, str):
            said.append((row, array))
        elif array.size != 1:
            said.append((row, f"an array of {array.size} values"))
        else:
            value = array.reshape(-1)[0]
            said.append((row, str(value)[:MAX_SHOWN] if array.dtype.kind in "iuf" else repr(str(value)[:MAX_SHOWN])))
    return numbers, said


def decode_landmarks(contents: Sequence[bytes | str | None]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Decodes landmark files: counts [n] and eyes [n, 4] as `rows.reduce_landmarks` gives them."""
    arrays = [_decode(content) for content in contents]
    values = _to_numbers([array for array in arrays if not isinstance(array, str)])
    sizes = [0 if isinstance(array, str) else array.size for array in arrays]
    counts, eyes = reduce_landmarks(values, np.cumsum([0, *sizes]))
    counts[[row for row, array in enumerate(arrays) if isinstance(array, str) and array != NO_FILE]] = -1
    return counts, eyes


def _decode(content: bytes | str | None) -> npt.NDArray[Any] | str:
    """A file's array, or why there is none. Nothing is unpickled: an array of objects is refused by its header."""
    if content is None or isinstance(content, str):
        return content or NO_FILE
    end = 10 + int.from_bytes(content[8:10], "little") if content[6:7] == b"\x01" else 0
    form = _read_form(content[:end]) if end else _describe_start(content)
    if isinstance(form, str):
        return form
    kind, shape, order = form
    if len(content) - end < kind.itemsize * math.prod(shape):
        return "cut short"
    array = np.ndarray(shape, kind, content, end, order=order)
    if kind.kind == "S":
        return np.array(
            [value.decode("utf-8", "backslashreplace") for value in array.reshape(-1).tolist()], dtype=object
        )
    return array if kind.kind != "U" else np.array(_to_text(array), dtype=object)


@functools.lru_cache(maxsize=4096)
def _read_form(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]] | str:
    """The array's type, shape and order, or why it is none that holds numbers."""
    if not header.startswith(b"\x93NUMPY\x01\x00"):
        return _describe_start(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a second way to read the header, taken where the first fails
            shape, fortran_order, kind = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))
    except Exception:  # bytes that are no header make numpy's parser raise nearly anything
        return "an npy file with a damaged header"
    if kind.hasobject:
        return "a pickled object"
    if kind.kind not in "iufUS":
        return f"an array of {str(kind)[:MAX_SHOWN]}"
    if math.prod(shape) > MAX_BYTES or min(shape, default=0) < 0:
        return f"an array of shape {str(shape)[:MAX_SHOWN]}"
    return kind, shape, "F" if fortran_order else "C"


def _describe_start(content: bytes) -> str:
    if not content:
        return "an empty file"
    if content.startswith(b"\x93NUMPY"):
        return f"an npy file of version {content[6:8].hex('.')}"
    return f"no npy file (starts with {content[:12]!r})"


def _to_text(array: npt.NDArray[Any]) -> list[str]:
    """The values of an array of text, with U+FFFD for what is no letter: numpy's own way raises on them."""
    flat = np.ascontiguousarray(array.reshape(-1))
    if flat.dtype.itemsize:
        codes = flat.view(np.dtype("u4").newbyteorder(flat.dtype.byteorder))
        unknown = (codes > sys.maxunicode) | ((codes >= 0xD800) & (codes < 0xE000))
        flat = np.where(unknown, 0xFFFD, codes).astype("=u4").view(f"=U{flat.dtype.itemsize // 4}")
    return [str(value) for value in flat.tolist()]


def _to_numbers(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """All arrays' values one after the other as float64, NaN where they are no finite number."""
    if not arrays:
        return np.empty(0)
    with np.errstate(all="ignore"):
        values = [
            parse_numbers(pa.array(array, pa.string()))
            if array.dtype == object
            else array.reshape(-1).astype(np.float64)
            for array in arrays
        ]
    flat = np.concatenate(values)
    return np.where(np.isfinite(flat), flat, np.nan)
