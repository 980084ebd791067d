from __future__ import annotations

import os
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from archive_files import FORMATS, IMAGES, KINDS, places, read, trees, write, write_tar, write_zip
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import describe_path_problem, read_place
from pocketaffect.errors import PocketAffectError


@settings(max_examples=40)
@given(tree=trees, kind=st.sampled_from(("gnu", "pax", "stored", "deflated")))
def test_what_goes_into_an_archive_comes_out_under_its_path(tree, kind):
    contents = {f"{IMAGES}/{name}": content for name, content in tree.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = DataFolder.open(write(Path(scratch), contents, kind))
        assert folder.names(f"{IMAGES}/") == sorted(contents)
        assert {path: read(folder, path) for path in contents} == contents
        assert {path: folder.read(path) for path in contents} == contents
        assert folder.count_refused() == {}
        assert read(folder, f"{IMAGES}/not there") == "no such file"


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_answers_alike(tmp_path, kind):
    long = "/".join(["folder"] * 10) + "/" + "n" * 80 + ".jpg"
    contents = {"training.csv": b"a,b\n" * 9000, f"{IMAGES}/1/a.jpg": b"\xff" * 700, f"{IMAGES}/2/empty.jpg": b""}
    contents[f"{IMAGES}/{long}"] = bytes(range(256))
    folder = DataFolder.open(write(tmp_path / "data", contents, kind))
    assert folder.has("training.csv")
    assert folder.has(f"{IMAGES}/")
    assert folder.has(f"{IMAGES}/2/")
    assert not folder.has("validation.csv")
    assert not folder.has("train_set/")
    assert not folder.has(f"{IMAGES}")
    assert folder.names(f"{IMAGES}/1/") == [f"{IMAGES}/1/a.jpg"]
    assert folder.names("") == sorted([*contents, *(("a.tar",) if kind in FORMATS else ("a.zip",) * (kind != "loose"))])
    assert folder.read("training.csv") == contents["training.csv"]
    with folder.open_file("training.csv") as stream:
        assert stream.read(7) == b"a,b\na,b"
        assert stream.read() == contents["training.csv"][7:]
    for path in (f"{IMAGES}/1/a.jpg", f"{IMAGES}/2/empty.jpg", f"{IMAGES}/{long}"):
        assert read(folder, path) == contents[path]
    with pytest.raises(PocketAffectError, match="no such file"):
        folder.read("validation.csv")


def test_places_keep_the_index_and_order_that_were_asked(tmp_path):
    folder = DataFolder.open(write(tmp_path, {"1/a": b"A", "1/b": b"BB"}, "pax"))
    paths = pd.Series(["1/b", "none", "1/a", "1/b"], index=[9, 4, 7, 1], dtype="str")
    found = folder.locate(paths)
    assert list(found.index) == [9, 4, 7, 1]
    assert found["archive"].tolist() == ["a.tar", "", "a.tar", "a.tar"]
    assert found["length"].tolist() == [2, 0, 1, 2]
    assert found["offset"].tolist()[0] == found["offset"].tolist()[3] > found["offset"].tolist()[2] > 0
    assert [str(kind) for kind in found.dtypes] == ["str", "int64", "int64", "bool"]
    assert folder.locate(pd.Series([], dtype="str")).shape == (0, 4)


def test_several_archives_and_loose_files_are_one_folder(tmp_path):
    write_tar(tmp_path / "a.tar", {f"{IMAGES}/1/a": b"a"})
    write_zip(tmp_path / "b.ZIP", {f"{IMAGES}/1/b": b"b"})
    write(tmp_path, {f"{IMAGES}/1/c": b"c", "training.csv": b"list"}, "loose")
    folder = DataFolder.open(tmp_path)
    assert folder.archives == ("a.tar", "b.ZIP")
    assert folder.names(f"{IMAGES}/") == [f"{IMAGES}/1/{name}" for name in "abc"]
    assert [read(folder, f"{IMAGES}/1/{name}") for name in "abc"] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_folder_around_everything_is_seen_through(tmp_path, kind):
    contents = {"AffectNet/training.csv": b"list", f"AffectNet/{IMAGES}/1/a.jpg": b"a"}
    folder = DataFolder.open(write(tmp_path, contents, kind))
    assert folder.read("training.csv") == b"list"
    assert folder.names(f"{IMAGES}/") == [f"{IMAGES}/1/a.jpg"]
    assert read(folder, f"{IMAGES}/1/a.jpg") == b"a"
    assert read(folder, f"{IMAGES}/1/b.jpg") == "no such file"


def test_an_archive_inside_the_one_folder_is_read(tmp_path):
    write(tmp_path / "AffectNet", {f"{IMAGES}/1/a.jpg": b"a"}, "pax")
    (tmp_path / "AffectNet/training.csv").write_text("list")
    folder = DataFolder.open(tmp_path)
    assert folder.archives == ("AffectNet/a.tar",)
    assert folder.read("training.csv") == b"list"
    assert read(folder, f"{IMAGES}/1/a.jpg") == b"a"


def test_an_image_folder_is_no_folder_around_everything(tmp_path):
    write_tar(tmp_path / "a.tar", {f"{IMAGES}/1/a.jpg": b"a"})
    assert DataFolder.open(tmp_path).names(f"{IMAGES}/") == [f"{IMAGES}/1/a.jpg"]


def test_an_image_folder_archived_from_inside_gets_its_name(tmp_path):
    write_zip(tmp_path / "train_set.zip", {"images/0.jpg": b"0", "annotations/0_exp.npy": b"x"})
    write_tar(tmp_path / "val_set.tar", {"./images/0.jpg": b"1"})
    folder = DataFolder.open(tmp_path)
    assert folder.names("train_set/") == ["train_set/annotations/0_exp.npy", "train_set/images/0.jpg"]
    assert [read(folder, f"{name}/images/0.jpg") for name in ("train_set", "val_set")] == [b"0", b"1"]


def test_what_macos_adds_to_archives_is_left_out(tmp_path):
    contents = {"__MACOSX/AffectNet/._training.csv": b"x", "AffectNet/training.csv": b"list", "AffectNet/._a": b"x"}
    write_zip(tmp_path / "a.zip", contents)
    folder = DataFolder.open(tmp_path)
    assert folder.names("") == ["a.zip", "training.csv"]


def test_a_member_that_is_also_loose_is_refused(tmp_path):
    write(tmp_path, {f"{IMAGES}/1/a": b"a", f"{IMAGES}/1/b": b"b", "training.csv": b"list"}, "pax")
    write(tmp_path, {f"{IMAGES}/1/a": b"another", "training.csv": b"another"}, "loose")
    folder = DataFolder.open(tmp_path)
    assert read(folder, f"{IMAGES}/1/a") == "both in an archive and as a loose file"
    assert read(folder, f"{IMAGES}/1/b") == b"b"
    with pytest.raises(PocketAffectError, match="both in an archive and as a loose file"):
        folder.read("training.csv")


def test_stored_members_and_loose_files_over_the_limit_are_not_read(tmp_path):
    folder = DataFolder.open(write(tmp_path, {"1/a": b"a" * 2000}, "pax"))
    (tmp_path / "b").write_bytes(b"b" * 2000)
    for place in places(folder, "1/a", "b"):
        assert len(read_place(tmp_path, place, limit=2000)) == 2000
        with pytest.raises(ImageProblemError, match="2,000 bytes, more than 1,999"):
            read_place(tmp_path, place, limit=1999)


def test_loose_files_that_are_none_are_told(tmp_path):
    folder = DataFolder.open(write(tmp_path / "data", {"1/a.jpg": b"a"}, "loose"))
    os.mkfifo(tmp_path / "data/pipe")
    (tmp_path / "outside").write_text("secret")
    for link, target in (("out", "../outside"), ("circle", "circle"), ("in", "1/a.jpg"), ("dangling", "none")):
        (tmp_path / "data" / link).symlink_to(target)
    (tmp_path / "data/folder").symlink_to(tmp_path)
    cached = tmp_path / ".dvc/cache/files/md5/0a" / ("1b" * 15)
    cached.parent.mkdir(parents=True)
    cached.write_text("cached")
    (tmp_path / "data/cached").symlink_to(cached)
    expected = {
        "1": "not a file",
        "pipe": "not a file",
        "none": "no such file",
        "1/a.jpg/b": "no such file",
        "out": "symbolic link leaves the data folder",
        "folder/outside": "symbolic link leaves the data folder",
        "circle": f"not readable: {os.strerror(40)}",
        "dangling": "no such file",
        "in": b"a",
        "cached": b"cached",
        "../outside": "path leaves the data folder",
        "/etc/passwd": "path leaves the data folder",
        "": "path without a file name",
        "a\0b": "path holds a NUL byte",
    }
    assert {path: read(folder, path) for path in expected} == expected
    assert folder.names("") == ["1/a.jpg", "cached", "circle", "dangling", "in", "out", "pipe"]


@pytest.mark.parametrize("path", ["../a.jpg", "1/..", "/a", "//server/a.jpg", "..\\a.jpg", "C:\\a.jpg", "c:/a", "C:a"])
def test_a_path_that_leaves_the_folder_is_found(path):
    assert describe_path_problem(path) == "path leaves the data folder"


@pytest.mark.parametrize("path", ["a.jpg", "1/a..b.jpg", "1/..a.jpg", "~a.jpg", "1/é 1.jpg", "./a.jpg"])
def test_ordinary_paths_have_no_problem(path):
    assert describe_path_problem(path) == ""


def test_an_archive_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "a.tar", {"1/a": b"a"})
    (tmp_path / "data/a.tar").symlink_to(tmp_path / "a.tar")
    with pytest.raises(PocketAffectError, match="symbolic link leaves the data folder"):
        DataFolder.open(tmp_path / "data")


def test_a_data_folder_that_is_itself_a_link_is_read(tmp_path):
    write(tmp_path / "real", {"1/a": b"a"}, "pax")
    (tmp_path / "real/b").write_text("b")
    (tmp_path / "data").symlink_to(tmp_path / "real")
    folder = DataFolder.open(tmp_path / "data")
    assert (read(folder, "1/a"), read(folder, "b")) == (b"a", b"b")


def test_no_folder_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match=r"not a data folder\n  found:   no such folder"):
        DataFolder.open(tmp_path / "none")


def test_an_empty_folder_and_an_empty_archive_are_empty(tmp_path):
    assert DataFolder.open(tmp_path).names("") == []
    write_tar(tmp_path / "a.tar", {})
    write_zip(tmp_path / "b.zip", {})
    folder = DataFolder.open(tmp_path)
    assert folder.locate(pd.Series(["x"], dtype="str"))["archive"].tolist() == [""]
    assert not folder.has("1/")


def test_names_that_are_no_utf8_do_no_harm(tmp_path):
    write_tar(tmp_path / "a.tar", {"1/a": b"a", "1/b": b"b"})
    content = (tmp_path / "a.tar").read_bytes()
    header = bytearray(content[:512])
    header[2] = 0xFF
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + content[512:])
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_text("x")
    folder = DataFolder.open(tmp_path)
    assert read(folder, "1/b") == b"b"
    assert folder.names("") == [r"1/\xff", "1/b", r"\xff.jpg", "a.tar"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_by_themselves(tmp_path, method):
    contents = {f"1/{number}": os.urandom(3000) for number in range(60)}
    folder = DataFolder.open(write(tmp_path, contents, "pax"))
    asked = places(folder, *contents)
    assert read_place(tmp_path, asked[0]) == contents["1/0"]  # the archive is open here before the workers start
    with get_context(method).Pool(2) as pool:
        found = pool.starmap(read_place, [(tmp_path, place) for place in asked], chunksize=7)
    assert found == list(contents.values())


def test_more_archives_than_stay_open_are_read(tmp_path, monkeypatch):
    from pocketaffect.data.release import places as module

    monkeypatch.setattr(module, "MAX_OPEN_ARCHIVES", 3)
    for number in range(8):
        write_tar(tmp_path / f"{number}.tar", {f"1/{number}": bytes([number])})
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    folder = DataFolder.open(tmp_path)
    for number in [*range(8), *range(8)]:
        assert read(folder, f"1/{number}") == bytes([number])
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3
