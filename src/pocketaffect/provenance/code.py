"""Which of our code decides a result, found from its imports; and a digest of what that code does.

Nothing is imported for it: files are parsed. Comments, docstrings, formatting and line ends change no digest.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from re import compile as regex
from typing import Any, Final

from pocketaffect.errors import PocketAffectError

SOURCE: Final = Path(__file__).parents[2]
"""The folder that holds the package."""

NAME: Final = "pocketaffect"

CANNOT_CHANGE_A_RESULT: Final = {
    "pocketaffect/checkout.py": "finds the checkout, its store, and which commit and experiment tag a version",
    "pocketaffect/config.py": "types and limits of params.yaml; the values themselves are each stage's params",
    "pocketaffect/errors.py": "the text of a failure, and a failed stage has no outputs",
    "pocketaffect/paths.py": "places that dvc.yaml names itself",
    "pocketaffect/stage.py": "runs the stage's main and reports its failure",
    "pocketaffect/tables.py": "lines for a terminal and a log",
    "pocketaffect/telemetry.py": "switches what phones home",
}
"""Modules that imports are not followed into, and why: with the next, the only list of sources that is kept by hand."""

DRAWS_FOR_PEOPLE: Final = {
    "pocketaffect/figures.py": "pictures and pages: outputs of their stages, which nothing reads again",
    "pocketaffect/data/report": "the same, about data",
}
"""Dependencies of the stages that draw, but no part of a digest: a page's look makes no other network."""

_PLACE: Final = regex(r"[\w.-]+(/[\w.-]+)*")
_QUOTED: Final = regex(r"[\"']([\w./-]+)[\"']")


def find_code(*entries: str | Path, with_pages: bool = True) -> dict[str, Path]:
    """Finds every file that the entries can run, or read from the package: its name and where it is.

    A string counts too where it names a module of ours, which starts as a process, or a template, table or other file
    of the package.

    Entries are dotted names or files of our modules, or scripts; every module of the package where none is given.

    Raises:
        PocketAffectError: There is no such module or script.
    """
    aside = CANNOT_CHANGE_A_RESULT.keys() | ({} if with_pages else DRAWS_FOR_PEOPLE).keys()
    waiting = [_locate(entry) for entry in entries or (SOURCE / NAME).rglob("*.py")]
    asked = {name for name, _ in waiting}
    resources = _list_resources()
    found: dict[str, Path] = {}
    while waiting:
        name, file = waiting.pop()
        idle = name not in asked and not aside.isdisjoint((name, str(PurePosixPath(name).parent)))
        if idle or name in found:
            continue
        found[name] = file
        content = _read(file)
        waiting += [_locate(module) for module in find_imports(file)]
        folders = (PurePosixPath(name).parent, PurePosixPath(NAME))
        for text in content.texts:
            waiting += [one for folder in folders for one in resources.get(folder / text, ())]
    return found


def find_imports(file: Path) -> set[Path]:
    """Finds the files of our modules that a file imports, inside functions too."""
    return {module for name in _read(file).modules if (module := _find_module(name))}


def hash_code(*entries: str | Path) -> str:
    """Computes the SHA-256 of what the code does that `find_code` finds, but for pages."""
    found = find_code(*entries, with_pages=False)
    lines = [f"{name} {_read(file).digest}\n" for name, file in sorted(found.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def does_nothing(file: Path) -> bool:
    """Tells whether a Python file holds no code, as a package's `__init__.py` with its docstring."""
    return file.suffix == ".py" and _read(file).digest == _Content(b"", is_code=True).digest


def _locate(entry: str | Path) -> tuple[str, Path]:
    """Finds name and place of a module, or of a file; a script's name is its folder's and its own."""
    file = entry if isinstance(entry, Path) else _find_module((entry, ""))
    if file is None or not file.is_file():
        raise PocketAffectError(f"{entry}: no such {'module' if file is None else 'file'}")
    if file.is_relative_to(SOURCE):
        return file.relative_to(SOURCE).as_posix(), file
    return f"{file.parent.name}/{file.name}", file


def _find_module(name: tuple[str, str]) -> Path | None:
    """Finds the file that defines a name of a module, or is the submodule of that name; None for another package's."""
    module, attribute = name
    if module.partition(".")[0] != NAME:
        return None
    place = SOURCE.joinpath(*module.split("."))
    inside = [place / f"{attribute}.py", place / attribute / "__init__.py"] if attribute else []
    candidates = [*inside, place.with_suffix(".py"), place / "__init__.py"]
    return next((file for file in candidates if file.is_file()), None)


def _list_resources() -> dict[PurePosixPath, list[tuple[str, Path]]]:
    """Lists the package's files that hold no code, by their name and by that of each folder without code."""
    listed = [file for file in (SOURCE / NAME).rglob("*.*") if file.suffix != ".pyc" and file.is_file()]
    with_code = {file.parent for file in listed if file.suffix == ".py"}
    resources: dict[PurePosixPath, list[tuple[str, Path]]] = {}
    for file in listed:
        place = file
        while file.suffix != ".py" and place not in with_code:
            resources.setdefault(PurePosixPath(place.relative_to(SOURCE)), []).append(_locate(file))
            place = place.parent
    return resources


def _read(file: Path) -> _Content:
    return _parse(file.read_bytes(), is_code=file.suffix == ".py")


@cache
def _parse(content: bytes, *, is_code: bool) -> _Content:
    return _Content(content, is_code=is_code)


class _Content:
    """What a file does, and what it names.

    The digest is one over our own walk of the syntax tree, since what `ast.dump` and `ast.unparse` write changes with
    Python: fields by name, without those that are empty, which newer versions add.

    Attributes:
        digest: SHA-256 of what the file does.
        modules: Each import, inside functions too, as a module and a name in it.
        texts: Strings in it that could be places.
    """

    def __init__(self, content: bytes, *, is_code: bool) -> None:
        self.modules: set[tuple[str, str]] = set()
        self.texts: set[str] = set()
        self._written: list[str] = []
        if is_code:
            self._write(ast.parse(content))
            self.digest = hashlib.sha256("".join(self._written).encode()).hexdigest()
        else:
            plain = content if b"\0" in content else content.replace(b"\r\n", b"\n")
            self.digest = hashlib.sha256(plain).hexdigest()
            if b"\0" not in content:
                self.texts.update(_QUOTED.findall(plain.decode("utf-8", errors="replace")))

    def _write(self, value: Any) -> None:
        if isinstance(value, ast.Constant):
            self._write_constant(value.value)
        elif isinstance(value, ast.AST):
            self._note_imports(value)
            self._written.append(f"{type(value).__name__}(")
            for field in sorted(set(value._fields) - {"ctx", "type_comment", "type_ignores"}):
                inside = getattr(value, field, None)
                if isinstance(inside, list):
                    inside = list(_join_texts(inside) if isinstance(value, ast.JoinedStr) else _live(inside))
                if inside is not None and inside != []:
                    self._written.append(f"{field}=")
                    self._write(inside)
            self._written.append(")")
        elif isinstance(value, list):
            self._written.append("[")
            for item in value:
                self._write(item)
                self._written.append(",")
            self._written.append("]")
        else:
            self._written.append(f"{type(value).__name__} {value!r}")

    def _write_constant(self, value: Any) -> None:
        # ascii, not repr: which characters are printable changes with Python's Unicode tables
        self._written.append(f"{type(value).__name__} {value!a}")
        if isinstance(value, str) and len(value) < 200 and _PLACE.fullmatch(value):
            self.texts.add(value)
            if value.startswith(f"{NAME}."):
                self.modules.add((value, ""))

    def _note_imports(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            self.modules.update((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            self.modules.update((node.module or "", alias.name) for alias in node.names)


def _live(items: list[Any]) -> Iterator[Any]:
    """Yields what of a list can do something: not a docstring, nor `pass`, nor imports for a type checker alone."""
    for item in items:
        if isinstance(item, ast.If) and isinstance(item.test, ast.Name) and item.test.id == "TYPE_CHECKING":
            yield from _live(item.orelse)
        elif not isinstance(item, ast.Pass) and not (
            isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
        ):
            yield item


def _join_texts(parts: list[Any]) -> Iterator[Any]:
    """Joins an f-string's parts with neighbouring texts as one, and without empty ones: not every Python does that."""
    for is_text, group in itertools.groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from group
        elif text := "".join(part.value for part in group):
            yield ast.Constant(text)
