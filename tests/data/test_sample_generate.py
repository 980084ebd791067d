from __future__ import annotations

import csv
import hashlib
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from pocketaffect.config import SampleParams
from pocketaffect.data.sample.generate import ARCHIVE, HEADER, IMAGE_FOLDER, Row, draw_row, generate_sample
from pocketaffect.errors import PocketAffectError

PARAMS = SampleParams(seed=2018, train_images=64, validation_images=64)

# Of all files of PARAMS' sample. It changes when a drawing changes on purpose: then the new value belongs here,
# and the hashes in data.dvc and dvc.lock are renewed by `dvc repro`.
DIGEST = "adbd49df680b3fbbbbb59d0b7229d5597abe36beb35d03fef4eac1449473b802"


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(path.read_bytes())
    return total.hexdigest()


def read_rows(root: Path, split: str) -> list[dict[str, str]]:
    with (root / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def read_files(root: Path) -> dict[str, bytes]:
    with tarfile.open(root / ARCHIVE) as archive:
        stored = {member.name: archive.extractfile(member).read() for member in archive}
    return {name.removeprefix(f"{IMAGE_FOLDER}/"): content for name, content in stored.items()}


def read_image(files: dict[str, bytes], row: dict[str, str]) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(files[row["subDirectory_filePath"]], np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "sample"
    generate_sample(root, PARAMS, workers=1)
    return root


def test_the_sample_has_the_committed_bytes(sample):
    assert digest(sample) == DIGEST


def test_two_workers_write_the_same_bytes_and_leave_nothing_of_an_older_sample(sample, tmp_path):
    root = tmp_path / "sample"
    (root / IMAGE_FOLDER / "1").mkdir(parents=True)  # as older versions wrote it
    (root / IMAGE_FOLDER / "1" / "old.bmp").write_bytes(b"old")
    generate_sample(root, PARAMS, workers=2)
    assert digest(root) == digest(sample)
    assert not (root / IMAGE_FOLDER).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_another_seed_draws_other_images():
    drawn = [[draw_row(seed, Row(1, number, number % 8))[0].pixels for number in range(8)] for seed in (2018, 1)]
    assert not any(np.array_equal(*pair) for pair in zip(*drawn, strict=True))


def test_csv_files_have_affectnets_columns_and_the_asked_rows(sample):
    for split in ("training", "validation"):
        content = (sample / f"{split}.csv").read_text(encoding="utf-8")
        assert content.startswith(HEADER + "\n")
        assert "\r" not in content
        rows = read_rows(sample, split)
        assert len(rows) == 64
        assert {int(row["expression"]) for row in rows} == set(range(11))
        assert all(None not in row and None not in row.values() for row in rows)


def test_every_listed_image_exists_once_and_no_other_file_does(sample):
    listed = [row["subDirectory_filePath"] for split in ("training", "validation") for row in read_rows(sample, split)]
    stored = read_files(sample)
    assert {path.name for path in sample.iterdir()} == {ARCHIVE, "SAMPLE.md", "training.csv", "validation.csv"}
    assert len(listed) == len(set(listed))
    assert set(listed) == set(stored)
    for path in listed:
        folder, name = path.split("/")
        assert 1 <= int(folder) <= 16
        assert hashlib.sha224(stored[path]).hexdigest() + ".bmp" == name


def test_boxes_lie_inside_images_of_varied_size_and_landmarks_have_68_points(sample):
    sizes, gray, files = set(), 0, read_files(sample)
    for row in read_rows(sample, "training") + read_rows(sample, "validation"):
        image = read_image(files, row)
        height, width = image.shape[:2]
        sizes.add((height, width))
        gray += bool((image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 1] == image[:, :, 2]).all())
        x, y, box_width, box_height = (int(row[f"face_{name}"]) for name in ("x", "y", "width", "height"))
        assert 0 <= x < x + box_width <= width
        assert 0 <= y < y + box_height <= height
        assert min(box_width, box_height) >= 32
        marks = row["facial_landmarks"]
        assert (marks == "") == (row["expression"] == "10")
        assert not marks or len([float(value) for value in marks.split(";")]) == 136
    assert len(sizes) > 20
    assert 70 <= min(min(size) for size in sizes) <= max(max(size) for size in sizes) <= 150
    assert 1 <= gray <= 25


def test_affect_is_missing_or_in_range_with_four_decimals(sample):
    for row in read_rows(sample, "training") + read_rows(sample, "validation"):
        values = row["valence"], row["arousal"]
        if row["expression"] in ("9", "10"):
            assert values == ("-2", "-2")
        elif values != ("-2", "-2"):
            assert all(-1 <= float(value) <= 1 and len(value.split(".")[1]) == 4 for value in values)
            assert "-0.0000" not in values


def test_a_row_drawn_alone_equals_the_row_of_the_whole(sample):
    row = read_rows(sample, "validation")[17]
    picture, annotation = draw_row(PARAMS.seed, Row(1, 17, int(row["expression"])))
    stored = read_image(read_files(sample), row)
    np.testing.assert_array_equal(stored[:, :, ::-1], picture.pixels)
    assert annotation.label == int(row["expression"])


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PocketAffectError, match=r"thesis\.txt"):
        generate_sample(tmp_path, PARAMS, workers=1)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PocketAffectError, match="cannot be written"):
        generate_sample(tmp_path / "sample", PARAMS, workers=1)


def test_a_place_under_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PocketAffectError, match="cannot be written"):
        generate_sample(tmp_path / "file" / "sample", PARAMS, workers=1)


def test_an_image_that_cannot_be_drawn_to_disk_leaves_the_old_sample(tmp_path, monkeypatch):
    root = tmp_path / "sample"
    generate_sample(root, PARAMS, workers=1)
    before = digest(root)

    def refuse(archive: tarfile.TarFile, member: tarfile.TarInfo, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", refuse)
    with pytest.raises(PocketAffectError, match="disk full"):
        generate_sample(root, PARAMS, workers=1)
    monkeypatch.undo()
    assert digest(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
