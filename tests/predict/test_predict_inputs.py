"""What folders, films and names that are not as expected give: every input is read, or named with its reason."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pocketaffect.cli.main import main
from pocketaffect.predict.pictures import InputProblemError, find_files, read_pictures

FRAMES = 40
ODD_NAME = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A film of 40 frames in each container that this OpenCV writes."""
    folder = tmp_path_factory.mktemp("films")
    generator = np.random.default_rng(0)
    picture = cv2.GaussianBlur(generator.integers(0, 255, (128, 128, 3), np.uint8), (0, 0), 3)
    codecs = {"avi": "MJPG", "mp4": "mp4v", "mov": "MJPG", "mkv": "mp4v", "webm": "VP80", "ts": "MPG2", "wmv": "WMV2"}
    for suffix, codec in codecs.items():
        film = cv2.VideoWriter(
            str(folder / f"film.{suffix}"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 10, (128, 128)
        )
        for shift in range(FRAMES):
            film.write(np.roll(picture, 3 * shift, axis=1))
        film.release()
    return folder


@pytest.fixture
def predict(twin):
    def call(*arguments: object):
        return CliRunner().invoke(main, ["predict", "--no-detect", "--model", str(twin), *map(str, arguments)])

    return call


def read_all(file: Path, step: int = 1) -> tuple[int, str]:
    """How many pictures a file gives before its error, and the error."""
    count = 0
    try:
        for _ in read_pictures(file, step=step):
            count += 1
    except InputProblemError as error:
        return count, str(error)
    return count, ""


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mov", "mkv", "webm", "ts", "wmv"])
def test_a_whole_film_is_read_to_its_end_without_complaint(films, suffix):
    assert read_all(films / f"film.{suffix}") == (FRAMES, "")
    assert read_all(films / f"film.{suffix}", step=3) == (14, "")


@pytest.mark.parametrize("suffix", ["avi", "mkv", "webm"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_film_that_was_cut_off_keeps_its_frames_and_is_named(films, tmp_path, suffix, share):
    content = (films / f"film.{suffix}").read_bytes()
    film = tmp_path / f"cut.{suffix}"
    film.write_bytes(content[: int(share * len(content))])
    count, error = read_all(film)
    assert 0 < count < FRAMES
    assert f"cut.{suffix}: " in error
    assert f"{count} of" in error
    assert f"{FRAMES} frames" in error


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mov", "mkv", "webm", "ts", "wmv"])
def test_a_film_with_a_hole_keeps_its_frames_and_is_named(films, tmp_path, suffix):
    content = bytearray((films / f"film.{suffix}").read_bytes())
    start, end = int(0.4 * len(content)), int(0.6 * len(content))
    content[start:end] = bytes(end - start)
    film = tmp_path / f"hole.{suffix}"
    film.write_bytes(content)
    count, error = read_all(film, step=2)
    assert 0 < count < FRAMES // 2
    assert "frames" in error
    assert f"{FRAMES} frames" in error


def test_a_film_that_was_trimmed_without_encoding_it_again_is_whole(films, tmp_path):
    """Phones trim so: all frames stay in the file, and an edit list says from where to where to play."""
    content = bytearray((films / "film.mp4").read_bytes())
    place, scale = content.index(b"elst"), content.index(b"mdhd") + 16
    (length,) = struct.unpack_from(">I", content, place + 12)
    (second,) = struct.unpack_from(">I", content, scale)
    struct.pack_into(">Ii", content, place + 12, length // 2, second)
    (tmp_path / "trimmed.mp4").write_bytes(content)
    assert read_all(tmp_path / "trimmed.mp4") == (FRAMES // 2, "")


def test_a_damaged_film_s_rows_are_written_and_the_exit_code_is_1(films, tmp_path, predict):
    content = (films / "film.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    done = predict(tmp_path / "cut.avi", films / "film.mp4", "--output", tmp_path / "rows.jsonl")
    assert done.exit_code == 1
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    count = sum("cut.avi" in row["input"] for row in rows)
    assert f"{count} of {FRAMES} frames" in done.stderr
    assert len(rows) == count + FRAMES


@pytest.mark.parametrize("suffix", ["mts", "m2ts", "MTS", "bin", "jpg", ""])
def test_a_film_in_a_folder_is_known_by_its_content(films, tmp_path, suffix):
    shutil.copy(films / "film.ts", tmp_path / f"film.{suffix}")
    (file,) = find_files([tmp_path], pytest.fail)
    assert read_all(file) == (FRAMES, "")


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        *(("jfif", "JPEG"), ("jpe", "JPEG"), ("mpo", "JPEG"), ("JPG_1", "JPEG"), ("dat", "PNG"), ("mp4", "WEBP")),
        *(("x", "BMP"), ("pnm", "PPM"), ("", "TIFF"), ("xyz", "GIF")),
    ],
)
def test_a_picture_in_a_folder_is_known_by_its_content(tmp_path, suffix, form):
    Image.new("RGB", (30, 20), (200, 90, 10)).save(tmp_path / f"picture.{suffix}", form)
    (file,) = find_files([tmp_path], pytest.fail)
    (picture,) = read_pictures(file)
    assert picture.pixels.shape == (20, 30, 3)


def test_what_is_neither_picture_nor_film_is_named_with_the_count_and_the_rest_is_read(tmp_path, predict):
    for name, content in (("a.txt", b"text\n" * 300), ("b.nfo", b"more"), ("c.json", b"{}"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "film.txt").write_bytes(b"ffconcat version 1.0\nfile elsewhere.avi\n")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    Image.new("RGB", (30, 20)).save(tmp_path / "inside.jfif", "JPEG")
    done = predict(tmp_path)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 1
    assert f"{tmp_path}: 5 file(s) are neither image nor film" in done.stderr
    assert "a.txt, b.nfo, c.json, empty, film.txt" in done.stderr
    assert "hidden" not in done.stderr


def test_a_picture_of_a_kind_that_is_not_read_is_named_by_its_kind(tmp_path, predict):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    done = predict(tmp_path)
    assert done.exit_code == 1
    assert "phone.heic: no usable image\n  found:   HEIF or AVIF" in done.stderr


def test_links_and_folders_that_cannot_be_read_are_named(tmp_path, predict):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "again").symlink_to(tmp_path)  # in a circle
    done = predict(tmp_path)
    assert done.exit_code == 1
    assert "gone.jpg: cannot be read" in done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_names_that_are_not_utf8_are_written_with_their_bytes_escaped(films, tmp_path, predict, form):
    folder = tmp_path / ODD_NAME
    folder.mkdir()
    Image.new("RGB", (30, 20)).save(folder / f"{ODD_NAME}.jpg")
    shutil.copy(films / "film.avi", folder / f"{ODD_NAME}.avi")
    (folder / f"{ODD_NAME}.png").write_bytes(b"hello")
    for target in (None, tmp_path / f"rows-{ODD_NAME}"):
        done = predict(folder, "--format", form, "--step", 20, *(("--output", target) if target else ()))
        assert done.exit_code == 1
        assert r"caf\xe9.png: no usable image" in done.stderr
        text = target.read_text("utf-8") if target else done.stdout
        rows = csv.DictReader(text.splitlines()) if form == "csv" else map(json.loads, text.splitlines())
        names = [rf"{tmp_path}/caf\xe9/caf\xe9.avi"] * 2 + [rf"{tmp_path}/caf\xe9/caf\xe9.jpg"]
        assert [row["input"] for row in rows] == names


def test_annotated_pictures_of_such_names_are_written(tmp_path, predict):
    Image.new("RGB", (80, 60)).save(tmp_path / f"{ODD_NAME}.jpg")
    done = predict(tmp_path / f"{ODD_NAME}.jpg", "--annotate", tmp_path / "seen")
    assert done.exit_code == 0, done.output
    assert [file.name for file in (tmp_path / "seen").iterdir()] == [f"{ODD_NAME}.jpg.png"]
