"""The commits that a model file's own metadata fits: its origin where no store knows it.

A file names data, settings and sources that it was made from by their hashes, and no commit: the same inputs give the
same bytes at every commit that leaves them alone. Here git's history is asked which commits those are.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from pocketaffect import paths, provenance
from pocketaffect.config import PARAMS_FILE, Params, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.provenance import DECIDING_SOURCES, hash_settings

SOURCES: Final = PurePosixPath("src/pocketaffect")
_RULE: Final = SOURCES / "provenance.py"
_DATA_NAMED_BY: Final = (paths.LOCK_FILE.as_posix(), paths.DATA_FILE.as_posix())
_WATCHED: Final = (
    *(str(SOURCES / part) for part in DECIDING_SOURCES),
    str(_RULE),
    PARAMS_FILE.as_posix(),
    *_DATA_NAMED_BY,
)
_LISTS: Final = re.compile(r"^DECIDING_SOURCES\b.*?^\)\n.*?^DECIDING_PARAMS[^\n]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Commit:
    """One that a file fits.

    Attributes:
        sha: Of the commit.
        date: Of the commit, ISO 8601.
        subject: Its message's first line.
        params: The settings in it.
    """

    sha: str
    date: str
    subject: str
    params: Params


@dataclass(frozen=True)
class History:
    """What git's history says of a file's metadata.

    Attributes:
        commits: Those that it fits, newest first. Later ones that touch nothing that decides fit as well.
        looked_at: How many were held to it: all that changed something that decides.
        unjudged: How many of them hash other sources or know other settings than this pocketaffect.
    """

    commits: tuple[Commit, ...]
    looked_at: int
    unjudged: int


def search_history(root: Path, says: Mapping[str, str]) -> History | None:
    """The commits whose sources, settings and data a file's metadata names; None where there is no git.

    Args:
        root: The repository.
        says: From `read_file_metadata`.
    """
    listed = _git(root, "log", "--all", "HEAD", "--no-show-signature", "--format=%H%x09%cI%x09%s", "--", *_WATCHED)
    if listed is None:
        return None
    lines = [line.split("\t", 2) for line in listed.splitlines()]
    fitting, unjudged = [], 0
    with _Repository(root) as repository:
        for sha, date, subject in lines:
            origin = repository.describe_origin(sha)
            if origin is None:
                unjudged += 1
            elif origin.fits(says):
                fitting.append(Commit(sha, date, subject, origin.params))
    return History(tuple(fitting), len(lines), unjudged)


def fits_commit(root: Path, commit: str, says: Mapping[str, str]) -> bool | None:
    """Whether a file's metadata fits one commit; None where that cannot be judged."""
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        return None
    with _Repository(root) as repository:
        origin = repository.describe_origin(commit)
    return None if origin is None else origin.fits(says)


@dataclass(frozen=True)
class _Origin:
    """What a package that was made at a commit would say of itself."""

    sources: str
    params: Params
    data_files: str

    def fits(self, says: Mapping[str, str]) -> bool:
        data = says.get("origin_data_md5", "")
        return (
            says.get("origin_sources_sha256") == self.sources
            and says.get("origin_params_sha256") == hash_settings(self.params)
            and len(data) > len(".dir")
            and data in self.data_files
        )


class _Repository:
    """Reads files of any commit through one `git cat-file`; equal trees are hashed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sources: dict[tuple[tuple[PurePosixPath, str], ...], str] = {}
        self._contents: dict[str, bytes] = {}

    def __enter__(self) -> _Repository:
        command = ["git", "--no-optional-locks", "-C", str(self._root), "cat-file", "--batch"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def describe_origin(self, commit: str) -> _Origin | None:
        """None for a commit of a pocketaffect that hashed other sources or knew other settings."""
        files = dict(self._list(commit))
        rule, params = files.get(_RULE), files.get(PurePosixPath(PARAMS_FILE))
        if rule is None or params is None or _find_lists(self._read(rule).decode()) != _find_lists(_own_rule()):
            return None
        try:
            with tempfile.TemporaryDirectory(prefix="pocketaffect-") as folder:
                file = Path(folder) / PARAMS_FILE
                file.write_bytes(self._read(params))
                settings = load_params(file)
        except PocketAffectError:
            return None
        named = [
            self._read(files[PurePosixPath(name)]).decode() for name in _DATA_NAMED_BY if PurePosixPath(name) in files
        ]
        return _Origin(self._hash_sources(files), settings, "\n".join(named))

    def _list(self, commit: str) -> Iterator[tuple[PurePosixPath, str]]:
        listed = _git(self._root, "ls-tree", "-r", "-z", commit, "--", *_WATCHED) or ""
        for entry in filter(None, listed.split("\0")):
            kind, _, name = entry.partition("\t")
            yield PurePosixPath(name), kind.split()[2]

    def _hash_sources(self, files: Mapping[PurePosixPath, str]) -> str:
        """As `provenance.hash_sources` does in a work tree."""
        chosen: list[tuple[PurePosixPath, str]] = []
        for part in DECIDING_SOURCES:
            place = SOURCES / part
            inside = [path for path in files if path == place or (place in path.parents and path.suffix == ".py")]
            chosen += [(path.relative_to(SOURCES), files[path]) for path in sorted(inside)]
        key = tuple(chosen)
        if key not in self._sources:
            digest = hashlib.sha256()
            for path, blob in chosen:
                digest.update(path.as_posix().encode() + b"\0" + self._read(blob) + b"\0")
            self._sources[key] = digest.hexdigest()
        return self._sources[key]

    def _read(self, blob: str) -> bytes:
        if blob not in self._contents:
            sent, received = self._process.stdin, self._process.stdout
            assert sent is not None
            assert received is not None
            sent.write(f"{blob}\n".encode())
            sent.flush()
            self._contents[blob] = _read_object(received)
        return self._contents[blob]


def _read_object(stream: IO[bytes]) -> bytes:
    """One answer of `git cat-file --batch`: a line that ends with the length, the content, a line's end."""
    length = int(stream.readline().split()[2])
    return stream.read(length + 1)[:length]


def _own_rule() -> str:
    return Path(provenance.__file__).read_text(encoding="utf-8")


def _find_lists(text: str) -> str:
    found = _LISTS.search(text)
    return found[0] if found else ""


def _git(root: Path, *arguments: str) -> str | None:
    """Git's answer; None where git is missing or refuses."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", errors="replace")
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
