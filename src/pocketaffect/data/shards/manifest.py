"""The validated rows (`out/manifest/manifest.parquet`), streamed: a million of them are never in memory together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS, PLACE_COLUMNS, SOFT_COLUMNS, VALENCE_AROUSAL

SIZE_COLUMNS: Final = ("image_width", "image_height")
LABEL_COLUMNS: Final = ("expression", *VALENCE_AROUSAL, *SOFT_COLUMNS)
NEEDED_COLUMNS: Final = (
    "list",
    "split",
    *PLACE_COLUMNS,
    *BOX_COLUMNS,
    *EYE_COLUMNS,
    *SIZE_COLUMNS,
    *LABEL_COLUMNS,
    "warnings",
)
"""Columns of the manifest that cutting and indexing the faces takes."""

BATCH_ROWS: Final = 8192
BUFFER_BYTES: Final = 1 << 16
"""Bytes of a column that are read at a time: without it, pyarrow reads the whole file's part of a column at once."""


@dataclass(frozen=True)
class Manifest:
    """A manifest.parquet with NEEDED_COLUMNS."""

    file: Path

    @classmethod
    def open(cls, file: Path) -> Manifest:
        """Looks at the columns.

        Raises:
            PocketAffectError: No such file, or it lacks columns.
        """
        try:
            known = pq.read_schema(file).names
        except FileNotFoundError:
            raise PocketAffectError(f"{file}: no such file", todo="`dvc repro validate`") from None
        except pa.ArrowInvalid as error:
            raise PocketAffectError(f"{file}: not readable", found=error, todo="`dvc repro -f validate`") from None
        if missing := [name for name in NEEDED_COLUMNS if name not in known]:
            raise PocketAffectError(
                f"{file}: columns are missing", found=f"no {', '.join(missing)}", todo="`dvc repro -f validate`"
            )
        return cls(file)

    @property
    def has_derived_va(self) -> bool:
        """Whether valence and arousal are derived from votes."""
        return "va_derived" in pq.read_schema(self.file).names

    def __len__(self) -> int:
        return int(pq.read_metadata(self.file).num_rows)

    def read_batches(self, columns: tuple[str, ...], *, split: str | None = None) -> Iterator[pa.RecordBatch]:
        """Reads some columns of all rows, or of one split's, in their order, a few thousand rows at a time."""
        names = list(dict.fromkeys((*columns, "split")))
        with pq.ParquetFile(self.file, buffer_size=BUFFER_BYTES, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                plain = [
                    array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
                    for array in batch.columns
                ]
                rows = pa.RecordBatch.from_arrays(plain, names=batch.schema.names)
                if split is not None:
                    rows = rows.filter(pc.equal(rows["split"], split))
                if rows.num_rows:
                    yield rows.select(list(columns))

    def read_tables(self, columns: tuple[str, ...], *, split: str, rows: int) -> Iterator[pa.Table]:
        """Reads like `read_batches`, but exactly `rows` rows at a time, fewer in the last table."""
        waiting: list[pa.RecordBatch] = []
        held = 0
        for batch in self.read_batches(columns, split=split):
            while batch.num_rows:
                taken = batch.slice(0, rows - held)
                waiting.append(taken)
                held += taken.num_rows
                batch = batch.slice(taken.num_rows)
                if held == rows:
                    yield pa.Table.from_batches(waiting)
                    waiting, held = [], 0
        if waiting:
            yield pa.Table.from_batches(waiting)


def join_columns(rows: pa.RecordBatch | pa.Table, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Joins number columns side by side: float64 [rows, names], NaN for a missing value."""
    return np.stack([rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names], axis=1)
