"""Writes the code among the `deps` of every stage: `make deps`, after a change of what imports what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.provenance.code import NAME, SOURCE, does_nothing, find_code
from pocketaffect.provenance.origin import DECIDING_STAGES

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

FILES: Final = (paths.PIPELINE_FILE, paths.PIPELINES / "sweep" / "dvc.yaml")


def renew_deps(text: str, root: Path) -> str:
    """Gives a dvc.yaml with the code that each stage's script can run, and all else as it was.

    Raises:
        PocketAffectError: A stage has no such block; what is written otherwise would be torn apart.
    """
    from ruamel.yaml import YAML

    lines = text.splitlines(keepends=True)
    stages = dict(_pairs(dict(_pairs(YAML(pure=True).compose(text)))["stages"]))
    for stage, content in reversed(stages.items()):  # back to front: the lines before a change stay where they are
        deps = dict(_pairs(content)).get("deps")
        if deps is None or deps.flow_style:
            raise PocketAffectError(
                f"dvc.yaml: stage {stage}: its deps are no block",
                found="none" if deps is None else "a list in one line",
                allowed="`deps:` with `- ` and what the stage reads below it, one to a line",
            )
        items = deps.value
        code = [item.start_mark.line for item in items if item.value.startswith(("src/", "pipelines/"))]
        indent = " " * (items[0].start_mark.column - 2)
        script, reads_package = (
            root / paths.PIPELINES / f"{stage}.py",
            any(item.value == str(paths.EXPORT) for item in items),
        )
        end = items[-1].start_mark.line + 1
        lines[end:end] = [f"{indent}- {name}\n" for name in list_deps(script, reads_package=reads_package)]
        for line in reversed(code):
            del lines[line]
    return "".join(lines)


def list_deps(script: Path, *, reads_package: bool) -> list[str]:
    """Names the code that a stage's script can run, as DVC's dependencies.

    `reads_package` tells whether the stage depends on a package that says its origin already.
    """
    found = set(find_code(script))
    if f"{NAME}/provenance/origin.py" in found and not reads_package:  # it hashes what these scripts can run
        found |= set(find_code(*(script.with_name(f"{stage}.py") for stage in DECIDING_STAGES), with_pages=False))
    deps = {name for name in found if name.startswith(f"{paths.PIPELINES}/")}
    return sorted(deps) + sorted(f"src/{name}" for name in _summarise(SOURCE / NAME, found - deps)[0])


def _summarise(folder: Path, found: set[str]) -> tuple[list[str], bool]:
    """Lists the folder's files that count, and whether the folder stands for them all.

    It does where more than half of its files count, and all of its subfolders, so that few edits change dvc.yaml.
    """
    names: list[str] = []
    whole, files = True, 0
    for place in folder.iterdir():
        if place.is_dir() and place.name != "__pycache__":
            inside, is_whole = _summarise(place, found)
            names += inside
            whole &= is_whole
        elif place.suffix != ".pyc" and place.is_file() and not does_nothing(place):
            files += 1
            names += [name for name in [place.relative_to(SOURCE).as_posix()] if name in found]
    counted = sum(1 for name in names if (SOURCE / name).parent == folder)
    if whole and 2 * counted > files and folder != SOURCE / NAME:
        return [folder.relative_to(SOURCE).as_posix()], True
    return names, False


def _pairs(node: Node) -> Iterator[tuple[str, Any]]:
    yield from ((key.value, value) for key, value in node.value)


def main() -> None:
    """Renews the files of the repository that this runs in."""
    for file in FILES:
        with write_atomically(file) as draft:
            draft.write_text(renew_deps(file.read_text(encoding="utf-8"), Path()), encoding="utf-8")


if __name__ == "__main__":
    main()
