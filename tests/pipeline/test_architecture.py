"""Holds the imports to the order that CONTRIBUTING.md names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from pocketaffect.provenance.code import NAME, SOURCE, find_imports

ROOT = Path(__file__).parents[2]
LIBRARY = SOURCE / NAME
REMAINING: set[str] = set()
"""What is still to be fixed: this set only shrinks."""


def read_floors() -> list[list[str]]:
    """The rooms that share a floor, lowest floor first, as CONTRIBUTING.md draws them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = re.search(r"imports run one way.*?\n\n((?: {4}[^\n]+\n)+)", text, re.DOTALL)
    assert drawing is not None, "CONTRIBUTING.md names no order of imports"
    return [re.findall(r"\w+", floor) for floor in drawing[1].split("->")]


FLOORS = read_floors()


def room_of(file: Path) -> str:
    """The folder or lone module below src/pocketaffect that the file belongs to, or "pipelines"."""
    if not file.is_relative_to(LIBRARY):
        return file.parent.name
    return file.relative_to(LIBRARY).parts[0].removesuffix(".py")


def name_of(file: Path) -> str:
    return file.relative_to(LIBRARY if file.is_relative_to(LIBRARY) else ROOT).as_posix()


def read_imports() -> dict[Path, list[Path]]:
    """Each source file beside the files of ours that it imports anywhere, inside functions too."""
    files = [*LIBRARY.rglob("*.py"), *ROOT.glob("pipelines/*.py")]
    return {
        file: sorted(imported for imported in find_imports(file) if imported.name != "__init__.py")
        for file in sorted(files)
        if file.name != "__init__.py"
    }


def find_circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """Names that lead back to the first of them; empty where there is no circle."""
    finished: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for name in sorted(arrows.get(path[-1], ())):
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in finished and (circle := search([*path, name])):
                return circle
        finished.add(path[-1])
        return []

    return next((circle for start in sorted(arrows) if start not in finished and (circle := search([start]))), [])


def kept(arrows: dict[Path, list[Path]]) -> dict[str, list[str]]:
    return {
        name_of(file): [
            name_of(imported) for imported in imports if f"{name_of(file)} imports {name_of(imported)}" not in REMAINING
        ]
        for file, imports in arrows.items()
    }


def test_every_file_has_a_place_in_the_order_and_every_place_has_a_file():
    named = [room for floor in FLOORS for room in floor]
    assert len(named) == len(set(named))
    found = {room_of(file) for file in read_imports()}
    assert found - set(named) == set(), "name these in CONTRIBUTING.md, in the order of imports"
    assert set(named) - found == set(), "CONTRIBUTING.md names these, and there is no such code"


def test_no_file_imports_one_of_a_floor_above_its_own():
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    upward = {
        f"{name_of(file)} imports {name_of(imported)}"
        for file, imports in read_imports().items()
        for imported in imports
        if floor_of.get(room_of(imported), 0) > floor_of.get(room_of(file), len(FLOORS))
    }
    assert upward - REMAINING == set()


def test_imports_run_in_no_circle_between_files_or_between_rooms():
    files = kept(read_imports())
    assert find_circle(files) == []
    room = {name: name.split("/")[0].removesuffix(".py") for name in files}
    rooms = {
        of: {room[to] for name, imports in files.items() if room[name] == of for to in imports} - {of}
        for of in sorted(set(room.values()))
    }
    assert find_circle(rooms) == []


@pytest.mark.parametrize(
    ("room", "allowed"), [("mlpackage", {"errors", "files"}), ("errors", {"names"}), ("labels", set())]
)
def test_a_room_that_could_stand_alone_imports_no_other(room, allowed):
    imported = {
        room_of(target): f"{name_of(file)} imports {name_of(target)}"
        for file, imports in read_imports().items()
        for target in imports
        if room_of(file) == room and f"{name_of(file)} imports {name_of(target)}" not in REMAINING
    }
    assert {name: why for name, why in imported.items() if name not in {room, *allowed}} == {}


def test_only_the_command_line_and_the_kit_import_the_app():
    importing = {
        room_of(file)
        for file, imports in read_imports().items()
        if any(room_of(imported) == "app" for imported in imports)
    }
    assert importing == {"app", "kit", "cli"}


def test_a_circle_is_found_where_there_is_one():
    assert find_circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert find_circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
