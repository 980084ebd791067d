from __future__ import annotations

import io
import os
import signal
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from affectnet_copies import picture
from PIL import Image
from test_images import photograph

from pocketaffect.data.faces import images, probe
from pocketaffect.data.faces.crop import FaceBox, crop_face
from pocketaffect.data.faces.images import decode_image
from pocketaffect.data.faces.probe import Probes, hash_face, probe_images
from pocketaffect.errors import PocketAffectError

NO_BOX = (np.nan,) * 4


def make_rows(paths: list[str], boxes: list[tuple[float, ...]] | None = None, **places) -> pd.DataFrame:
    """The columns that probing reads, as `layouts.read_annotations` gives them."""
    table = {"path": paths, "archive": "", "offset": 0, "length": 0, "deflated": False} | places
    rows = pd.DataFrame(table).astype({"path": "str", "archive": "str"})
    rows[list(probe.BOX_COLUMNS)] = np.array(boxes or [NO_BOX] * len(paths), dtype=np.float64).reshape(-1, 4)
    return rows


def save(file: Path, image: np.ndarray, **options) -> None:
    Image.fromarray(image).save(file, **options)


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ other).sum())


def hash_slowly(face: np.ndarray) -> list[int]:
    """The 256 bits, field by field, of an RGB face."""
    grey = np.asarray(Image.fromarray(face).convert("L"))
    fields = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA)
    return [int(fields[row, column + 1] > fields[row, column]) for row in range(16) for column in range(16)]


def assert_equal(one: Probes, other: Probes) -> None:
    for name in ("problem", "width", "height", "face_hash"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_every_row_is_told_in_its_order_with_its_size_or_its_problem(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", picture(number, 30 + number, 40))
    (tmp_path / "text.jpg").write_text("no picture")
    counts = []
    names = ["2.png", "text.jpg", "0.png", "none.png", "../x", "1.png", "2.png"]
    found = probe_images(tmp_path, make_rows(names), workers=1, progress=counts.append)
    assert list(found.width) == [32, 0, 30, 0, 0, 31, 32]
    assert list(found.height) == [40, 0, 40, 0, 0, 40, 40]
    assert list(found.problem) == [
        "",
        "not an image (starts with b'no picture')",
        "",
        "no such file",
        "path leaves the data folder",
        "",
        "",
    ]
    assert found.width.dtype == found.height.dtype == np.int32
    assert found.face_hash.dtype == np.uint64
    np.testing.assert_array_equal(found.face_hash.any(axis=1), found.problem == "")
    assert sum(counts) == 7


def test_two_processes_find_what_one_finds_and_count_all(tmp_path):
    for number in range(5):
        save(tmp_path / f"{number}.png", picture(number, 30 + number))
    rows = make_rows([f"{number % 7}.png" for number in range(2 * probe.CHUNK + 3)])
    counts = []
    one = probe_images(tmp_path, rows, workers=1)
    two = probe_images(tmp_path, rows, workers=2, progress=counts.append)
    assert_equal(one, two)
    assert list(one.problem[:7]) == [""] * 5 + ["no such file"] * 2
    assert one.problem[5] is one.problem[6]  # a million missing files are not a million strings
    assert counts == [probe.CHUNK, probe.CHUNK, 3]


def test_large_pictures_are_looked_at_by_the_calling_process_with_the_same_result(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CHUNK", 3)
    for number in range(4):
        save(tmp_path / f"{number}.png", picture(number, 30, 40))
    large = np.tile(picture(7, 600, 400), (7, 11, 1))
    assert large.shape[0] * large.shape[1] > probe.LARGE_PIXELS
    save(tmp_path / "large.jpg", large)
    whole = (tmp_path / "large.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    decoded = []
    plain = images.decode_image
    monkeypatch.setattr(probe, "decode_image", lambda content, **how: decoded.append(content) or plain(content, **how))
    found = probe_images(tmp_path, make_rows(["0.png", "large.jpg", "1.png", "2.png", "cut.jpg", "3.png"]), workers=2)
    assert list(found.width) == [30, large.shape[1], 30, 30, 0, 30]
    assert [text.partition(":")[0] for text in found.problem] == [*[""] * 4, "damaged JPEG", ""]
    np.testing.assert_array_equal(found.face_hash[1], hash_face(plain(whole, least_side=probe.HASH_LEAST_SIDE), None))
    assert decoded == [whole, whole[: len(whole) // 2]]  # the small ones were the workers'


def test_no_row_gives_no_probe(tmp_path):
    found = probe_images(tmp_path, make_rows([]), workers=2)
    assert found.problem.shape == found.width.shape == (0,)
    assert found.face_hash.shape == (0, 4)


def test_members_of_an_archive_are_looked_at_in_place(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(picture(1, 50, 41)).save(stream, "PNG")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        member = tarfile.TarInfo("1/a.png")
        member.size = len(stream.getvalue())
        archive.addfile(member, io.BytesIO(stream.getvalue()))
    with tarfile.open(tmp_path / "all.tar") as archive:
        offset = archive.getmember("1/a.png").offset_data
    place = {"archive": "all.tar", "offset": offset, "length": len(stream.getvalue())}
    found = probe_images(tmp_path, make_rows(["1/a.png"], **place), workers=1)
    assert (found.problem[0], found.width[0], found.height[0]) == ("", 50, 41)


def test_sides_are_those_of_the_upright_picture_at_its_full_size(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    save(tmp_path / "a.jpg", photograph(1, 640, 480), exif=tags.tobytes())
    found = probe_images(tmp_path, make_rows(["a.jpg"], [(10, 20, 400, 500)]), workers=1)
    assert (found.width[0], found.height[0]) == (480, 640)


def test_a_hash_says_where_grey_grows_to_the_right_in_the_face(tmp_path):
    image = photograph(2, 200, 160)
    save(tmp_path / "a.png", image)
    box = (30, 20, 96, 90)
    found = probe_images(tmp_path, make_rows(["a.png", "a.png"], [box, NO_BOX]), workers=1)
    for row, frame in enumerate((FaceBox(*box), None)):
        bits = np.unpackbits(found.face_hash[row].astype(">u8").view(np.uint8))
        assert list(bits) == hash_slowly(crop_face(image, frame, margin=0, size=probe.HASH_FACE_SIDE))


def test_the_same_face_saved_otherwise_has_nearly_the_same_hash_and_another_has_not(tmp_path):
    image = photograph(3, 600, 450)
    box = np.array([80, 60, 320, 330])
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    darker = (image * 0.7 + 10).astype(np.uint8)
    files = {
        "a.png": (image, box, {}),
        "b.jpg": (image, box, {"quality": 70}),
        "c.jpg": (half, box / 2, {"quality": 90}),
        "d.jpg": (darker, box, {"quality": 90}),
        "e.png": (np.ascontiguousarray(np.roll(image, 60, axis=1)), box, {}),
        "f.png": (photograph(4, 600, 450), box, {}),
    }
    for name, (pixels, _, options) in files.items():
        save(tmp_path / name, pixels, **options)
    rows = make_rows(list(files), [tuple(place) for _, place, _ in files.values()])
    first, *others = probe_images(tmp_path, rows, workers=1).face_hash
    distances = [distance(first, other) for other in others]
    assert max(distances[:3]) <= 10
    assert min(distances[3:]) > 60


def test_a_picture_of_one_colour_and_a_box_beside_the_picture_have_no_hash(tmp_path):
    save(tmp_path / "black.png", np.zeros((40, 40, 3), dtype=np.uint8))
    save(tmp_path / "a.png", picture(1))
    boxes = [NO_BOX, (500, 500, 20, 20), (0, 0, 1e300, 1e300), (0, 0, -5, 20)]
    found = probe_images(tmp_path, make_rows(["black.png", "a.png", "a.png", "a.png"], boxes), workers=1)
    assert list(found.problem) == [""] * 4
    assert not found.face_hash[:2].any()
    assert list(found.width) == [40, 48, 48, 48]


@pytest.mark.parametrize("quality", [75, 95])
def test_a_hash_from_a_scaled_decode_is_nearly_that_from_the_full_size(quality):
    stream = io.BytesIO()
    Image.fromarray(photograph(5, 640, 480)).save(stream, "JPEG", quality=quality)
    box = FaceBox(71, 33, 400, 410)
    full = decode_image(stream.getvalue())
    small = decode_image(stream.getvalue(), least_side=96, face_side=410)
    assert small.scale == 0.25
    assert distance(hash_face(full, box), hash_face(small, box)) <= 8  # of 256; another picture's is 100 away


def kill_worker(root: Path, chunk: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_stops_the_stage_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_probe_chunk", kill_worker)
    with pytest.raises(PocketAffectError, match=r"lower preprocess\.workers"):
        probe_images(tmp_path, make_rows(["a.png"] * 3 * probe.CHUNK), workers=2)
