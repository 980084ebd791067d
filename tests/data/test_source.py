from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from affectnet_copies import row, write_copy

from pocketaffect.data.sample import MARK
from pocketaffect.data.source import check_source, read_source, use_folder, use_sample
from pocketaffect.doctor import examine
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml

PIPELINE = Path(__file__).parents[2] / "dvc.yaml"


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with an empty pipeline and a sample; the user's copy lies beside it."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    write_copy(root / "sample", [row()])
    (root / "sample" / MARK).write_text("drawn\n")
    write_copy(tmp_path / "mine", [row(expression="4")])
    use_sample(root)
    return root


def dvc(root: Path, *arguments: str) -> None:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(root / ".dvc/site")}
    subprocess.run(
        [sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=root, env=environment, check=True, capture_output=True
    )


def test_the_sample_is_the_source_after_use_sample(root):
    assert read_source(root).is_sample
    assert check_source(root) == "the embedded sample of drawn faces"
    assert not read_source(root).frozen


def test_a_folder_is_the_source_after_use_folder(root, tmp_path):
    origin = use_folder(tmp_path / "mine", root)
    assert origin == str(tmp_path / "mine")
    assert read_source(root).origin == origin
    assert not read_source(root).is_sample
    assert check_source(root) == origin


def test_naming_the_sample_s_own_folder_means_the_sample(root):
    assert use_folder(root / "sample", root) == "sample"
    assert read_source(root).is_sample


@pytest.mark.parametrize("name", ["with space", "üñî 😀", 'quo"te', "back\\slash", "#hash: colon", "- dash"])
def test_any_folder_name_survives_data_dvc(root, tmp_path, name):
    write_copy(tmp_path / name, [row()])
    use_folder(tmp_path / name, root)
    assert read_source(root).origin == str(tmp_path / name)
    assert read_yaml(root / "data.dvc")["outs"] == [{"path": "data"}]


def test_a_folder_through_a_link_or_a_relative_path_is_written_as_it_really_lies(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("mine")
    monkeypatch.chdir(tmp_path)
    assert use_folder(Path("link"), root) == str(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert use_folder(Path("~/mine"), root) == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "text",
    [
        PIPELINE.read_text(),
        PIPELINE.read_text().replace("\n", "\r\n"),
        "stages:\n  sample:  # why\n    cmd: x\n\n    # kept\n# apart\n    outs: [a]\n# next\n  train:\n    cmd: x\n",
        "stages:\n  train:\n    cmd: x\n  sample:\n    cmd: draw",
        "stages:\n  train:\n    cmd: x\n",
    ],
    ids=["ours", "CRLF", "comments", "last", "none"],
)
def test_the_sample_is_drawn_only_where_it_is_the_data_and_dvc_yaml_comes_back_to_the_byte(root, tmp_path, text):
    file = root / "dvc.yaml"
    file.write_bytes(text.encode())
    before = read_yaml(file)["stages"]
    for _ in range(2):  # a second time changes nothing
        use_folder(tmp_path / "mine", root)
        assert read_yaml(file)["stages"] == {name: stage for name, stage in before.items() if name != "sample"}
    assert [
        line for line in text.splitlines() if line.strip()[:1] not in ("", "#") and line not in file.read_text()
    ] == []
    for _ in range(2):
        use_sample(root)
        assert file.read_bytes() == text.encode()


def test_the_doctor_says_that_nothing_draws_a_sample_which_data_dvc_names_by_hand(root, tmp_path):
    shutil.copy(PIPELINE, root)
    use_folder(tmp_path / "mine", root)
    (root / "data.dvc").write_text("deps:\n- path: sample\nouts:\n- path: data\n")
    shutil.rmtree(root / "sample")
    (finding,) = [finding for finding in examine(root) if finding.name == "data"]
    assert (finding.status, finding.todo) == ("problem", "pocketaffect data sample")


def test_a_folder_that_is_no_data_set_changes_nothing(root, tmp_path):
    before = (root / "data.dvc").read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/readme.txt").touch()
    (tmp_path / "other/training.csv").touch()
    for name, message in {
        "nowhere": "not a data folder\n  found:   no such folder",
        "empty": "no layout that is known\n  found:   an empty folder",
        "other": "validation.csv missing\n  found:   readme.txt, training.csv",
        "other/readme.txt": "not a data folder\n  found:   a file",
    }.items():
        with pytest.raises(PocketAffectError, match=re.escape(message)):
            use_folder(tmp_path / name, root)
    assert (root / "data.dvc").read_bytes() == before


def test_the_folder_that_dvc_fills_and_what_overlaps_it_is_refused(root):
    write_copy(root / "data", [row()])
    write_copy(root / "data" / "inner", [row()])
    write_copy(root, [row()])
    for folder in (root / "data", root / "data" / "inner", root):
        with pytest.raises(PocketAffectError, match="which DVC fills and empties"):
            use_folder(folder, root)


def test_outside_the_repository_nothing_is_written(tmp_path):
    write_copy(tmp_path / "mine", [row()])
    for use in (lambda: use_folder(tmp_path / "mine", tmp_path), lambda: use_sample(tmp_path)):
        with pytest.raises(PocketAffectError, match=r"no pipeline here\n  found:   no dvc\.yaml"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r"data\.dvc: no such file\n  do:      `pocketaffect data sample`"),
        ("deps: sample\n", "not what DVC writes"),
        ("deps: [sample]\n", "not what DVC writes"),
        ("deps:\n- url: x\n", "not what DVC writes"),
        ("deps: 3\n", "not what DVC writes"),
        ("- a\n", "no settings"),
        ("a: [\n", "not readable as YAML"),
        ("", "no settings"),
    ],
)
def test_a_data_dvc_that_is_missing_or_damaged_is_named(root, content, problem):
    (root / "data.dvc").unlink()
    if content is not None:
        (root / "data.dvc").write_text(content)
    with pytest.raises(PocketAffectError, match=problem):
        check_source(root)


def test_files_added_without_an_origin_are_named_as_such(root):
    (root / "data.dvc").write_text("outs:\n- path: data\n  md5: 0.dir\n")
    assert check_source(root) == "files added by `dvc add data`"


@pytest.mark.slow
def test_data_added_over_the_sample_are_missed_and_the_sample_is_refused_until_it_is_meant(root, tmp_path):
    """The trap with DVC itself: `dvc add data` keeps the sample as origin, `dvc repro` puts it back."""
    dvc(root, "init", "--no-scm")
    dvc(root, "repro", "data.dvc")
    assert check_source(root) == "the embedded sample of drawn faces"
    shutil.rmtree(root / "data")
    shutil.copytree(tmp_path / "mine", root / "data")
    dvc(root, "add", "data")
    dvc(root, "repro", "data.dvc")
    assert (root / "data" / MARK).is_file()  # the user's files are gone from data/, and nobody said so
    with pytest.raises(PocketAffectError, match="the sample has replaced another data set") as caught:
        check_source(root)
    assert "`pocketaffect data use PATH`" in str(caught.value)
    assert "`pocketaffect data sample`" in str(caught.value)
    use_folder(tmp_path / "mine", root)
    assert check_source(root) == str(tmp_path / "mine")
    use_sample(root)
    assert check_source(root) == "the embedded sample of drawn faces"


@pytest.mark.slow
def test_a_clone_runs_on_data_of_ones_own_without_drawing_the_sample_and_draws_it_again_when_it_is_the_data(
    root, tmp_path
):
    (root / "dvc.yaml").write_text(
        "stages:\n  sample:\n    cmd: mkdir sample && cp -r ../mine/. sample && touch drawn\n    outs: [sample]\n"
        "  validate:\n    cmd: ls data > out\n    deps: [data]\n    outs: [out]\n"
    )
    shutil.rmtree(root / "sample")
    dvc(root, "init", "--no-scm")
    use_folder(tmp_path / "mine", root)
    dvc(root, "repro")
    assert (root / "out").is_file()
    assert not (root / "sample").exists()
    use_sample(root)
    dvc(root, "repro")
    assert (root / "drawn").is_file()
