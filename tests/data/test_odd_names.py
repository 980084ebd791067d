r"""Names that are not UTF-8: one rule from lists, folders and archives to the shards, a byte is written as `\xe9`."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from affectnet_copies import IMAGES, lines, picture, row, save_annotations, save_picture, write_copy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pocketaffect.cli.main import main
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.packing.pack import pack
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.errors import PocketAffectError
from pocketaffect.names import restore_name, show_name

BYTES = b"caf\xe9"
ODD = os.fsdecode(BYTES)
SHOWN = r"caf\xe9"


def write_odd_copy(root: Path, folder: bytes = b"1") -> Path:
    """A copy from a computer whose names and lists are in Latin-1."""
    write_copy(root, lines(row("1/a.jpg")) + folder + b"/" + BYTES + b".jpg,,,,,,3,0,0\n")
    (root / IMAGES / "1").mkdir(parents=True)
    for name in ("1/a.jpg", os.fsdecode(folder) + f"/{ODD}.jpg", "1/v.jpg"):
        file = root / IMAGES / name
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(len(name))).save(file)
    return root


def archive(source: Path, target: Path, kind: str) -> Path:
    target.mkdir()
    names = sorted(file.relative_to(source) for file in source.rglob("*") if file.is_file())
    if kind == "tar":
        with tarfile.open(target / f"{ODD}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            for name in names:
                tar.add(source / name, str(name))
    else:
        with zipfile.ZipFile(target / f"{ODD}.zip", "w") as file:
            for name in names:
                file.write(source / name, str(name).replace(ODD, "caf\xe9"))
        content = (target / f"{ODD}.zip").read_bytes()
        (target / f"{ODD}.zip").write_bytes(content.replace("caf\xe9".encode(), b"caf\xe9_"))
    return target


@pytest.mark.parametrize("folder", [b"1", b"\xff\xfe"])
@pytest.mark.parametrize("kind", ["loose", "inside one folder", "tar"])
def test_a_listed_picture_is_found_loose_and_archived(tmp_path, kind, folder):
    data = write_odd_copy(tmp_path / ODD, folder)
    data = {"loose": data, "inside one folder": tmp_path}.get(kind) or archive(data, tmp_path / "archived", kind)
    found = DataFolder.open(data)
    rows = read_annotations(found).rows
    assert rows["path"].to_list()[1] == f"{IMAGES}/{show_name(os.fsdecode(folder))}/{SHOWN}.jpg"
    assert probe_images(data, rows, workers=1).problem.tolist() == ["", "", ""]
    assert found.count_refused() == {}


def test_a_zip_whose_names_are_not_the_utf_8_that_they_claim_to_be_is_refused(tmp_path):
    source = write_odd_copy(tmp_path / "source")
    with pytest.raises(PocketAffectError, match=r"caf\\xe9\.zip: truncated or damaged archive(.|\n)*utf-8"):
        DataFolder.open(archive(source, tmp_path / "zipped", "zip"))


def test_a_pack_keeps_such_names_and_its_files(tmp_path):
    source = write_odd_copy(tmp_path / "source")
    assert pack(source, tmp_path / "packed").members == 3
    packed = DataFolder.open(tmp_path / "packed")
    assert packed.read(f"{IMAGES}/1/{SHOWN}.jpg") == (source / IMAGES / "1" / f"{ODD}.jpg").read_bytes()
    assert pack(source, tmp_path / "packed").kept_parts == 1


def test_files_that_no_list_names_are_counted_and_shown(tmp_path):
    source = write_odd_copy(tmp_path / ODD)
    (source / IMAGES / "1" / os.fsdecode(b"\xe8.jpg")).write_bytes(b"x")
    done = CliRunner().invoke(main, ["data", "describe", str(source)])
    assert done.exit_code == 0, done.output
    assert rf"1: {IMAGES}/1/\xe8.jpg" in done.output
    assert "3 of 3 listed are there" in done.output
    described = json.loads(CliRunner().invoke(main, ["data", "describe", "--json", str(source)]).stdout)
    assert described["root"].endswith(SHOWN)


def test_a_set_s_files_of_such_names_are_named_as_no_pictures(tmp_path):
    for name in ("train_set", "val_set"):
        (tmp_path / name / "images").mkdir(parents=True)
        save_annotations(tmp_path / name, 1)
        Image.fromarray(picture(1)).save(tmp_path / name / "images" / "1.jpg")
    (tmp_path / "val_set" / "images" / f"{ODD}.jpg").write_bytes(b"x")
    found = read_annotations(DataFolder.open(tmp_path))
    assert found.unsplit["text"].to_list() == [f"images/{SHOWN}.jpg"]


def test_a_path_that_dvc_cannot_name_is_refused(tmp_path):
    source = write_odd_copy(tmp_path / ODD)
    done = CliRunner().invoke(main, ["data", "use", str(source)])
    assert done.exit_code == 1
    assert rf"{SHOWN}: DVC cannot name it" in done.output


def test_a_file_whose_name_has_the_escape_itself_is_found_first(tmp_path):
    write_copy(tmp_path, [row(rf"1/{SHOWN}.jpg")])
    save_picture(tmp_path, rf"1/{SHOWN}.jpg", 1)
    save_picture(tmp_path, "1/v.jpg", 2)
    rows = read_annotations(DataFolder.open(tmp_path)).rows
    assert probe_images(tmp_path, rows, workers=1).problem.tolist() == ["", ""]


def test_errors_are_text_whatever_they_name():
    error = PocketAffectError(f"{ODD}: broken", found=Path(ODD), allowed="\ud800")
    assert str(error).encode() == b"caf\\xe9: broken\n  found:   caf\\xe9\n  allowed: \\ud800"


@given(st.binary(max_size=12).filter(lambda name: b"\\" not in name))
def test_a_shown_name_is_text_and_leads_back_to_the_name(name):
    shown = show_name(os.fsdecode(name))
    assert shown.encode().decode() == shown
    assert os.fsencode(restore_name(shown)) == name
