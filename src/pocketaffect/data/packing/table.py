"""Reads the table of a pack, which `pocketaffect data pack` wrote: its archives need no listing."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pocketaffect.errors import PocketAffectError

PACK_FILE: Final = "pack.json"
PACK_TABLE: Final = "pack.parquet"
PACK_PROGRESS: Final = ".pack-progress.json"
"""Is there until a pack is whole."""

PART_NAME: Final = re.compile(r"images-\d{5,}\.tar")


def read_pack(folder: Path) -> dict[str, pa.Table]:
    """Reads the members of each part, by the part's name: path, offset, length, deflated.

    Raises:
        PocketAffectError: A part is missing or of another length, or the pack's own files changed.
    """
    file = folder / PACK_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        parts = {str(part["name"]): int(part["bytes"]) for part in content["parts"]}
        size, digest = int(content["members"]["bytes"]), content["members"]["sha256"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _not_a_pack(file, repr(error)) from None
    for name in parts:
        if not PART_NAME.fullmatch(name):
            raise _not_a_pack(file, f"a part {name!r}")
        _check_length(folder / name, parts[name])
    _check_length(folder / PACK_TABLE, size)
    table_bytes = (folder / PACK_TABLE).read_bytes()
    if hashlib.sha256(table_bytes).hexdigest() != digest:
        raise PocketAffectError(f"{folder / PACK_TABLE}: changed since it was packed", todo="copy the pack again")
    table = pq.read_table(io.BytesIO(table_bytes))
    numbers = pc.index_in(table["archive"].cast(pa.string()), value_set=pa.array(list(parts))).to_numpy()
    ends = np.searchsorted(numbers, np.arange(len(parts) + 1))
    columns = {
        "path": table["path"].cast(pa.large_string()),
        "offset": table["offset"],
        "length": table["length"],
        "deflated": pa.array(np.zeros(len(table), bool)),
    }
    whole = pa.table(columns)
    return {name: whole.slice(ends[row], ends[row + 1] - ends[row]) for row, name in enumerate(parts)}


def _not_a_pack(file: Path, found: str) -> PocketAffectError:
    return PocketAffectError(
        f"{file}: not what `pocketaffect data pack` writes", found=found, todo="pack anew into an empty folder"
    )


def _check_length(file: Path, size: int) -> None:
    found = file.stat().st_size if file.is_file() else None
    if found != size:
        raise PocketAffectError(
            f"{file}: a part of the pack is {'missing' if found is None else 'of another length'}",
            found="no such file" if found is None else f"{found:,} bytes",
            allowed=f"{size:,} bytes, as {PACK_FILE} says",
            todo="copy this part again, or pack anew",
        )
