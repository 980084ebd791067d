"""Small npy files decoded by the thousand, from bytes and without ever unpickling one.

Files of one form (the same header) are decoded together. What stands where a number should be is told, not raised.
"""

from __future__ import annotations

import functools
import io
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pocketaffect.data.release.delimited import parse_numbers
from pocketaffect.data.release.rows import EYE_COLUMNS, MAX_SHOWN, reduce_landmarks
from pocketaffect.data.release.small_files import MAX_BYTES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NO_FILE: Final = "no file"


def decode_values(contents: Sequence[bytes | str | None]) -> tuple[npt.NDArray[np.float64], list[tuple[int, str]]]:
    """Decodes files that hold one value each.

    Args:
        contents: The files' bytes; None where there is no file, a text that says why where it is not readable.

    Returns:
        float64 [n], NaN where there is no finite number; and, for these rows, what there is instead.
    """
    import numpy as np

    numbers = np.full(len(contents), np.nan)
    said: list[tuple[int, str]] = []
    for rows, found in _decode(contents):
        if isinstance(found, str):
            said += [(row, found) for row in rows]
            continue
        if found.shape[1] != 1:
            said += [(row, f"an array of {found.shape[1]} values") for row in rows]
            continue
        values, written = _to_numbers(found)
        numbers[rows] = values[:, 0]
        said += [(rows[place], written(place)) for place in np.flatnonzero(np.isnan(values[:, 0])).tolist()]
    return numbers, sorted(said)


def decode_landmarks(contents: Sequence[bytes | str | None]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Decodes landmark files: counts [n] and eyes [n, 4] as `rows.reduce_landmarks` gives them."""
    import numpy as np

    counts = np.zeros(len(contents), dtype=np.int32)
    eyes = np.full((len(contents), len(EYE_COLUMNS)), np.nan, dtype=np.float32)
    for rows, found in _decode(contents):
        if isinstance(found, str):
            counts[rows] = 0 if found == NO_FILE else -1
            continue
        values, _ = _to_numbers(found)
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * found.shape[1]
        counts[rows], eyes[rows] = reduce_landmarks(values.reshape(-1), offsets)
    return counts, eyes


def _decode(contents: Sequence[bytes | str | None]) -> Iterator[tuple[list[int], npt.NDArray[Any] | str]]:
    """Groups files of one form: their places, and their values [n, values] or why there are none.

    Nothing is unpickled: an array of objects is refused by its header.
    """
    import numpy as np

    groups: dict[bytes, tuple[list[int], list[bytes]]] = {}
    refused: dict[str, list[int]] = {}
    for place, content in enumerate(contents):
        if content is None or isinstance(content, str):
            refused.setdefault(content or NO_FILE, []).append(place)
            continue
        end = 10 + int.from_bytes(content[8:10], "little") if content[6:7] == b"\x01" else 0
        header = content[:end]
        form = _read_form(header) if end else _describe_start(content)
        if isinstance(form, str):
            refused.setdefault(form, []).append(place)
            continue
        payload = content[end : end + form.length]
        if len(payload) < form.length:
            refused.setdefault("cut short", []).append(place)
            continue
        rows, payloads = groups.setdefault(header, ([], []))
        rows.append(place)
        payloads.append(payload)
    yield from ((rows, reason) for reason, rows in refused.items())
    for header, (rows, payloads) in groups.items():
        form = _read_form(header)
        assert not isinstance(form, str)
        count = len(rows) * math.prod(form.shape)
        flat = np.frombuffer(b"".join(payloads), form.kind) if form.length else np.zeros(count, form.kind)
        if form.fortran_order:
            backwards = flat.reshape(len(rows), *form.shape[::-1])
            flat = backwards.transpose(0, *range(backwards.ndim - 1, 0, -1))
        yield rows, flat.reshape(len(rows), math.prod(form.shape))


class _Form(NamedTuple):
    """What a header says."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    length: int
    """Bytes after the header."""


@functools.lru_cache(maxsize=4096)
def _read_form(header: bytes) -> _Form | str:
    """The array's form, or why it is none that holds numbers."""
    import numpy as np

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
    return _Form(kind, shape, bool(fortran_order), kind.itemsize * math.prod(shape))


def _describe_start(content: bytes) -> str:
    if not content:
        return "an empty file"
    if content.startswith(b"\x93NUMPY"):
        return f"an npy file of version {content[6:8].hex('.')}"
    return f"no npy file (starts with {content[:12]!r})"


def _to_numbers(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], Callable[[int], str]]:
    """The values as float64, NaN where they are none; and a function that says what a row's first value is."""
    import numpy as np
    import pyarrow as pa

    if array.dtype.kind in "iuf":
        with np.errstate(all="ignore"):
            values = array.astype(np.float64)
        return np.where(np.isfinite(values), values, np.nan), lambda row: str(array[row, 0])[:MAX_SHOWN]
    texts = _to_text(array)
    values = parse_numbers(pa.array(texts, pa.string())).reshape(array.shape)
    return values, lambda row: repr(texts[row * array.shape[1]][:MAX_SHOWN])


def _to_text(array: npt.NDArray[Any]) -> list[str]:
    import numpy as np

    if array.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in array.reshape(-1).tolist()]
    if array.dtype.itemsize:
        codes = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        unknown = (codes > sys.maxunicode) | ((codes >= 0xD800) & (codes < 0xE000))
        if unknown.any():
            array = np.where(unknown, 0xFFFD, codes).astype("=u4").view(f"=U{codes.shape[-1] // array.shape[-1]}")
    return [str(value) for value in array.reshape(-1).tolist()]
