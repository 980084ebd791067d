"""Which data set the pipeline reads: the one line of data.dvc, and what guards it.

`data.dvc` imports a folder into `data/`: `sample`, which a stage draws, or the user's own copy. One way to point it
elsewhere looks right and is not: `dvc add data` records the user's files but keeps `sample` as their origin, so that
the next `dvc repro` puts the sample back over them. Nothing then shows it but DVC's cache, which still holds the
list of the replaced files; `check_source` looks for it and refuses to go on.

While a user's data is imported, the stage that draws the sample is a comment in dvc.yaml. Frozen, it would stop every
clone: DVC then asks for a folder that nothing makes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketaffect import paths
from pocketaffect.data.packing.parts import PACK_FILE
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import recognise
from pocketaffect.data.release.members import is_release_name
from pocketaffect.data.sample import MARK
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml, write_atomically, write_json
from pocketaffect.names import show_name

_OFF: Final = "# Off while data.dvc imports other data; `pocketaffect data sample` puts it back."
_STAGE: Final = re.compile(r"^  sample:.*\n(?:(?:[ \t]*(?:#.*)?\r?\n)*    .*\n?)+", re.MULTILINE)
_COMMENT: Final = re.compile(rf"^{re.escape(_OFF)}\r?\n((?:(?:#.*|\r?)\n)*#     .*\n?)", re.MULTILINE)

ACKNOWLEDGED: Final = paths.WORK / "acknowledged-data.json"


@dataclass(frozen=True)
class Source:
    """What `data.dvc` says: where `data/` comes from, and whether DVC follows changes there."""

    origin: str | None
    """A path, or None for files that `dvc add` took as they were."""
    frozen: bool

    @property
    def is_sample(self) -> bool:
        """Whether the drawn sample is imported."""
        return self.origin == str(paths.SAMPLE)


def read_source(root: Path = Path()) -> Source:
    """Reads data.dvc below `root`.

    Raises:
        PocketAffectError: It is missing or not what DVC writes.
    """
    file = root / paths.DATA_FILE
    if not file.is_file():
        raise PocketAffectError(f"{file}: no such file", todo="`pocketaffect data sample` writes it anew")
    content = read_yaml(file)
    try:
        origins = [str(item["path"]) for item in content.get("deps") or []]
    except (TypeError, KeyError):
        raise PocketAffectError(
            f"{file}: not what DVC writes",
            found=f"deps: {content['deps']}",
            allowed="a list with one `path`",
            todo="`pocketaffect data use PATH` or `pocketaffect data sample` writes it anew",
        ) from None
    return Source(origin=origins[0] if origins else None, frozen=bool(content.get("frozen", False)))


def check_source(root: Path = Path()) -> str:
    """Names the source for the log.

    Raises:
        PocketAffectError: The sample has replaced a user's data set.
    """
    source = read_source(root)
    if not source.is_sample:
        return source.origin or "files added by `dvc add data`"
    replaced = sorted(set(_recorded_data_sets(root)) - _acknowledged(root))
    if replaced:
        raise PocketAffectError(
            f"{paths.DATA_FILE}: the sample has replaced another data set in {paths.DATA}/ "
            "(after `dvc add data` its origin still is the sample, and `dvc repro` imports from the origin)",
            found=f"in DVC's cache: {', '.join(replaced)}",
            allowed="an origin that is your copy, outside this folder",
            todo="`pocketaffect data use PATH` if your data is meant (nothing is lost: the cache has the files), "
            "`pocketaffect data sample` if the sample is meant",
        )
    return "the embedded sample of drawn faces"


def use_folder(folder: Path, root: Path = Path()) -> str:
    """Points data.dvc at `folder`, which must hold a known layout, and returns the origin that was written.

    Raises:
        PocketAffectError: No such folder, no known layout in it, it overlaps `data/`, or `root` has no pipeline.
    """
    folder = folder.expanduser()
    if show_name(folder.resolve()) != str(folder.resolve()):
        raise PocketAffectError(
            f"{folder.resolve()}: DVC cannot name it", allowed="a path in UTF-8", todo="rename the folder"
        )
    recognise(DataFolder.open(folder))
    resolved = folder.resolve()
    data = (root / paths.DATA).resolve()
    if resolved.is_relative_to(data) or data.is_relative_to(resolved):
        raise PocketAffectError(
            f"{folder}: is, is in or holds {paths.DATA}/, which DVC fills and empties",
            allowed="a folder apart from it",
            todo="move your copy elsewhere and give that path",
        )
    sample = (root / paths.SAMPLE).resolve()
    if resolved == sample:
        use_sample(root)
        return str(paths.SAMPLE)
    _write_origin(root, str(resolved))
    _switch_sample(root, on=False)
    return str(resolved)


def use_sample(root: Path = Path()) -> None:
    """Points data.dvc back at the sample, and notes that what was used before is meant to be left."""
    _require_pipeline(root)
    _switch_sample(root, on=True)
    _write_origin(root, str(paths.SAMPLE))
    known = sorted(_acknowledged(root) | set(_recorded_data_sets(root)))
    write_json(root / ACKNOWLEDGED, known)


def _write_origin(root: Path, origin: str) -> None:
    """Writes the minimal form; DVC fills in the hashes. Unfrozen, so that `dvc repro` follows changes at the origin."""
    _require_pipeline(root)
    with write_atomically(root / paths.DATA_FILE) as draft:
        quoted = json.dumps(origin, ensure_ascii=False)
        draft.write_text(f"deps:\n- path: {quoted}\nouts:\n- path: {paths.DATA}\n", encoding="utf-8")


def _require_pipeline(root: Path) -> None:
    if not (root / paths.PIPELINE_FILE).is_file():
        raise PocketAffectError(
            f"{root.absolute()}: no pipeline here",
            found=f"no {paths.PIPELINE_FILE}",
            todo="run from the repository's root",
        )


def _switch_sample(root: Path, *, on: bool) -> None:
    """Makes the stage that draws the sample a comment, or a stage again: all else in dvc.yaml stays as it is."""
    file = root / paths.PIPELINE_FILE
    before = file.read_bytes().decode("utf-8")  # with its line ends
    if on:
        after = _COMMENT.sub(lambda comment: re.sub("^# ", "", comment[1], flags=re.MULTILINE), before)
    else:
        full_line = re.compile(r"^(?=[^\r\n])", re.MULTILINE)
        after = _STAGE.sub(lambda stage: f"{_OFF}\n{full_line.sub('# ', stage[0])}", before)
    if after != before:
        with write_atomically(file) as draft:
            draft.write_bytes(after.encode("utf-8"))


def _recorded_data_sets(root: Path) -> Iterator[str]:
    """Lists the hashes of the folder listings in DVC's cache that are data sets, but not the sample."""
    cache = root / ".dvc" / "cache" / "files" / "md5"
    if not cache.is_dir():
        return
    for file in sorted(cache.glob("*/*.dir")):
        try:
            names = {entry["relpath"].partition("/")[0] for entry in json.loads(file.read_text(encoding="utf-8"))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not ours to judge
            continue
        if MARK not in names and any(name == PACK_FILE or is_release_name(name) for name in names):
            yield file.parent.name + file.stem


def _acknowledged(root: Path) -> set[str]:
    file = root / ACKNOWLEDGED
    return set(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else set()
