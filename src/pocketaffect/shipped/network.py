"""The shipped network's files, held to the digests that they were shipped with."""

import json
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file, write_json

FOLDER: Final = Path(__file__).parent / "files"
"""Package, ONNX twin, card and verification under their names in `paths`, and DIGESTS. Absent: none is shipped."""

DIGESTS: Final = "digests.json"
"""SHA-256 of each of the files, by its place below the folder."""

CARD: Final = "model_card.md"


def find_shipped(folder: Path = FOLDER) -> Path | None:
    """Finds the folder of the network that comes with pocketaffect; None where none does.

    Raises:
        PocketAffectError: A file was changed or removed on disk.
    """
    if not (folder / DIGESTS).is_file():
        return None
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        found = list_digests(folder)
        changed = [name for name in digests if found.get(name) != digests[name]]
    except (OSError, ValueError) as error:
        changed = [f"{DIGESTS} ({error})"]
    if changed:
        raise PocketAffectError(
            f"{folder}: not the network that came with pocketaffect",
            found=f"changed or missing: {', '.join(changed)}",
            todo="install pocketaffect again (in a checkout: `git checkout` of this folder); or name a model",
        )
    return folder


def list_digests(folder: Path) -> dict[str, str]:
    """Computes the SHA-256 of each file below the folder but DIGESTS, by its place there."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: hash_file(file) for name, file in sorted(files.items()) if name != DIGESTS}


def seal(folder: Path) -> None:
    """Writes DIGESTS of what stands in the folder.

    Raises:
        PocketAffectError: One of the files that are shipped is missing.
    """
    names = (paths.PACKAGE.name, paths.TWIN.name, paths.VERIFICATION.name, CARD)
    if missing := [name for name in names if not (folder / name).exists()]:
        raise PocketAffectError(f"{folder}: not all files to ship", found=f"no {', '.join(missing)}")
    write_json(folder / DIGESTS, list_digests(folder))
