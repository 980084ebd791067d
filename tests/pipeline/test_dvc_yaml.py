from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.files import read_yaml
from pocketaffect.provenance import DECIDING_SOURCES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PIPELINE: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]
ASIDE: dict[str, Any] = read_yaml(ROOT / "pipelines" / "sweep" / "dvc.yaml")["stages"]
"""What `dvc repro` runs only when it is named."""

STAGES = PIPELINE | ASIDE

# What a stage may import without naming it as a dependency, and why a change there cannot change a result.
PLUMBING = {
    "src/pocketaffect/config.py": "types and limits of params.yaml; the values themselves are each stage's params",
    "src/pocketaffect/errors.py": "the text of a failure, and a failed stage has no outputs",
    "src/pocketaffect/paths.py": "places that dvc.yaml names itself",
    "src/pocketaffect/stage.py": "runs the stage's main and reports its failure",
    "src/pocketaffect/telemetry.py": "switches what phones home",
}

COMMANDS = {"audit"}
"""Keys of params.yaml that decide what a command answers, and no output of a stage."""


def module_file(name: str) -> Path | None:
    """The file of a dotted module of ours, None for a name inside a module or another package's."""
    place = SOURCE.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run: inside functions too, without what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield from walk_runtime(child)


@cache
def direct_imports(file: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in walk_runtime(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found = {module_file(name) for name in names if name.split(".")[0] == "pocketaffect"}
    return frozenset(file for file in found if file is not None)


def all_imports(script: Path) -> dict[Path, tuple[Path, ...]]:
    """Each file of ours that the script can import, with the chain of files that leads to it."""
    chains: dict[Path, tuple[Path, ...]] = {}
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(script, ())]
    while waiting:
        file, chain = waiting.pop()
        if file.relative_to(ROOT).as_posix() in PLUMBING:  # what plumbing stands on is plumbing there
            continue
        for imported in direct_imports(file):
            if imported not in chains:
                chains[imported] = (*chain, file)
                waiting.append((imported, chains[imported]))
    return chains


def is_covered(file: str, dependencies: list[str]) -> bool:
    return any(file == dependency or file.startswith(f"{dependency}/") for dependency in dependencies)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_library_code_that_it_can_import(stage):
    missing = {}
    for file, chain in all_imports(ROOT / "pipelines" / f"{stage}.py").items():
        name = file.relative_to(ROOT).as_posix()
        if file.name == "__init__.py" or name in PLUMBING:
            continue
        if not is_covered(name, STAGES[stage]["deps"]):
            missing[name] = " > ".join(step.relative_to(ROOT).as_posix() for step in chain)
    assert missing == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_cannot_import(stage):
    imported = {file.relative_to(ROOT).as_posix() for file in all_imports(ROOT / "pipelines" / f"{stage}.py")}
    if "src/pocketaffect/provenance.py" in imported:  # it hashes these sources, imported or not
        imported |= {f"src/pocketaffect/{name}" for name in DECIDING_SOURCES}
    sources = [dependency for dependency in STAGES[stage]["deps"] if dependency.startswith("src/")]
    code = [name for name in sources if Path(name).suffix in ("", ".py")]  # what else a page is made of stands beside
    idle = [name for name in code if not any(is_covered(file, [name]) for file in imported)]
    assert idle == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_dependencies_exist_or_are_made_by_an_earlier_stage(stage):
    made = {str(paths.DATA)}
    for earlier, content in STAGES.items():
        if earlier == stage:
            break
        made.update(content["outs"])
    absent = [name for name in STAGES[stage]["deps"] if name not in made and not (ROOT / name).exists()]
    assert absent == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_own_script_and_depends_on_it(stage):
    script = f"pipelines/{stage}.py"
    assert STAGES[stage]["cmd"] == f"python {script}"
    assert script in STAGES[stage]["deps"]
    assert f'run_stage("{stage}", main)' in (ROOT / script).read_text(encoding="utf-8")


@pytest.mark.parametrize("script", sorted(ROOT.glob("pipelines/*.py")), ids=lambda script: script.name)
def test_a_stage_script_stays_under_sixty_lines(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
    assert script.stem in {*STAGES, "own_sources"}


def read_settings(script: Path) -> set[str]:
    """First two parts of each `params.x.y` that the script reads; all of them when it hands `params` itself on."""
    used: set[str] = set()
    tree = ast.parse(script.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Name) and node.id == "params"):
            continue
        section = parents[node]
        if not isinstance(section, ast.Attribute):
            used.add("*")
            continue
        key = parents[section]
        name = section.attr.rstrip("_")
        used.add(f"{name}.{key.attr}" if isinstance(key, ast.Attribute) else name)
    return used


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_settings_that_it_reads(stage):
    declared = STAGES[stage]["params"]
    used = read_settings(ROOT / "pipelines" / f"{stage}.py") - {"*"}
    missing = [name for name in used if name not in declared and name.split(".")[0] not in declared]
    assert missing == []


def test_every_key_of_params_yaml_belongs_to_a_stage_or_a_command():
    keys = set(read_yaml(ROOT / "params.yaml"))
    declared = {name.split(".")[0] for stage in STAGES.values() for name in stage["params"]}
    assert keys == declared | COMMANDS
    assert keys == {field.alias or name for name, field in Params.model_fields.items()}


def test_plumbing_is_imported_somewhere_and_package_files_hold_no_code():
    imported = {
        file.relative_to(ROOT).as_posix() for stage in STAGES for file in all_imports(ROOT / f"pipelines/{stage}.py")
    }
    assert set(PLUMBING) <= imported
    for file in SOURCE.rglob("__init__.py"):
        constants = [
            isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if not isinstance(node, ast.ImportFrom) or node.module not in ("typing", "__future__")
        ]
        assert all(constants), file


def test_the_data_import_follows_the_sample():
    content = read_yaml(ROOT / "data.dvc")
    assert [dependency["path"] for dependency in content["deps"]] == [str(paths.SAMPLE)]
    assert [output["path"] for output in content["outs"]] == [str(paths.DATA)]
    assert not content.get("frozen", False)


def test_the_scripts_start_without_torch_and_without_reading_params():
    scripts = sorted(ROOT.glob("pipelines/*.py"))
    code = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'pipelines')!r})\n"
        f"for script in {[str(script) for script in scripts]!r}:\n"
        "    runpy.run_path(script, run_name='imported')\n"
        "heavy = {'torch', 'cv2', 'mlflow', 'pandas', 'great_expectations', 'coremltools'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_change_of_any_setting_changes_the_key_of_dvcs_run_cache():
    # DVC leaves keys called size and nfiles out of that hash, at any depth: a setting of such a name would be
    # answered with the outputs of its old value.
    from dvc.stage.cache import _get_cache_hash

    def key(settings: dict[str, Any]) -> str:
        return _get_cache_hash({"cmd": "x", "params": {"params.yaml": copy.deepcopy(settings)}, "outs": []}, key=True)

    settings = read_yaml(ROOT / "params.yaml")
    before = key(settings)

    def check(section: dict[str, Any]) -> int:
        checked = 0
        for name, value in section.items():
            if isinstance(value, dict):
                checked += check(value)
                continue
            section[name] = "changed"
            assert key(settings) != before, name
            section[name] = value
            checked += 1
        return checked

    assert check(settings) > 30
