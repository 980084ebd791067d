"""Small npy files decoded by the thousand, from bytes and without ever unpickling one.

What stands where a number should be is told, not raised.
"""

from __future__ import annotations

import functools
import io
import math
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pocketaffect.data.release.delimited import parse_numbers
from pocketaffect.data.release.rows import MAX_SHOWN, reduce_landmarks

NO_FILE: Final = "no file"
MAX_BYTES: Final = 1 << 16
"""A larger annotation file is none: the landmarks take about a kilobyte."""


def decode_values(contents: Sequence[bytes | str | None]) -> tuple[npt.NDArray[np.float64], list[tuple[int, str]]]:
    """Decodes files that hold one value each.

    Args:
        contents: The files' bytes; None where there is no file, a text that says why where it is not readable.

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
