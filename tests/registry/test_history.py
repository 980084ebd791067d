"""A file's commit, found in git by what the file says of itself; the expected hashes are those of a work tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from registry_parts import make_stamped_package

from pocketaffect.config import load_params
from pocketaffect.provenance import DECIDING_SOURCES, PACKAGE, describe_origin
from pocketaffect.registry.lineage.history import fits_commit, search_history
from pocketaffect.registry.lineage.trace import trace

DATA = "deps:\n- path: sample\nouts:\n- path: data\n  md5: {}.dir\n"


def commit(root: Path, message: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("add", "-A"), ("commit", "-q", "--allow-empty", "-m", message)):
        subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True)
    shown = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return shown.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> tuple[Path, list[str], dict[str, str]]:
    """The sources that decide, in a repository inside a larger one; its commits; what a package of the second says.

    First other settings, then the ones in question, then documentation, other data, and another source.
    """
    top = tmp_path_factory.mktemp("history")
    root = top / "inner"
    for part in (*DECIDING_SOURCES, "provenance.py"):
        target = root / "src/pocketaffect" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PACKAGE / part).is_dir() else shutil.copyfile
        copy(PACKAGE / part, target)
    shipped = (PACKAGE.parents[1] / "params.yaml").read_text()
    (root / "data.dvc").write_text(DATA.format("a" * 32))
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    (root / "params.yaml").write_text(shipped.replace("seed: 7", "seed: 8"))
    commits = [commit(root, "other settings")]
    (root / "params.yaml").write_text(shipped)
    commits.append(commit(root, "the settings"))
    says = describe_origin(load_params(root / "params.yaml"), root)
    (root / "README.md").write_text("words")
    commits.append(commit(root, "words"))
    (root / "data.dvc").write_text(DATA.format("b" * 32))
    commits.append(commit(root, "other data"))
    (root / "data.dvc").write_text(DATA.format("a" * 32))
    with (root / "src/pocketaffect/labels.py").open("a") as stream:
        stream.write("# another line\n")
    commits.append(commit(root, "another source"))
    return root, commits, says


@pytest.fixture(autouse=True)
def _no_git_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


def test_a_file_leads_to_the_one_commit_of_its_data_settings_and_sources(repository):
    root, commits, says = repository
    found = search_history(root, says)
    assert [one.sha for one in found.commits] == [commits[1]]
    assert found.commits[0].params.train.seed == 7
    assert (found.looked_at, found.unjudged) == (4, 0)  # the commit of words alone changed nothing that decides
    assert [fits_commit(root, one, says) for one in commits] == [False, True, True, False, False]
    assert fits_commit(root, "0" * 40, says) is None


def test_commits_that_hashed_other_sources_or_knew_other_settings_are_counted_and_not_judged(repository, tmp_path):
    root = Path(shutil.copytree(repository[0].parent, tmp_path / "copy")) / "inner"
    rule = root / "src/pocketaffect/provenance.py"
    rule.write_text(rule.read_text().replace('"labels.py"', '"names.py"'))
    commit(root, "another rule")
    rule.write_text(rule.read_text().replace('"names.py"', '"labels.py"'))
    (root / "params.yaml").write_text("surprise: 1\n")
    commit(root, "settings of another pocketaffect")
    found = search_history(root, repository[2])
    assert [one.sha for one in found.commits] == [repository[1][1]]
    assert (found.looked_at, found.unjudged) == (6, 2)


def test_lineage_of_a_file_names_commit_and_settings_without_any_store(repository, tmp_path):
    root, commits, says = repository
    package = make_stamped_package(tmp_path / "a.mlpackage", b"x", **says)
    text = trace(None, "pocketaffect", str(package), root)[0].to_text()
    assert f"{commits[1]} of 20" in text
    assert "the settings" in text
    assert "seed=7" in text
    other = make_stamped_package(tmp_path / "b.mlpackage", b"x", **says | {"origin_params_sha256": "0" * 64})
    text = trace(None, "pocketaffect", str(other), root)[0].to_text()
    assert "none of 4 commits has these data, settings and sources" in text
    assert "no repository here" in trace(None, "pocketaffect", str(other), tmp_path)[0].to_text()
