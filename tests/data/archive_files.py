"""Data folders and archives with given files, and what `DataFolder` reads of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
from hypothesis import strategies as st

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import Place, read_place

IMAGES = "Manually_Annotated_Images"
KINDS = ("loose", "ustar", "gnu", "pax", "stored", "deflated")
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write_tar(file: Path, contents: dict[str, bytes], kind: str = "pax") -> None:
    with tarfile.open(file, "w", format=FORMATS[kind]) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_zip(file: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)


def write(root: Path, contents: dict[str, bytes], kind: str) -> Path:
    """A data folder with these files, loose or in one archive."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "loose":
        for name, content in contents.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    elif kind in FORMATS:
        write_tar(root / "a.tar", contents, kind)
    else:
        write_zip(root / "a.zip", contents, zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED)
    return root


def places(folder: DataFolder, *paths: str) -> list[Place]:
    series = pd.Series(paths, dtype="str")
    rows = folder.locate(series).itertuples(index=False, name=None)
    return [Place(path, *row) for path, row in zip(paths, rows, strict=True)]


def read(folder: DataFolder, path: str) -> bytes | str:
    """What it holds, or why it is not read."""
    try:
        return read_place(folder.root, places(folder, path)[0])
    except ImageProblemError as problem:
        return str(problem)


letters = st.characters(exclude_characters="/\\\0:", exclude_categories=("Cs",))
parts = st.text(letters, min_size=1, max_size=40).filter(
    lambda part: (
        part not in (".", "..", "?") and not part.startswith(("._", ".", "__MACOSX")) and len(part.encode()) < 200
    )
)
trees = st.dictionaries(
    st.lists(parts, min_size=1, max_size=5).map("/".join), st.binary(max_size=2000), min_size=1, max_size=6
).filter(lambda tree: not any(one.startswith(f"{other}/") for one in tree for other in tree))
