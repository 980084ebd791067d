from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from archive_files import FORMATS, read, write, write_tar, write_zip
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.release.folder import DataFolder
from pocketaffect.errors import PocketAffectError

HOSTILE = ("/{}", "../{}", "1/../../{}", "C:/{}", "c:{}", "..\\{}", "./../{}", "//server/{}")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["pax", "deflated"])
def test_a_member_whose_name_leads_out_is_told_and_not_opened(tmp_path, kind, name):
    hostile = name.format("a.jpg")
    folder = DataFolder.open(write(tmp_path / "data", {hostile: b"bad", "b.jpg": b"good"}, kind))
    problem = "archive member's name is not a plain path below the data folder"
    assert folder.count_refused() == {problem: 1}
    assert read(folder, "b.jpg") == b"good"
    assert isinstance(read(folder, hostile), str)
    meant = {"1/../../{}": "1/a.jpg", "//server/{}": "server/a.jpg"}.get(name, "a.jpg")
    assert read(folder, meant) == problem
    assert not list(tmp_path.rglob("a.jpg"))


def test_names_with_a_nul_byte_are_not_opened(tmp_path):
    (tmp_path / "tar").mkdir()
    (tmp_path / "zip").mkdir()
    member = tarfile.TarInfo("x")
    member.pax_headers = {"path": "a.jpg\0.png"}
    with tarfile.open(tmp_path / "tar/a.tar", "w") as tar:
        tar.addfile(member, io.BytesIO())
    write_zip(tmp_path / "zip/a.zip", {"a.jpg?.png": b"bad"})
    content = (tmp_path / "zip/a.zip").read_bytes()
    (tmp_path / "zip/a.zip").write_bytes(content.replace(b"a.jpg?", b"a.jpg\0"))
    for kind in ("tar", "zip"):
        assert "not a plain path" in read(DataFolder.open(tmp_path / kind), "a.jpg")


def test_a_sound_member_wins_over_one_that_only_reads_alike(tmp_path):
    folder = DataFolder.open(write(tmp_path, {"../1/a": b"bad", "1/a": b"good", "/1/a": b"bad"}, "pax"))
    assert read(folder, "1/a") == b"good"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_devices_and_sparse_files_in_a_tar_are_not_opened(tmp_path, kind):
    (tmp_path / "target").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("1/a.jpg")
        member.type, member.linkname = kind, str(tmp_path / "target")
        tar.addfile(member)
    folder = DataFolder.open(tmp_path)
    assert read(folder, "1/a.jpg") == "archive member is no plain file (a link, a device or a sparse file)"
    assert folder.names("1/") == ["1/a.jpg"]  # so that a row is made of it, and refused


def test_two_members_of_one_name_are_both_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("1/a", b"1"), ("1/b", b"b"), ("./1/a", b"2"), ("1/a", b"3")):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(content))
    write_zip(tmp_path / "b.zip", {"1/c": b"c"})
    write_tar(tmp_path / "c.tar", {"1/c": b"C"})
    folder = DataFolder.open(tmp_path)
    assert [read(folder, f"1/{name}") for name in "abc"] == [
        "more than one archive member of this name",
        b"b",
        "more than one archive member of this name",
    ]
    assert folder.names("1/") == ["1/a", "1/b", "1/c"]


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_compressed_tars_are_refused(tmp_path, suffix):
    with tarfile.open(tmp_path / f"a.{suffix}", f"w:{'bz2' if suffix.endswith('bz2') else suffix[-2:]}"):
        pass
    with pytest.raises(PocketAffectError, match=rf"a\.{suffix}: a compressed archive(.|\n)*do:(.|\n)*gunzip"):
        DataFolder.open(tmp_path)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_under_a_plain_name_is_refused(tmp_path, mode):
    with tarfile.open(tmp_path / "a.tar", f"w:{mode}") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    with pytest.raises(PocketAffectError, match=r"a\.tar: a compressed archive"):
        DataFolder.open(tmp_path)


@pytest.mark.parametrize("kind", ["gnu", "pax", "stored", "deflated"])
def test_an_archive_cut_anywhere_is_refused(tmp_path, kind):
    root = write(tmp_path / "whole", {f"1/{number:150}": os.urandom(900) for number in range(4)}, kind)
    (file,) = root.iterdir()
    content = file.read_bytes()
    end = len(content.rstrip(b"\0")) if kind in FORMATS else len(content) - 1
    (tmp_path / "cut").mkdir()
    for length in [0, 1, 511, 512, *range(600, end, 271), end]:
        (tmp_path / "cut" / file.name).write_bytes(content[:length])
        with pytest.raises(PocketAffectError, match=r"truncated or damaged archive(.|\n)*do:"):
            DataFolder.open(tmp_path / "cut")


def check_damaged(data, kind: str) -> None:
    contents = {"1/a": b"a" * 600, f"1/{'b' * 120}" if kind != "ustar" else "1/b": b"b" * 40}
    with tempfile.TemporaryDirectory() as scratch:
        root = write(Path(scratch), contents, kind)
        (file,) = root.iterdir()
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            # Its headers are where damage does most, and zeros most of the rest.
            place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(511, len(content) - 1)))
            content[place] = data.draw(st.integers(0, 255))
        file.write_bytes(content)
        try:
            folder = DataFolder.open(root)
        except PocketAffectError:
            return
        for name in folder.names(""):
            found = read(folder, name)
            assert isinstance(found, str) or kind in FORMATS or found == contents.get(name, found)


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(("ustar", "gnu", "pax", "stored", "deflated")))
def test_a_damaged_archive_is_refused_or_read_by_its_names(data, kind):
    check_damaged(data, kind)


@pytest.mark.slow
@settings(max_examples=400)
@given(data=st.data(), kind=st.sampled_from(("ustar", "gnu", "pax", "stored", "deflated")))
def test_no_damage_to_an_archive_makes_it_crash(data, kind):
    check_damaged(data, kind)


def test_something_else_under_an_archives_name_is_refused(tmp_path):
    for name in ("a.tar", "a.zip"):
        (tmp_path / name).write_bytes(b"no archive" * 200)
        with pytest.raises(PocketAffectError, match="truncated or damaged archive"):
            DataFolder.open(tmp_path)
        (tmp_path / name).unlink()


def test_split_archives_are_refused(tmp_path):
    for name in ("a.zip.001", "a.tar.00", "a.z01"):
        (tmp_path / name).write_bytes(b"part")
        with pytest.raises(PocketAffectError, match="one part of a split archive"):
            DataFolder.open(tmp_path)
        (tmp_path / name).unlink()


def test_a_tar_that_is_one_long_chain_of_headers_is_refused(tmp_path):
    member = tarfile.TarInfo("./@PaxHeader")
    member.type = tarfile.XHDTYPE
    (tmp_path / "a.tar").write_bytes(member.tobuf() * 20000)
    with pytest.raises(PocketAffectError, match="truncated or damaged archive"):
        DataFolder.open(tmp_path)


def test_a_name_of_gigabytes_is_not_read(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 5 << 20
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(6 << 20))
    with pytest.raises(PocketAffectError, match="an extended header of more than"):
        DataFolder.open(tmp_path)


def test_a_member_with_a_negative_length_does_not_lead_in_circles(tmp_path):
    member = tarfile.TarInfo("a")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) * 3 + bytes(1024))
    with pytest.raises(PocketAffectError, match="truncated or damaged archive"):
        DataFolder.open(tmp_path)


@pytest.mark.parametrize("kind", ["ustar", "gnu", "pax", "stored", "deflated"])
def test_an_archive_that_changed_after_the_scan_gives_no_other_bytes(tmp_path, kind):
    names = [f"1/{letter * 20}.jpg" for letter in "abc"]
    folder = DataFolder.open(write(tmp_path, {name: name.encode() * 30 for name in names}, kind))
    assert read(folder, names[1]) == names[1].encode() * 30
    write(tmp_path, {name: name.encode() * 30 for name in reversed(names)}, kind)
    assert [read(folder, name) for name in names] == [
        "archive changed since it was scanned",
        names[1].encode() * 30,
        "archive changed since it was scanned",
    ]
    write(tmp_path, {"x": b"x"}, kind)
    assert read(folder, names[2]) == "archive changed since it was scanned"
    (tmp_path / folder.archives[0]).unlink()
    assert read(folder, names[2]) == f"no such archive: {folder.archives[0]}"
