from __future__ import annotations

import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pocketaffect import __version__
from pocketaffect.cli.main import main
from pocketaffect.config import load_params
from pocketaffect.data.release.csv_release import CSV_COLUMNS
from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import PHOTOGRAPHS, write_recipe

PARAMS = Path(__file__).parents[1] / "params.yaml"
DATA_COMMANDS = ("describe", "pack", "profile", "sample", "use")
HEAVY = {
    "torch",
    "mlflow",
    "pandas",
    "numpy",
    "great_expectations",
    "coremltools",
    "pydantic",
    "cv2",
    "dvc",
    "matplotlib",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import pocketaffect.cli.main",
        "from pocketaffect.cli.main import main\nmain(['--help'], standalone_mode=False)",
        "from pocketaffect.cli.main import main\nmain(['data', 'use', '--help'], standalone_mode=False)",
    ],
)
def test_help_imports_nothing_heavy(code):
    assert imported_by(code) & HEAVY == set()


@pytest.mark.parametrize("command", commands(main), ids=" ".join)
def test_every_command_explains_itself(command):
    for flag in ("--help", "-h"):
        result = run(*command, flag)
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        target = main
        for name in command:
            target = target.commands[name]
        assert target.help
        assert target.help.split("\n")[0].split()[0] in result.output


def test_every_command_is_named_in_the_readme_or_in_docs():
    root = Path(__file__).parents[1]
    pages = " ".join(file.read_text(encoding="utf-8") for file in (root / "README.md", *root.glob("docs/*.md")))
    text = " ".join(pages.split())
    leaves = [path for path in commands(main) if path and not any(path == other[:-1] for other in commands(main))]
    assert [path for path in leaves if f"pocketaffect {' '.join(path)}" not in text] == []


def test_the_version_is_the_package_s():
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"pocketaffect, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["data", "use"], ["doctor", "--nonsense"], ["data", "nonsense"]])
def test_a_wrong_command_line_exits_with_two(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.output


def test_a_problem_that_the_user_can_mend_exits_with_one_and_no_traceback(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pocketaffect.cli.main import main; main()",
            "data",
            "use",
            str(tmp_path / "nowhere"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path}/nowhere: not a data folder\n  found:   no such folder\n")
    assert "Traceback" not in done.stderr


def test_a_bug_is_not_dressed_up_as_the_user_s_problem(monkeypatch):
    def fail(_root: Path) -> str:
        raise KeyError("bug")

    monkeypatch.setattr("pocketaffect.summary.summarise", fail)
    result = run("summary")
    assert isinstance(result.exception, KeyError)
    assert not isinstance(result.exception, PocketAffectError)


def test_a_full_disk_is_named_by_every_command(monkeypatch):
    def fail(_root: Path) -> str:
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")
        return ""

    monkeypatch.setattr("pocketaffect.summary.summarise", fail)
    result = run("summary")
    assert result.exit_code == 1
    assert "disk full" in result.output


def test_data_use_and_data_sample_point_the_pipeline_there_and_back(tmp_path, monkeypatch):
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    Path("dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "mine").mkdir()
    for name in ("training.csv", "validation.csv"):
        (tmp_path / "mine" / name).write_text(",".join(CSV_COLUMNS) + "\n")
    shipped = PARAMS.read_text()
    Path("params.yaml").write_text(shipped.replace("  epochs: 16\n", "  epochs: 99\n"))
    mine = Path("params.yaml").read_text()
    result = run("data", "use", "../mine")
    assert result.exit_code == 0
    assert result.output.startswith(f"data.dvc now imports {tmp_path}/mine\n")
    assert "-  class_weights: balanced" in result.output
    assert "+  class_weights: effective" in result.output
    assert result.output.endswith("next: dvc repro\n")
    assert f'path: "{tmp_path}/mine"' in Path("data.dvc").read_text()
    written = load_params(Path("params.yaml"))
    assert (written.train.logit_adjustment, written.train.epochs) == (PHOTOGRAPHS["train.logit_adjustment"][1], 99)
    assert run("data", "use", "../mine").output == f"data.dvc now imports {tmp_path}/mine\nnext: dvc repro\n"
    result = run("data", "sample")
    assert result.output.startswith("data.dvc now imports the embedded sample\n")
    assert 'path: "sample"' in Path("data.dvc").read_text()
    assert Path("params.yaml").read_text() == mine


def test_the_recipe_for_photographs_changes_the_shipped_settings_which_are_the_sample_s(tmp_path):
    shutil.copy(PARAMS, tmp_path)
    write_recipe(drawn=False, file=tmp_path / "params.yaml")
    changed = [line for line in (tmp_path / "params.yaml").read_text().splitlines() if line not in PARAMS.read_text()]
    assert len(changed) == len(PHOTOGRAPHS)


def test_the_recipe_for_photographs_is_that_of_the_network_that_comes_with_the_package():
    made = YAML(typ="safe").load(PARAMS.with_name("src") / "pocketaffect" / "shipped" / "recipe.yaml")
    for name, (_, value) in PHOTOGRAPHS.items():
        *sections, key = name.split(".")
        found = reduce(dict.__getitem__, sections, made)[key]
        assert found == (0 if name == "train.augment.tint" else value), name


def test_inspect_refuses_what_is_no_package(tmp_path):
    result = run("inspect", str(tmp_path))
    assert result.exit_code == 1
    assert "not a Core ML package" in result.output


def test_doctor_exits_with_one_when_it_finds_a_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("doctor")
    assert result.exit_code == 1
    assert "params.yaml" in result.output
    assert "do: " in result.output
    assert "problem(s)" in result.output.splitlines()[-1]
