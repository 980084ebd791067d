from __future__ import annotations

import json
import os
import shutil
import tarfile

import pandas as pd
import pytest
from affectnet_copies import IMAGES, lines, pack_copy, row, save_picture, sound_copy, sound_npy_copy, write_copy
from pack_parts import PART, contents, listing, pictures

from pocketaffect.data.packing.pack import pack
from pocketaffect.data.packing.source import LeftOut
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.errors import PocketAffectError


@pytest.fixture(params=["csv", "npy"])
def source(request, tmp_path):
    (tmp_path / "source").mkdir()
    return (sound_copy if request.param == "csv" else sound_npy_copy)(tmp_path / "source")


def test_a_pack_is_a_data_folder_with_the_same_rows_and_pictures(source, tmp_path):
    summary = pack(source, tmp_path / "packed", part_bytes=PART)
    assert len(summary.parts) > 2
    assert summary.bytes == sum((tmp_path / "packed" / part.name).stat().st_size for part in summary.parts)
    assert all(part.bytes <= PART for part in summary.parts)
    assert (summary.missing.count, summary.unreadable.count, summary.unlisted.count) == (0, 0, 0)
    ours, theirs = (read_annotations(DataFolder.open(folder)) for folder in (tmp_path / "packed", source))
    places = ["archive", "offset", "length", "deflated"]
    assert ours.layout == theirs.layout
    pd.testing.assert_frame_equal(ours.rows.drop(columns=places), theirs.rows.drop(columns=places))
    assert set(ours.rows["archive"]) <= {part.name for part in summary.parts}
    assert pictures(tmp_path / "packed") == pictures(source)


def test_other_programs_read_the_parts(source, tmp_path):
    summary = pack(source, tmp_path / "packed", part_bytes=PART)
    names: list[str] = []
    for part in summary.parts:
        with tarfile.open(tmp_path / "packed" / part.name) as tar:
            members = tar.getmembers()
            tar.extractall(tmp_path / "unpacked")
        assert {(m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0o644, 0, 0, "", "", 0)}
        names += [member.name for member in members]
    assert names == sorted(names)
    unpacked = contents(tmp_path / "unpacked")
    assert len(unpacked) == summary.members
    known = contents(source)
    assert unpacked == {name: digest for name, digest in known.items() if not name.endswith(".csv")}


def test_the_bytes_depend_on_the_contents_alone(source, tmp_path):
    pack(source, tmp_path / "first", part_bytes=PART)
    shutil.copytree(source, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in (tmp_path / "copy").rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o777)
    pack(tmp_path / "copy", tmp_path / "second", part_bytes=PART)
    for kind in ("tar", "zip"):
        pack_copy(source, tmp_path / kind, kind, top="AffectNet/", compress=kind == "zip")
        pack(tmp_path / kind, tmp_path / f"from {kind}", part_bytes=PART)
    pack(tmp_path / "first", tmp_path / "again", part_bytes=PART)
    expected = contents(tmp_path / "first")
    for other in ("second", "from tar", "from zip", "again"):
        assert contents(tmp_path / other) == expected


def test_lists_are_copied_byte_for_byte(tmp_path):
    source = write_copy(tmp_path / "source", b"\xef\xbb\xbf" + lines(row("1/a.jpg"), end="\r\n"), [row("1/v.jpg")])
    for name in ("a", "v"):
        save_picture(source, f"1/{name}.jpg", seed=1)
    (source / "ferplus_votes.csv").write_text("subDirectory_filePath,neutral\n")
    (source / "notes.txt").write_text("mine")
    header = "subDirectory_filePath,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (source / "ferplus_votes.csv").write_text(f"{header}\n1/a.jpg,5,5,0,0,0,0,0,0,0,0\n")
    summary = pack(source, tmp_path / "packed")
    assert summary.lists == ("ferplus_votes.csv", "training.csv", "validation.csv")
    for name in summary.lists:
        assert (tmp_path / "packed" / name).read_bytes() == (source / name).read_bytes()
    assert listing(tmp_path / "packed") == sorted([*summary.lists, "images-00000.tar", "pack.json", "pack.parquet"])


def test_what_does_not_go_into_a_pack_is_told(tmp_path):
    source = write_copy(
        tmp_path / "source",
        [row("1/a.jpg"), row("1/gone.jpg"), row("../out.jpg"), row("1/link.jpg"), row("1/a.jpg"), row("2/gone.jpg")],
    )
    for name in ("1/a.jpg", "1/v.jpg", "1/spare.jpg", "3/spare.jpg"):
        save_picture(source, name, seed=1)
    (source / IMAGES / "out.jpg").write_text("not below the images")
    (tmp_path / "secret.jpg").write_text("secret")
    (source / IMAGES / "1/link.jpg").symlink_to(tmp_path / "secret.jpg")
    summary = pack(source, tmp_path / "packed")
    assert summary.members == 2
    assert summary.missing == LeftOut(2, (f"{IMAGES}/1/gone.jpg", f"{IMAGES}/2/gone.jpg"))
    assert summary.unreadable.count == 2
    reasons = "\n".join(summary.unreadable.examples)
    assert f"{IMAGES}/1/link.jpg: symbolic link leaves the data folder" in reasons
    assert "out.jpg: path leaves the data folder" in reasons
    assert summary.unlisted == LeftOut(3, (f"{IMAGES}/1/spare.jpg", f"{IMAGES}/3/spare.jpg", f"{IMAGES}/out.jpg"))
    again = pack(source, tmp_path / "packed")
    assert (again.missing, again.unreadable, again.unlisted) == (summary.missing, summary.unreadable, summary.unlisted)
    assert DataFolder.open(tmp_path / "packed").names(f"{IMAGES}/") == [f"{IMAGES}/1/a.jpg", f"{IMAGES}/1/v.jpg"]


def test_a_file_longer_than_a_part_gets_a_part_of_its_own(tmp_path):
    source = sound_copy(tmp_path / "source")
    summary = pack(source, tmp_path / "packed", part_bytes=1)
    assert [part.members for part in summary.parts] == [1] * 20
    assert pictures(tmp_path / "packed") == pictures(source)


@pytest.mark.parametrize("name", ["images-00001.tar", "pack.parquet"])
@pytest.mark.parametrize("damage", ["missing", "of another length"])
def test_a_missing_or_cut_part_is_named(tmp_path, name, damage):
    pack(sound_copy(tmp_path / "source"), tmp_path / "packed", part_bytes=PART)
    file = tmp_path / "packed" / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-512])
    with pytest.raises(PocketAffectError, match=rf"{name}: a part of the pack is {damage}(.|\n)*do:"):
        DataFolder.open(tmp_path / "packed")


def test_a_spoilt_pack_file_is_told(tmp_path):
    pack(sound_copy(tmp_path / "source"), tmp_path / "packed")
    file = tmp_path / "packed/pack.json"
    content = json.loads(file.read_text())
    for spoilt in ("{", "[]", "{}", json.dumps({**content, "parts": [{"name": "../x.tar", "bytes": 1}]})):
        file.write_text(spoilt)
        with pytest.raises(PocketAffectError, match=r"pack\.json: not what `pocketaffect data pack` writes"):
            DataFolder.open(tmp_path / "packed")
    file.write_text(json.dumps(content))
    table = tmp_path / "packed/pack.parquet"
    table.write_bytes(bytes([*table.read_bytes()[:-9], *b"123456789"]))
    with pytest.raises(PocketAffectError, match=r"pack\.parquet: changed since it was packed"):
        DataFolder.open(tmp_path / "packed")


def test_bytes_that_changed_in_a_part_are_noticed(tmp_path):
    source = sound_copy(tmp_path / "source")
    pack(source, tmp_path / "packed")
    part = tmp_path / "packed/images-00000.tar"
    content = bytearray(part.read_bytes())
    content[700] ^= 1
    part.write_bytes(content)
    with pytest.raises(PocketAffectError, match=r"images-00000\.tar: changed since it was packed"):
        pack(source, tmp_path / "packed")


def test_folders_that_a_pack_may_not_lie_in_are_refused(tmp_path):
    source = sound_copy(tmp_path / "source")
    for target in (source, source / "packed", tmp_path):
        with pytest.raises(PocketAffectError, match="is, is in or holds the data set"):
            pack(source, target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(PocketAffectError, match=r"holds something that is no pack\n  found:   thesis\.txt"):
        pack(source, tmp_path / "mine")
    with pytest.raises(PocketAffectError, match="not a folder"):
        pack(source, tmp_path / "mine/thesis.txt")
    assert listing(tmp_path / "mine") == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/..pack-progress.json.999999.draft").write_text("killed at the very start")
    assert pack(source, tmp_path / "empty").members == 20
    assert not list((tmp_path / "empty").glob(".*"))


def test_a_source_without_files_is_told(tmp_path):
    source = write_copy(tmp_path / "source", [row("1/gone.jpg")])
    with pytest.raises(PocketAffectError, match=r"no file to pack\n  found:   2 listed and missing"):
        pack(source, tmp_path / "packed")


def test_names_of_all_kinds_come_through(tmp_path):
    names = ["1/Ärger 1.jpg", "1/" + "long" * 40 + ".jpg", "1/日本.jpg", "2/a b.jpg"]
    source = write_copy(tmp_path / "source", [row(name) for name in names], [row(names[0])])
    for number, name in enumerate(names):
        save_picture(source, name, seed=number)
    pack(source, tmp_path / "packed")
    assert pictures(tmp_path / "packed") == pictures(source)
