from __future__ import annotations

import io
import stat
import struct
import zipfile

import pytest
from archive_files import places, read, write, write_zip

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.places import read_place
from pocketaffect.errors import PocketAffectError


def test_links_in_a_zip_are_not_opened(tmp_path):
    link = zipfile.ZipInfo("1/a.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "no plain file" in read(DataFolder.open(tmp_path), "1/a.jpg")


def test_an_encrypted_zip_is_refused(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.jpg": b"secret"})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(PocketAffectError, match=r"a\.zip: encrypted\n  found:   'a\.jpg'\n  do:"):
        DataFolder.open(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_in_a_zip_are_refused(tmp_path, method):
    write_zip(tmp_path / "a.zip", {"a.jpg": b"picture"}, method)
    with pytest.raises(PocketAffectError, match=rf"a compression that is not read here(.|\n)*method {method}\n"):
        DataFolder.open(tmp_path)


def test_a_zip_bomb_is_inflated_no_further_than_the_limit(tmp_path):
    write_zip(tmp_path / "a.zip", {"a.jpg": bytes(20 << 20), "training.csv": b"list"})
    folder = DataFolder.open(tmp_path)
    (place,) = places(folder, "a.jpg")
    assert place.length < 30_000
    with pytest.raises(ImageProblemError, match="more than 1,000,000"):
        read_place(tmp_path, place, limit=1_000_000)


@pytest.mark.parametrize("kind", ["stored", "deflated"])
def test_a_changed_byte_in_a_zip_is_noticed(tmp_path, kind):
    content = bytes(range(256)) * 8
    folder = DataFolder.open(write(tmp_path, {"1/a.jpg": content}, kind))
    (place,) = places(folder, "1/a.jpg")
    spoilt = bytearray((tmp_path / "a.zip").read_bytes())
    spoilt[place.offset + place.length // 2] ^= 0x10
    (tmp_path / "a.zip").write_bytes(spoilt)
    assert "damaged archive member" in read(folder, "1/a.jpg")
    with pytest.raises(PocketAffectError, match="damaged archive member"):
        folder.read("1/a.jpg")


def test_a_zip_written_to_a_pipe_is_read(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.content = b""

        def writable(self):
            return True

        def write(self, content):
            self.content += bytes(content)
            return len(content)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # lengths and checksums stand behind the data
        archive.writestr("1/a.jpg", b"abc" * 500)
    (tmp_path / "a.zip").write_bytes(pipe.content)
    folder = DataFolder.open(tmp_path)
    assert read(folder, "1/a.jpg") == folder.read("1/a.jpg") == b"abc" * 500


def test_a_zip_behind_another_file_is_read(tmp_path):
    write_zip(tmp_path / "a.zip", {"1/a.jpg": b"abc" * 500})
    (tmp_path / "a.zip").write_bytes(b"#! self-extracting" * 9 + (tmp_path / "a.zip").read_bytes())
    assert read(DataFolder.open(tmp_path), "1/a.jpg") == b"abc" * 500


def test_zip64_sizes_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, archive.open("1/a", "w", force_zip64=True) as member:
        member.write(b"a" * 300)
    assert read(DataFolder.open(tmp_path), "1/a") == b"a" * 300


@pytest.mark.slow
def test_a_zip_with_more_than_65535_members_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"1/{number}"), b"")
    folder = DataFolder.open(tmp_path)
    assert len(folder.names("1/")) == 66_000
    assert read(folder, "1/65999") == b""


def test_a_zip_that_goes_on_in_other_files_is_refused(tmp_path):
    write_zip(tmp_path / "a.zip", {"1/a": b"a"})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    struct.pack_into("<H", content, content.find(b"PK\x01\x02") + 34, 2)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(PocketAffectError, match=r"one part of a split archive(.|\n)*zip -s 0 a\.zip"):
        DataFolder.open(tmp_path)


def test_a_zip_whose_member_claims_another_place_is_refused(tmp_path):
    write_zip(tmp_path / "a.zip", {"1/a": b"a" * 90}, zipfile.ZIP_STORED)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    directory = content.find(b"PK\x01\x02")
    struct.pack_into("<I", content, directory + 42, 7)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(PocketAffectError, match="no member at byte 7"):
        DataFolder.open(tmp_path)
