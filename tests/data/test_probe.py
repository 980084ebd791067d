from __future__ import annotations

import os
from pathlib import Path

import pytest
from affectnet_copies import IMAGES, picture, save_picture
from PIL import Image

from pocketaffect.data import probe
from pocketaffect.data.probe import Probe, describe_path_problem, probe_images


@pytest.mark.parametrize(
    "path",
    [
        *("../a.jpg", "1/../../a.jpg", "1/..", "/etc/passwd", "//server/a.jpg", "\\\\server\\a.jpg", "..\\a.jpg"),
        *("C:\\a.jpg", "c:/a.jpg", "C:a.jpg", "1\\..\\..\\a.jpg"),
    ],
)
def test_a_path_that_leaves_the_folder_is_found(path):
    assert describe_path_problem(path) == "path leaves the data folder"


@pytest.mark.parametrize("path", ["", ".", "./", "?", "1/", "1/."])
def test_a_path_that_names_no_file_is_found(path):
    assert describe_path_problem(path) == "path without a file name"


@pytest.mark.parametrize("path", ["a.jpg", "1/a.jpg", "1/a..b.jpg", "1/..a.jpg", "~a.jpg", "1/é 1.jpg", "./a.jpg"])
def test_ordinary_paths_have_no_problem(path):
    assert describe_path_problem(path) == ""


def test_every_file_is_told_in_the_order_asked(tmp_path):
    for number in range(3):
        save_picture(tmp_path, f"{number}.png", number, width=30 + number, height=40)
    (tmp_path / IMAGES / "text.jpg").write_text("no picture")
    names = ["2.png", "text.jpg", "0.png", "none.png", "../x", "1.png", "2.png"]
    found = probe_images(tmp_path / IMAGES, names, workers=1)
    assert [(item.width, item.height) for item in found] == [
        (32, 40),
        (0, 0),
        (30, 40),
        (0, 0),
        (0, 0),
        (31, 40),
        (32, 40),
    ]
    assert [item.problem for item in found if item.problem] == [
        "not an image (starts with b'no picture')",
        "no such file",
        "path leaves the data folder",
    ]


def test_two_processes_tell_what_one_tells(tmp_path):
    for number in range(5):
        save_picture(tmp_path, f"{number}.png", number, width=30 + number)
    names = [f"{number % 7}.png" for number in range(2 * probe.CHUNK + 3)]
    one, two = (probe_images(tmp_path / IMAGES, names, workers=workers) for workers in (1, 2))
    assert one == two
    assert [item.problem for item in one[:7]] == [""] * 5 + ["no such file"] * 2


def test_no_path_gives_no_probe(tmp_path):
    assert probe_images(tmp_path, [], workers=2) == []


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    Image.fromarray(picture(1)).save(outside / "a.png")
    Image.fromarray(picture(1)).save(data / "own.png")
    (data / "file.png").symlink_to(outside / "a.png")
    (data / "folder").symlink_to(outside)
    (data / "inside.png").symlink_to("own.png")
    (data / "circle.png").symlink_to("circle.png")
    (data / "dangling.png").symlink_to("nothing.png")
    found = probe_images(data, ["file.png", "folder/a.png", "inside.png", "circle.png", "dangling.png"], workers=1)
    assert [item.problem for item in found] == [
        "symbolic link leaves the data folder",
        "symbolic link leaves the data folder",
        "",
        f"not readable: {os.strerror(40)}",
        "no such file",
    ]


def test_links_that_dvc_made_to_its_cache_are_followed(tmp_path):
    cached = tmp_path / ".dvc/cache/files/md5/0a" / ("1b" * 15)
    cached.parent.mkdir(parents=True)
    Image.fromarray(picture(1)).save(cached, "PNG")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").symlink_to(cached)
    assert probe_images(tmp_path / "data", ["a.png"], workers=1) == [Probe(48, 40, "")]


def test_a_data_folder_that_is_itself_a_link_is_read(tmp_path):
    save_picture(tmp_path / "real", "a.png", 1)
    Path(tmp_path / "data").symlink_to(tmp_path / "real")
    assert probe_images(tmp_path / "data", [f"{IMAGES}/a.png"], workers=1) == [Probe(48, 40, "")]
