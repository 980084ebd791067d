"""Stages run the sources of the checkout that they stand in, with the environment's Python, or say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from checkout_parts import ROOT, edit_sources, make_checkout, run

from pocketaffect.checkout import find_foreign_sources

SCRIPTS = sorted(script.name for script in ROOT.glob("pipelines/*.py") if script.name != "own_sources.py")
PLACES = ("here", "spawned", "started")


@pytest.fixture
def checkout(tmp_path) -> Path:
    return make_checkout(tmp_path / "copy")


def said(checkout: Path) -> set[str]:
    return {(checkout / name).read_text() for name in PLACES}


def test_a_copied_checkout_runs_its_own_sources_in_every_process(checkout):
    edit_sources(checkout, "Edited in the copy:")
    done = run(checkout, "python", "pipelines/probe.py")
    assert done.returncode == 0, done.stderr
    (text,) = said(checkout)
    assert text.startswith(f"{checkout}/src/pocketaffect/errors.pyEdited in the copy:")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_stage_imports_its_checkout_s_sources_before_anything_else_of_ours(checkout, script):
    (checkout / "src" / "pocketaffect" / "__init__.py").write_text("raise RuntimeError('edited in the copy')")
    done = run(checkout, "python", f"pipelines/{script}")
    assert "RuntimeError: edited in the copy" in done.stderr


def test_a_stage_refuses_when_another_copy_was_imported_before_its_own(checkout):
    code = f"import sys, pocketaffect; sys.path.insert(0, '{checkout}/pipelines'); import own_sources"
    done = run(ROOT, "python", "-c", code)
    assert done.returncode == 1
    assert f"would run, not this checkout's {checkout}/src/pocketaffect" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_the_packages_is_named_with_what_to_do(script, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    done = run(ROOT, str(python), f"pipelines/{script}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the `python` that runs this stage has no package pydantic\n")
    assert f"found:   {python}\n  do:      `. .venv/bin/activate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_old_python_is_named_and_a_mistake_of_ours_keeps_its_traceback(checkout):
    old = "import sys; sys.version_info = (3, 9, 0); sys.path.insert(0, 'pipelines'); import own_sources"
    assert "is older than 3.11" in run(checkout, "python", "-c", old).stderr
    (checkout / "src" / "pocketaffect" / "stage.py").write_text("import pocketaffect.no_such_module")
    done = run(checkout, "python", "pipelines/train.py")
    assert "Traceback" in done.stderr
    assert "No module named 'pocketaffect.no_such_module'" in done.stderr


def test_the_command_line_warns_that_another_checkout_s_sources_run(checkout):
    assert find_foreign_sources(ROOT) is None
    done = run(checkout, "python", "-c", "from pocketaffect.cli.main import main; main()", "summary")
    warning = f"warning: the sources in {ROOT}/src/pocketaffect run, not this checkout's in {checkout}/src/pocketaffect"
    assert done.stderr.startswith(f"{warning}\n  do:      make setup")


GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")


@pytest.fixture
def repository(checkout) -> Path:
    """The checkout as a committed DVC repository whose stage has run."""
    for command in ((*GIT, "init", "-q"), ("dvc", "init", "-q"), ("dvc", "repro", "-q")):
        done = run(checkout, *command)
        assert done.returncode == 0, done.stderr
    commit(checkout)
    return checkout


def commit(folder: Path) -> None:
    for command in (("add", "-A"), ("commit", "-q", "-m", "change")):
        assert run(folder, *GIT, *command).returncode == 0


@pytest.mark.slow
def test_a_worktree_runs_its_own_sources(repository, tmp_path):
    edit_sources(repository, "Committed:")
    commit(repository)
    worktree = tmp_path / "worktree"
    assert run(repository, "git", "worktree", "add", "-q", str(worktree)).returncode == 0
    edit_sources(repository, "Edited meanwhile:")
    done = run(worktree, "dvc", "repro", "--no-run-cache")
    assert done.returncode == 0, done.stderr
    (text,) = said(worktree)
    assert text.startswith(f"{worktree}/src/pocketaffect/errors.pyCommitted:")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["queue", "temp"])
def test_an_experiment_runs_the_sources_that_dvc_copied_for_it(repository, way):
    edit_sources(repository, "Of the experiment:")
    options = ("--name", "one", "-S", "train.seed=7")
    done = run(repository, "dvc", "exp", "run", f"--{way}", *options)
    if way == "queue":
        edit_sources(repository, "Edited meanwhile:")
        done = run(repository, "dvc", "exp", "run", "--run-all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(repository, "git", "checkout", "src").returncode == 0
    done = run(repository, "dvc", "exp", "apply", "one")
    assert done.returncode == 0, done.stderr
    (text,) = said(repository)
    place, _, rest = text.partition("/src/pocketaffect/errors.py")
    assert place.startswith(f"{repository}/.dvc/tmp/exps/")
    assert rest.startswith("Of the experiment:")


@pytest.fixture
def environment(tmp_path) -> Path:
    """A checkout with a finished `make setup`, but for the packages."""
    folder = tmp_path / "100% mine" / "checkout"
    folder.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
    (folder / ".venv" / "bin" / ".ready").touch()
    return folder


def make_anew(folder: Path) -> bool:
    done = run(folder, "make", "--dry-run", "setup")
    assert done.returncode == 0, done.stderr
    return "rm -rf .venv" in done.stdout


def test_an_environment_is_kept_where_it_was_made_and_made_anew_where_it_was_moved_or_copied_to(environment):
    assert not make_anew(environment)
    copy = environment.with_name("copy")
    subprocess.run(["cp", "-al", str(environment), str(copy)], check=True)
    linked = environment.with_name("linked")
    shutil.copytree(environment, linked, ignore=shutil.ignore_patterns(".venv"))
    (linked / ".venv").symlink_to(environment / ".venv")
    assert [make_anew(place) for place in (copy, linked, environment)] == [True, True, False]
    moved = environment.rename(environment.with_name("moved"))
    assert make_anew(moved)
    assert not make_anew(moved.rename(environment))


def test_an_environment_whose_python_is_gone_is_made_anew(environment):
    python = environment / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(os.devnull + "/gone")
    assert make_anew(environment)
