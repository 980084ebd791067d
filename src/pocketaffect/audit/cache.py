"""DVC's cache as files, only ever read: which file has which hash, and copies of them elsewhere."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = ".dir"
"""How the hash of a folder ends; the object of that name lists the files in it."""


@dataclass(frozen=True)
class Cache:
    """A DVC 3 cache: `files/md5/<first two digits>/<the rest>`.

    DVC itself is not asked, since it mends, protects and removes what it finds in a cache that it opens.
    """

    folder: Path

    @classmethod
    def of_repository(cls, root: Path) -> Cache:
        """The cache that the repository's DVC settings name, which need not exist."""
        from dvc.config import Config  # type: ignore[import-untyped]

        named = Config(str(root / ".dvc"), validate=False).get("cache", {}).get("dir")
        return cls(Path(named) if named else root.resolve() / ".dvc" / "cache")

    def find(self, md5: str) -> Path | None:
        """The object of that hash, None where there is none; its content is not looked at."""
        place = self._place(md5)
        return place if place.is_file() else None

    def list_files(self, md5: str, path: str) -> dict[str, str] | None:
        """Path -> hash of every file of the output `path` (a file or a folder); None where its list is gone."""
        if not md5.endswith(FOLDER):
            return {path: md5} if md5 else {}
        listing = self.find(md5)
        if listing is None or not _is_whole(listing, md5):
            return None
        entries = json.loads(listing.read_text(encoding="utf-8"))
        return {f"{path}/{entry['relpath']}": entry["md5"] for entry in entries}

    def copy_from(self, other: Cache, md5: str) -> list[str]:
        """Copies an object, and for a folder all that it lists.

        Returns:
            The hashes that `other` does not hold, or holds with other bytes.
        """
        missing = [] if self._copy_object(other, md5) else [md5]
        if not missing and md5.endswith(FOLDER):
            files = self.list_files(md5, "") or {}
            missing = [name for name in sorted(set(files.values())) if not self._copy_object(other, name)]
        return missing

    def _copy_object(self, other: Cache, md5: str) -> bool:
        source, target = other.find(md5), self._place(md5)
        if source is None:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if not _is_whole(target, md5):
            target.unlink()
            return False
        target.chmod(0o444)
        return True

    def _place(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]


def hash_file(file: Path) -> str:
    """DVC's hash of a file's content."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _is_whole(file: Path, md5: str) -> bool:
    return hash_file(file) == md5.removesuffix(FOLDER)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk
