from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.provenance import deps
from pocketaffect.provenance.code import SOURCE, does_nothing, find_code

ROOT = Path(__file__).parents[2]
PIPELINE: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]
ASIDE: dict[str, Any] = read_yaml(ROOT / "pipelines" / "sweep" / "dvc.yaml")["stages"]
"""What `dvc repro` runs only when it is named."""

STAGES = PIPELINE | ASIDE

COMMANDS = {"audit"}
"""Keys of params.yaml that decide what a command answers, and no output of a stage."""


@pytest.mark.parametrize("file", deps.FILES, ids=str)
def test_the_stages_depend_on_the_code_that_their_scripts_can_run(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert deps.renew_deps(text, ROOT) == text, "make deps"


@pytest.mark.parametrize("stage", STAGES)
def test_code_that_a_script_can_run_is_below_a_dependency_and_each_dependency_has_some(stage):
    code = {name for name in find_code(ROOT / paths.PIPELINES / f"{stage}.py") if not name.startswith("pipelines/")}
    files = {f"src/{name}" for name in code if not does_nothing(SOURCE / name)}
    named = [name for name in STAGES[stage]["deps"] if name.startswith("src/")]
    assert not [file for file in files if not any(file == name or file.startswith(f"{name}/") for name in named)]
    if "src/pocketaffect/provenance/origin.py" not in files:
        assert not [name for name in named if not any(file == name or file.startswith(f"{name}/") for file in files)]


def test_other_lines_comments_and_dependencies_of_the_users_own_stay():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    other = text.replace("      - out/shards\n", "      - out/shards\n      - teacher.dir  # mine\n")
    lost = re.sub(r"      - src/pocketaffect/[a-m].*\n", "", other).replace("labels.py", "gone.py")
    assert lost.count("\n") < other.count("\n") - 30
    assert deps.renew_deps(lost, ROOT) == other


@pytest.mark.parametrize(("written", "found"), [("deps: [data, pipelines/new.py]", "a list in one line"), ("", "none")])
def test_dependencies_that_are_no_block_are_refused_by_name_and_the_file_is_left_whole(written, found):
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    stage = f"  new:\n    cmd: python pipelines/new.py\n    {written}\n"
    with pytest.raises(PocketAffectError, match=f"stage new: its deps are no block\n  found:   {found}"):
        deps.renew_deps(text.replace("stages:\n", f"stages:\n{stage}"), ROOT)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_dependencies_exist_or_are_made_by_an_earlier_stage(stage):
    made = {str(paths.DATA)}
    for earlier, content in STAGES.items():
        if earlier == stage:
            break
        made.update(out if isinstance(out, str) else next(iter(out)) for out in content["outs"])
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
    declared = STAGES[stage].get("params", [])
    used = read_settings(ROOT / "pipelines" / f"{stage}.py") - {"*"}
    missing = [name for name in used if name not in declared and name.split(".")[0] not in declared]
    assert missing == []


def test_every_key_of_params_yaml_belongs_to_a_stage_or_a_command():
    keys = set(read_yaml(ROOT / "params.yaml"))
    declared = {name.split(".")[0] for stage in STAGES.values() for name in stage.get("params", [])}
    assert keys == declared | COMMANDS
    assert keys == {field.alias or name for name, field in Params.model_fields.items()}


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
