"""The door for Python: what it takes, what it gives, and what it does without."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pocketaffect import AffectReader
from pocketaffect.errors import PocketAffectError
from pocketaffect.predict import reader as module


@pytest.fixture(scope="module")
def reader(twin) -> AffectReader:
    return AffectReader(twin)


@pytest.fixture(scope="module")
def jpeg(photograph, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("photograph") / "face.jpg"
    Image.fromarray(photograph).save(file, quality=95)
    return file


def test_its_example_is_true(twin, photograph):
    result = doctest.testmod(module, extraglobs={"model": twin, "photograph": photograph})
    assert (result.failed, result.attempted) == (0, 4)


def test_paths_arrays_and_pillow_s_pictures_give_the_same_faces(reader, jpeg):
    pixels = np.asarray(Image.open(jpeg))
    wanted = reader.read(jpeg)
    assert wanted == reader.read(str(jpeg))
    assert len(wanted) == 1
    # Two JPEG decoders may differ by a grey level.
    for picture in (Image.open(jpeg), pixels):
        (face,) = reader.read(picture)
        assert list(face.probabilities.values()) == pytest.approx(list(wanted[0].probabilities.values()), abs=0.05)
    assert list(reader.read_many([pixels, pixels[:40], Image.open(jpeg)])) == [
        reader.read(pixels),
        [],
        reader.read(Image.open(jpeg)),
    ]


def test_a_picture_that_lies_on_its_side_by_its_exif_is_turned(reader, photograph, jpeg):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(photograph))).save(
        jpeg.with_name("turned.jpg"), exif=exif, quality=95
    )
    (wanted,) = reader.read(jpeg)
    for picture in (jpeg.with_name("turned.jpg"), Image.open(jpeg.with_name("turned.jpg"))):
        (face,) = reader.read(picture)
        assert (face.box.x, face.box.y) == pytest.approx((wanted.box.x, wanted.box.y), abs=8)


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\]"),
        (Image.new("F", (4, 4)), "32-bit grey"),
        (3, "int"),
        ("nowhere.jpg", "cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(reader, picture, problem):
    with pytest.raises(PocketAffectError, match=problem):
        reader.read(picture)


def test_a_film_is_sent_to_the_method_that_reads_films(reader, tmp_path):
    film = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    film.write(np.zeros((64, 64, 3), np.uint8))
    film.release()
    with pytest.raises(PocketAffectError, match="read_files"):
        reader.read(tmp_path / "a.avi")


def test_a_twin_is_read_without_torch_mlflow_and_settings(twin, jpeg, tmp_path):
    code = (
        "import json, sys\n"
        "from pocketaffect import AffectReader\n"
        f"(face,) = AffectReader({str(twin)!r}).read({str(jpeg)!r})\n"
        "print(json.dumps([face.expression, [name for name in sys.argv[1:] if name in sys.modules]]))"
    )
    heavy = ("torch", "mlflow", "pydantic", "pandas", "onnx", "coremltools", "matplotlib", "scipy", "pyarrow")
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    expression, imported = json.loads(done.stdout)
    assert imported == []
    (face,) = AffectReader(twin).read(jpeg)
    assert expression == face.expression


def test_a_tight_portrait_is_found_by_looking_beyond_its_border(reader, photograph):
    tight = np.ascontiguousarray(photograph[80:165, 195:260])
    (face,) = reader.read(cv2.resize(tight, None, fx=3, fy=3))
    assert 0 < face.box.x + face.box.width / 2 < 195
    assert 0 < face.box.y + face.box.height / 2 < 255


def test_smaller_faces_are_found_where_they_are_asked_for(twin, photograph):
    crowd = np.full((1500, 1500, 3), (90, 120, 90), np.uint8)
    crowd[700:900, 700:900] = cv2.resize(photograph, (200, 200), interpolation=cv2.INTER_AREA)
    assert AffectReader(twin).read(crowd) == []
    assert len(AffectReader(twin, smallest_face=0.015).read(crowd)) == 1
