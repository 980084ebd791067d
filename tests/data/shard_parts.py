"""A small data folder with its manifest, made without the contract, and processes that write its shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from affectnet_copies import picture
from PIL import Image

from pocketaffect.config import PreprocessParams
from pocketaffect.data.shards.manifest import NEEDED_COLUMNS
from pocketaffect.data.shards.write import write_shards
from pocketaffect.labels import BOX_COLUMNS, EXPRESSIONS, EYE_COLUMNS

SIZE = 32
SOFT = tuple(f"soft_{name}" for name in EXPRESSIONS)


def make_settings(**changed: Any) -> PreprocessParams:
    """Gives settings of small shards, written by one process."""
    usual = {"image_size": SIZE, "margin": 0.1, "align": "none", "shard_images": 5, "workers": 1, "memory_mb": 4096}
    return PreprocessParams(executor="local", **usual | changed)


class Copy:
    """Images, and `rows` as the contract keeps them: change them, then `save`."""

    def __init__(self, folder: Path, *, training: int = 12, validation: int = 7) -> None:
        self.folder = folder
        self.source = folder / "data"
        self.target = folder / "out" / "shards"
        self.work = folder / "work"
        self.manifest = folder / "manifest.parquet"
        self.source.mkdir(parents=True)
        self.rows = [self._make_row("train", n) for n in range(training)]
        self.rows += [self._make_row("validation", n) for n in range(validation)]
        self.save()

    def _make_row(self, split: str, number: int) -> dict[str, Any]:
        width, height = 40 + number % 17, 60 - number % 13
        name = f"{split}/{number:04d}.png"
        file = self.source / name
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number + 1000 * (split == "validation"), width, height)).save(file)
        box = (np.nan,) * 4 if number % 4 == 3 else (float(number % 9 - 3), 2.0, 25.0 + number % 9, 30.0)
        eyes = (np.nan,) * 4 if number % 3 == 1 else (12.0, 16.0 + number % 5, 26.0, 15.0)
        return {
            "list": f"{split}.csv",
            "line": number + 2,
            "split": split,
            "path": name,
            "archive": "",
            "offset": 0,
            "length": 0,
            "deflated": False,
            **dict(zip(BOX_COLUMNS, box, strict=True)),
            **dict(zip(EYE_COLUMNS, eyes, strict=True)),
            "image_width": width,
            "image_height": height,
            "expression": number % 9 - 1,
            "valence": np.nan if number % 5 == 4 else number / 20 - 0.5,
            "arousal": np.nan if number % 5 == 4 else 0.3 - number / 30,
            **dict.fromkeys(SOFT, np.nan),
            "warnings": "va_plausible" if number % 6 == 5 else "",
        }

    def save(self) -> None:
        """Writes the manifest with the dtypes of DATA.md's section 4; `list` and `split` as pandas' categories."""
        kinds: dict[str, pa.DataType] = {
            **dict.fromkeys(("list", "split"), pa.dictionary(pa.int8(), pa.string())),
            **dict.fromkeys(("path", "archive", "warnings"), pa.large_string()),
            **dict.fromkeys(("line", "offset", "length"), pa.int64()),
            **dict.fromkeys(BOX_COLUMNS, pa.float64()),
            **dict.fromkeys(("image_width", "image_height"), pa.int32()),
            "deflated": pa.bool_(),
            "expression": pa.int8(),
        }
        names = ("line", *NEEDED_COLUMNS)
        columns = {n: pa.array([row[n] for row in self.rows], kinds.get(n, pa.float32())) for n in names}
        pq.write_table(pa.table(columns), self.manifest)

    def of(self, split: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == split]

    def write(self, **settings: Any) -> dict[str, Any]:
        target = settings.pop("target", self.target)
        progress = settings.pop("progress", None)
        settings = make_settings(**settings)
        return write_shards(self.manifest, self.source, target, self.work, settings, progress=progress)

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Runs `program` in a process of its own; `folder`, `write_shards` and `make_settings` are there for it."""
        head = (
            "from pathlib import Path\nfrom shard_parts import make_settings\n"
            "from pocketaffect.data.shards.write import write_shards\n"
            f"folder = Path({str(self.folder)!r})\n"
        )
        script = self.folder / "program.py"
        indented = "".join(f"    {line}\n" for line in program.strip().splitlines())
        script.write_text(f"{head}if __name__ == '__main__':\n{indented}")
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
