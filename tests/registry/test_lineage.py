from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage.lineage import collect_lineage, find_changed_sources

ROOT = Path(__file__).parents[2]
DATA = """
md5: 17a00a1750c41df89034147d04183da2
deps:
- path: sample
  md5: 562ee692a592790b08e880eff9046f72.dir
outs:
- path: data
  md5: 562ee692a592790b08e880eff9046f72.dir
"""
LOCK = """
schema: '2.0'
stages:
  validate:
    cmd: python pipelines/validate.py
    deps:
    - {path: data, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.dir, size: 1}
    outs:
    - {path: reports/validation.json, hash: md5, md5: bbbb, size: 1}
    - {path: plots, hash: md5, md5: cccc.dir, size: 1}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "params.yaml").write_text("train: {epochs: 1}\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.2\n")
    (tmp_path / "data.dvc").write_text(DATA)
    (tmp_path / ".gitignore").write_text("/ignored\n")
    git(tmp_path, "init", "--quiet")
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    return git(root, "rev-parse", "HEAD")


def test_a_clean_commit_gives_its_hash_and_no_dirty_paths(repository):
    sha = commit(repository)
    (repository / "ignored").write_text("x")
    lineage = collect_lineage(repository)
    assert (lineage.commit, lineage.dirty, lineage.dirty_paths) == (sha, False, ())
    assert lineage.to_tags()["git.dirty"] == "false"
    assert lineage.to_tags()["mlflow.source.git.commit"] == sha


def test_a_clone_with_autocrlf_has_the_same_bytes(repository, tmp_path_factory):
    for name in (".gitattributes", "docs/sample.jpg"):
        shutil.copy(ROOT / name, repository)
    commit(repository)
    clone = tmp_path_factory.mktemp("crlf") / "clone"
    git(repository, "clone", "--quiet", "--config", "core.autocrlf=true", str(repository), str(clone))
    for name in git(repository, "ls-files").splitlines():
        assert (clone / name).read_bytes() == (repository / name).read_bytes(), name
    assert collect_lineage(clone) == collect_lineage(repository)


def test_line_ends_change_no_hash_of_the_lineage(repository):
    (repository / "dvc.lock").write_text(LOCK)
    before = collect_lineage(repository)
    for name in ("params.yaml", "requirements.lock", "dvc.lock", "data.dvc"):
        content = (repository / name).read_bytes()
        (repository / name).write_bytes(content.replace(b"\n", b"\r\n"))
    assert collect_lineage(repository) == before


def test_a_hook_of_another_repository_changes_no_answer(repository, tmp_path_factory, monkeypatch):
    commit(repository)
    before = collect_lineage(repository)
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert collect_lineage(repository) == before


def test_changed_added_and_deleted_files_are_dirty_and_named(repository):
    (repository / "old").write_text("x")
    commit(repository)
    (repository / "params.yaml").write_text("train: {epochs: 2}\n")
    (repository / "a folder").mkdir()
    (repository / "a folder" / "näw.py").write_text("x")
    (repository / "old").unlink()
    lineage = collect_lineage(repository)
    assert lineage.dirty
    assert lineage.dirty_paths == ("a folder/näw.py", "old", "params.yaml")
    assert lineage.to_tags()["git.dirty_paths"] == "a folder/näw.py, old, params.yaml"


def test_what_the_pipeline_itself_writes_is_not_dirty(repository):
    commit(repository)
    (repository / "dvc.lock").write_text(LOCK)
    for name in ("reports/validation.json", "plots/roc/a.tsv"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("x")
    assert not collect_lineage(repository).dirty
    (repository / "reports" / "by-hand.txt").write_text("x")
    (repository / "plots2").write_text("x")
    assert collect_lineage(repository).dirty_paths == ("plots2", "reports/by-hand.txt")


def test_a_repository_inside_a_larger_one_sees_only_its_own_files(repository):
    inner = repository / "inner"
    inner.mkdir()
    (inner / "dvc.lock").write_text("stages: {}\n")
    (inner / "code.py").write_text("x")
    commit(repository)
    (repository / "params.yaml").write_text("x: 1\n")
    (inner / "dvc.lock").write_text(LOCK)
    assert not collect_lineage(inner).dirty
    (inner / "code.py").write_text("y")
    assert collect_lineage(inner).dirty_paths == ("code.py",)


def test_an_experiment_is_named_as_dvc_names_it_while_it_runs(repository, monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    assert "dvc.experiment" not in collect_lineage(repository).to_tags()
    monkeypatch.setenv("DVC_EXP_NAME", "fuzzy-cat")
    assert collect_lineage(repository).to_tags()["dvc.experiment"] == "fuzzy-cat"


def test_without_git_and_without_commits_it_says_so(repository, tmp_path_factory, monkeypatch):
    assert collect_lineage(repository).commit == "no commit"
    outside = tmp_path_factory.mktemp("no-git")
    assert collect_lineage(outside).commit == "no git"
    assert "mlflow.source.git.commit" not in collect_lineage(outside).to_tags()
    monkeypatch.setenv("PATH", str(outside))
    lineage = collect_lineage(repository)
    assert (lineage.commit, lineage.dirty) == ("no git", False)


def test_the_data_hash_is_the_one_the_stages_read(repository):
    lineage = collect_lineage(repository)
    assert (lineage.data_md5, lineage.data_source) == ("562ee692a592790b08e880eff9046f72.dir", "sample")
    (repository / "dvc.lock").write_text(LOCK)
    assert collect_lineage(repository).data_md5 == "a" * 32 + ".dir"


def test_hashes_and_versions_are_those_of_files_and_environment(repository):
    lineage = collect_lineage(repository)
    assert lineage.sha256["params"] == hashlib.sha256(b"train: {epochs: 1}\n").hexdigest()
    assert lineage.sha256["requirements"] == hashlib.sha256(b"numpy==2.2\n").hexdigest()
    assert lineage.sha256["dvc_lock"] == "none"
    assert lineage.versions["torch"] == importlib.metadata.version("torch")
    assert lineage.versions["pocketaffect"] == importlib.metadata.version("pocketaffect")
    assert lineage.machine["cpu"] == torch.backends.cpu.get_cpu_capability()


def test_an_empty_folder_gives_a_lineage_of_nones(tmp_path_factory):
    lineage = collect_lineage(tmp_path_factory.mktemp("empty"))
    assert {lineage.data_md5, lineage.data_source, lineage.sha256["params"], lineage.sha256["requirements"]} == {"none"}


def test_a_merge_conflict_in_dvc_lock_is_named(repository):
    (repository / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> other\n")
    with pytest.raises(PocketAffectError, match=r"dvc\.lock: not readable as YAML"):
        collect_lineage(repository)


def test_tags_are_text_within_mlflows_limits(lineage):
    many = dataclasses.replace(lineage, dirty_paths=tuple(f"file{i}" for i in range(5000)))
    tags = many.to_tags()
    assert all(isinstance(value, str) and 0 < len(value) <= 5000 for key, value in tags.items())
    assert tags["git.dirty_paths"].endswith("…")


@pytest.mark.slow
def test_sources_that_changed_since_dvc_ran_are_named(repository):
    (repository / "src/inner").mkdir(parents=True)
    for name in ("stage.py", "src/a.py", "src/a-b.py", "src/inner/c.py"):
        (repository / name).write_text(f"# {name}\n")
    (repository / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: echo x > out\n    deps: [stage.py, src, src/inner/c.py]\n    outs: [out]\n"
    )
    (repository / ".gitignore").write_text("__pycache__\n/out\n")
    (repository / ".dvcignore").write_text("__pycache__\n")
    (repository / "src/__pycache__").mkdir()
    (repository / "src/__pycache__/a.pyc").write_text("x")
    (repository / "data.dvc").unlink()
    for arguments in (("init", "--quiet"), ("repro", "--quiet")):
        command = [sys.executable, "-m", "dvc", *arguments]
        subprocess.run(command, cwd=repository, env=os.environ | {"DVC_NO_ANALYTICS": "1"}, check=True)
    commit(repository)
    assert find_changed_sources(repository) == []
    (repository / "src/inner/c.py").write_text("# only a comment\n")
    assert find_changed_sources(repository) == ["src", "src/inner/c.py"]
    text = (repository / "dvc.yaml").read_text()
    (repository / "dvc.yaml").write_text(text.replace("    cmd", "    frozen: true\n    cmd"))
    assert find_changed_sources(repository) == []
    git(repository, "checkout", "--quiet", ".")
    (repository / "src/a.py").unlink()
    assert find_changed_sources(repository) == ["src"]
