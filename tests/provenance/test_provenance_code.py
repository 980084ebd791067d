from __future__ import annotations

import ast
import shutil
import subprocess
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.errors import PocketAffectError
from pocketaffect.provenance import code
from pocketaffect.provenance.code import find_code, hash_code

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src" / "pocketaffect"
FILES = sorted(file for file in LIBRARY.rglob("*.py") if file.name != "__init__.py")
FOLDERS = sorted({file.parent for file in FILES})


def digest(text: str) -> str:
    return code._parse(text.encode(), is_code=True).digest


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A copy of the library to change."""
    shutil.copytree(LIBRARY, tmp_path / "pocketaffect", ignore=shutil.ignore_patterns("__pycache__", "page"))
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    return tmp_path / "pocketaffect"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package of the library's name with nothing in it."""
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    (tmp_path / "pocketaffect" / "data").mkdir(parents=True)
    return tmp_path / "pocketaffect"


def write(package: Path, **files: str) -> None:
    for name, text in files.items():
        (package / f"{name.replace('_in_', '/')}.py").write_text(text)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(LIBRARY).as_posix())
def test_a_docstring_and_a_comment_change_no_digest_and_a_constant_does(library, folder):
    file = library / next(file for file in FILES if file.parent == folder).relative_to(LIBRARY)
    text, before = file.read_text(), hash_code(file)
    assert ast.get_docstring(ast.parse(text))
    file.write_text('"""Says something else."""\n# and why\n' + text.partition('"""')[2].partition('"""')[2])
    assert file.read_text() != text
    assert hash_code(file) == before
    file.write_text(f"{text}\n_ADDED = 1\n")
    assert hash_code(file) != before


@settings(max_examples=20)
@given(st.sampled_from(FILES))
def test_layout_comments_and_line_ends_change_no_digest(file):
    text = file.read_text(encoding="utf-8")
    assert digest(text) == digest(ast.unparse(ast.parse(text))) == digest(text.replace("\n", "\r\n"))


def mutate(tree: ast.AST, draw: st.DataObject) -> bool:
    """Changes one name, constant or operator that runs; False where the tree has none."""
    idle = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    kinds = (ast.Name, ast.Constant, ast.BinOp, ast.arg, ast.Attribute)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds) and id(node) not in idle]
    if not nodes:
        return False
    node = draw.draw(st.sampled_from(nodes))
    if isinstance(node, ast.Constant):
        node.value = node.value + node.value if node.value and isinstance(node.value, str) else (node.value, "other")
    elif isinstance(node, ast.BinOp):
        node.op = ast.Mod() if isinstance(node.op, ast.Add) else ast.Add()
    else:
        field = {ast.Name: "id", ast.arg: "arg", ast.Attribute: "attr"}[type(node)]
        setattr(node, field, getattr(node, field) + "_")
    return True


@settings(max_examples=40)
@given(st.sampled_from(FILES), st.data())
def test_any_changed_name_constant_or_operator_changes_the_digest(file, data):
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in ast.walk(tree):  # what only a type checker reads may change
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    if mutate(tree, data):
        content = code._Content(b"", is_code=True)
        content._written.clear()
        content._write(tree)
        before = code._Content(b"", is_code=True)
        before._written.clear()
        before._write(ast.parse(text))
        assert content._written != before._written


SHAPES = '''
from __future__ import annotations
import a.b as c, d
from . import e
@decorated(1, *x, key=2, **y)
async def f(p, /, q: int = 1, *r, s=-1, **t) -> None:
    """A docstring."""
    global u; nonlocal_ = lambda *, z=1: z  # a comment
    async with g() as (h, *i), j: await k
    async for m in n: yield m
    else: pass
    return [v async for v in w if v if not v], {**o, 1: 2}, {3}, (4,), {5: 6 for five in six}
class C(B, metaclass=M):
    field: int
    other: str = u"kind"; """What the field is."""
    def g(self): ...
try: raise E from None
except* (F, G) as h: del a[1:2, ::3], b.c
finally: assert x, "why"
match x:
    case {"k": [1, *_], **rest} | C(y, z=None) as w if w: pass
    case True | "s" | -1j | a.b: pass
    case _: pass
while (y := x @ z ** 2 // 3) and not (1 < 2 <= 3 is not None in []): break
else: x <<= ~y if z else b"\\x00\\xff"
print(f"a{b!r:>{c}}" "d" f"{e=}{{}}" "", f"{x:%Y-%m}{'y'}", "ünï\\u2028", r"\\d", 1e400, 0x_ff, 1_0.0, ..., "j" "oined")
'''


def test_every_supported_python_gives_the_digests_that_this_one_gives():
    assert digest(SHAPES) == "9e012daead8fbc547399681f957a0733651bee09cfa0cd9becd61d59fe8443f9"


@pytest.mark.slow
def test_the_pythons_that_are_here_agree_about_the_whole_library():
    program = "from pocketaffect.provenance.code import hash_code; import sys; print(sys.version_info[1], hash_code())"
    places = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    places += [str(file) for file in Path.home().glob(".pyenv/versions/3.1[123].*/bin/python")]
    said: dict[str, str] = {}
    for python in filter(None, places):
        command = [python, "-S", "-B", "-c", program]
        done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)
        if done.returncode != 127:  # a shim's word for a version that is not there
            assert done.returncode == 0, done.stderr
            version, _, found = done.stdout.strip().partition(" ")
            said[version] = found
    if len(said) < 2:
        pytest.skip("one Python alone is here; the test before has what others must give")
    assert set(said.values()) == {hash_code()}


def test_imports_inside_functions_count_and_those_for_a_type_checker_do_not(package):
    write(
        package,
        entry="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pocketaffect.types_only\n"
        "else:\n    import pocketaffect.otherwise\n"
        "def f():\n    from pocketaffect.lazy import thing\n    from pocketaffect import data, errors\n",
        lazy="from pocketaffect.data.deep import x",
        data_in_deep="x = 1",
        data_in___init__="",
        types_only="",
        otherwise="",
        errors="import pocketaffect.beyond",
        beyond="",
        unused="",
    )
    names = {"entry", "lazy", "data/deep", "data/__init__", "otherwise"}
    assert set(find_code("pocketaffect.entry")) == {f"pocketaffect/{name}.py" for name in names}


def test_modules_that_start_as_processes_and_files_that_are_read_are_found_by_their_names(package):
    (package / "data" / "tables").mkdir()
    for name in ("page.css", "idle.css", "data/page.html.jinja", "data/tables/a.json", "data/weights.bin"):
        (package / name).write_text('{% include "page.css" %}' if name.endswith("jinja") else "x")
    write(
        package,
        entry='run("pocketaffect.child"); page_template("data/page.html.jinja")',
        child='"""Reads idle.css."""\nimport pocketaffect.data.reader',
        data_in_reader='HERE / "weights.bin"; HERE / "tables"',
    )
    others = {"page.css", "data/page.html.jinja", "data/tables/a.json", "data/weights.bin"}
    names = {"entry.py", "child.py", "data/reader.py"} | others
    assert set(find_code("pocketaffect.entry")) == {f"pocketaffect/{name}" for name in names}
    before = hash_code("pocketaffect.entry")
    for name in sorted(others):
        text = (package / name).read_text() + "\ny"
        (package / name).write_text(text.replace("\n", "\r\n"))
        with_crlf = hash_code("pocketaffect.entry")
        (package / name).write_text(text)
        assert hash_code("pocketaffect.entry") == with_crlf != before
        before = with_crlf


def test_a_page_makes_no_other_digest(package):
    write(package, entry="import pocketaffect.figures, pocketaffect.train", figures="style = 1", train="")
    before = hash_code("pocketaffect.entry")
    write(package, figures="style = 2")
    assert hash_code("pocketaffect.entry") == before
    assert "pocketaffect/figures.py" in find_code("pocketaffect.entry")


def test_a_renamed_and_an_added_file_change_the_digest(package):
    write(package, entry="import pocketaffect.one", one="x = 1", two="x = 1")
    before = hash_code("pocketaffect.entry")
    write(package, entry="import pocketaffect.two")
    assert hash_code("pocketaffect.entry") != before
    assert len({before, hash_code("pocketaffect.entry"), hash_code()}) == 3


@pytest.mark.parametrize("entry", ["pocketaffect.nowhere", "numpy", Path("nowhere.py")])
def test_what_is_not_there_has_no_digest(entry):
    with pytest.raises(PocketAffectError, match="no such"):
        hash_code(entry)


def test_what_pythons_own_finder_finds_is_what_is_found():
    script = ROOT / "pipelines" / "train.py"
    finder = ModuleFinder([str(ROOT / "src")])
    finder.run_script(str(script))
    files = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    theirs = {file.relative_to(ROOT / "src").as_posix() for file in files - {script}}
    ours = {name for name in find_code(script) if not name.startswith("pipelines/")}
    assert ours <= theirs  # and it takes imports for type checkers, and packages' docstrings
    aside = set(find_code(*(LIBRARY.parent / name for name in code.CANNOT_CHANGE_A_RESULT)))
    followed = {name for name in theirs - ours - aside if not code.does_nothing(LIBRARY.parent / name)}
    checked = {"app", "cli", "sweep", "audit", "registry", "evaluation", "export"}
    assert not {name for name in followed if name.split("/")[1] in checked}


def test_what_cannot_change_a_result_is_there_and_no_more():
    everything = {file.relative_to(LIBRARY.parent).as_posix() for file in [*FILES, *FOLDERS]}
    assert everything >= code.CANNOT_CHANGE_A_RESULT.keys() | code.DRAWS_FOR_PEOPLE.keys()
    for file in LIBRARY.rglob("__init__.py"):  # so that a package's own file may stay out of what imports its modules
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            constant = isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            door = isinstance(node, ast.FunctionDef) and (file.parent, node.name) == (LIBRARY, "__getattr__")
            known = isinstance(node, ast.ImportFrom) and node.module in ("typing", "__future__")
            assert constant or known or door, file


def test_no_code_reads_its_own_docstrings():
    assert not [file for file in FILES if "__doc__" in file.read_text(encoding="utf-8")]
