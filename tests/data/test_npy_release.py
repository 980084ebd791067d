from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from affectnet_copies import EYES, FACE_POINTS, pack_copy, save_annotations, sound_npy_copy
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.data.release.npy_release import decode_landmarks, decode_values
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EYE_COLUMNS


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.write_text, (self.file, "executed")


def npy(value, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(value), **options)
    return stream.getvalue()


def read(root: Path):
    return read_annotations(DataFolder.open(root))


def read_one(root: Path, **values):
    """Row 3 of a training set whose image 3 has these annotations."""
    sound_npy_copy(root, training=5, validation=1)
    for file in (root / "train_set" / "annotations").glob("3_*"):
        file.unlink()
    save_annotations(root / "train_set", 3, **values)
    rows = read(root).rows
    return rows[rows["path"] == "train_set/images/3.jpg"].iloc[0]


def test_rows_come_in_the_order_of_their_numbers(tmp_path):
    rows = read(sound_npy_copy(tmp_path)).rows
    assert rows["line"].to_list() == [*range(12), *range(8)]
    assert rows["path"].to_list()[9:13] == [f"train_set/images/{n}.jpg" for n in (9, 10, 11)] + ["val_set/images/0.jpg"]
    assert (rows["unread"] == "").all()
    assert rows["landmark_count"].to_list() == [(136, 0, 0)[n % 3] for n in [*range(12), *range(8)]]


@pytest.mark.parametrize(
    "wrap", [int, float, str, np.float32, np.int64, np.str_, lambda x: np.bytes_(str(x)), lambda x: [x]]
)
def test_a_value_may_be_a_number_or_its_text_of_any_type(tmp_path, wrap):
    found = read_one(tmp_path, exp=wrap(7), val=wrap("-1"), aro=wrap("1"), lnd=None)
    assert found[["expression", "valence", "arousal", "unread", "landmark_count"]].to_list() == [7, -1, 1, "", 0]


def test_a_pickle_is_never_executed_and_shows_as_what_it_is(tmp_path):
    mark = tmp_path / "executed"
    pickled = np.array(Bomb(mark), dtype=object)
    found = read_one(tmp_path / "copy", exp=pickled, lnd=np.array([Bomb(mark)] * 136, dtype=object))
    bare = tmp_path / "copy" / "train_set" / "annotations" / "3_val.npy"
    bare.write_bytes(pickle.dumps(Bomb(mark)))
    again = read(tmp_path / "copy").rows.iloc[3]
    assert not mark.exists()
    assert np.isnan(found["expression"])
    assert found["unread"] == "expression a pickled object"
    assert found["landmark_count"] == -1
    assert again["unread"].startswith("expression a pickled object, valence no npy file (starts with b'\\x80")
    np.load(tmp_path / "copy" / "train_set" / "annotations" / "3_exp.npy", allow_pickle=True)
    assert mark.exists()  # it would have been


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("abc", "'abc'"),
        ("", "''"),
        (np.nan, "nan"),
        (-np.inf, "-inf"),
        ("inf", "'inf'"),
        ([1, 2, 3], "an array of 3 values"),
        ([], "an array of 0 values"),
        (1j, "an array of complex128"),
        (True, "an array of bool"),
        (np.datetime64("2018-01-01"), "an array of datetime64[D]"),
        (np.zeros((), dtype=[("a", "f4")]), "an array of [('a', '<f4')]"),
        (None, "no file"),
    ],
)
def test_what_is_no_finite_number_is_nan_and_told(tmp_path, value, said):
    found = read_one(tmp_path, val=value)
    assert np.isnan(found["valence"])
    assert found["arousal"] == -0.25
    assert found["unread"] == f"valence {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"hello", "no npy file (starts with b'hello')"),
        (npy(0.5)[:-1], "cut short"),
        (npy(0.5)[:40], "an npy file with a damaged header"),
        (npy(0.5).replace(b"<f8", b"<q9"), "an npy file with a damaged header"),
        (npy(0.5).replace(b"'shape': ()", b"'shape': (9999999999,)"), "an array of shape (9999999999,)"),
        (npy(0.5).replace(b"'<f8'", b"'<U99999'"), "cut short"),
        (npy(0.5, version=(2, 0)), "an npy file of version 02.00"),
        (b"x" * (1 << 16) + b"x", "65,537 bytes, more than 65,536"),
    ],
)
@pytest.mark.parametrize("kind", ["loose", "tar", "zip"])
def test_a_damaged_file_is_told_loose_or_archived(tmp_path, content, said, kind):
    root = sound_npy_copy(tmp_path / "copy", training=2, validation=1)
    (root / "train_set" / "annotations" / "1_aro.npy").write_bytes(content)
    if kind != "loose":
        root = pack_copy(root, tmp_path / "packed", kind, compress=True)
    rows = read(root).rows
    assert rows["unread"].to_list() == ["", f"arousal {said}", ""]
    assert rows["arousal"].isna().to_list() == [False, True, False]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_annotations_of_an_archive_that_changed_since_it_was_scanned_are_told_not_read(tmp_path, kind):
    source = sound_npy_copy(tmp_path / "copy", training=2, validation=1)
    folder = DataFolder.open(pack_copy(source, tmp_path / "packed", kind))
    for file in source.rglob("0_val.npy"):
        file.write_bytes(npy(np.zeros(150)))  # the members behind it move by whole blocks
    pack_copy(source, tmp_path / "packed", kind)
    rows = read_annotations(folder).rows
    assert rows["valence"].isna().all()
    assert rows["unread"][1:].str.contains("valence archive changed since it was scanned").all()


def test_an_image_without_annotations_and_annotations_without_an_image_are_rows(tmp_path):
    sound_npy_copy(tmp_path, training=4, validation=1)
    train = tmp_path / "train_set"
    for file in (train / "annotations").glob("2_*"):
        file.unlink()
    (train / "images" / "1.jpg").unlink()
    save_annotations(train, 77, val=None, aro=None, lnd=None)
    found = read(tmp_path)
    rows = found.rows[found.rows["list"] == "train_set"]
    assert rows["line"].to_list() == [0, 1, 2, 3, 77]
    assert rows["path"].to_list()[4] == "train_set/images/77.jpg"
    assert rows["unread"].to_list()[2] == "expression no file, valence no file, arousal no file"
    assert rows["unread"].to_list()[4] == "valence no file, arousal no file"
    assert rows["expression"].to_list()[4] == 3
    assert rows["landmark_count"].to_list()[2] == 0
    assert len(found.unsplit) == 0


def test_files_that_are_named_otherwise_are_counted_and_shown(tmp_path):
    sound_npy_copy(tmp_path, training=2, validation=1)
    others = ["images/cat.jpg", "images/1", "annotations/1_xyz.npy", "annotations/a_exp.npy", "readme.md"]
    ignored = ["images/.DS_Store", "annotations/Thumbs.db", "images/._1.jpg"]
    for name in (*others, *ignored):
        (tmp_path / "train_set" / name).write_bytes(b"")
    found = read(tmp_path)
    assert sorted(found.unsplit["text"]) == sorted(others)
    assert set(found.unsplit["list"]) == {"train_set"}
    assert [(item.rows, item.unsplit) for item in found.lists] == [(2, 5), (1, 0)]


def test_digits_are_kept_as_they_are_written(tmp_path):
    sound_npy_copy(tmp_path, training=2, validation=1)
    images = tmp_path / "train_set" / "images"
    for name in ("0000001.png", "1.png"):
        (images / name).write_bytes(b"")
    save_annotations(tmp_path / "train_set", "0000001", exp=6)
    rows = read(tmp_path).rows
    assert rows["path"].to_list()[:4] == [
        f"train_set/images/{name}" for name in ("0.jpg", "0000001.png", "1.jpg", "1.png")
    ]
    assert rows["line"].to_list()[:4] == [0, 1, 1, 1]
    assert rows["expression"].to_list()[:4] == [0, 6, 1, 1]


def test_landmarks_of_any_shape_and_memory_order_are_the_same(tmp_path):
    forms = [
        FACE_POINTS,
        np.asfortranarray(FACE_POINTS),
        FACE_POINTS.reshape(-1),
        FACE_POINTS.astype(">f4"),
        FACE_POINTS.astype(str),
        FACE_POINTS.reshape(1, 136),
    ]
    counts, eyes = decode_landmarks([npy(form) for form in forms])
    assert counts.tolist() == [136] * len(forms)
    np.testing.assert_allclose(eyes, [EYES] * len(forms), rtol=1e-6)
    spoilt = FACE_POINTS.copy()
    spoilt[3] = np.inf
    counts, eyes = decode_landmarks([npy(spoilt), npy([]), None, npy([1.0] * 10), b"no", npy(np.full(136, -2))])
    assert counts.tolist() == [-1, 0, 0, 10, -1, 0]
    assert np.isnan(eyes).all()


def test_links_out_of_the_data_folder_are_not_followed(tmp_path):
    np.save(tmp_path / "secret.npy", "secret")
    root = sound_npy_copy(tmp_path / "copy", training=2, validation=1)
    target = root / "train_set" / "annotations" / "1_val.npy"
    target.unlink()
    target.symlink_to(tmp_path / "secret.npy")
    inside = root / "train_set" / "annotations" / "0_val.npy"
    inside.rename(root / "elsewhere.npy")
    inside.symlink_to(root / "elsewhere.npy")
    os.mkfifo(root / "train_set" / "annotations" / "5_exp.npy")
    rows = read(root).rows
    assert rows["unread"].to_list()[:2] == ["", "valence symbolic link leaves the data folder"]
    assert rows["valence"].to_list()[0] == -0.5
    assert rows["unread"].to_list()[2] == "expression not a file, valence no file, arousal no file"


@pytest.mark.parametrize("name", ["images", "annotations"])
def test_a_set_without_files_says_so(tmp_path, name):
    sound_npy_copy(tmp_path, training=1, validation=1)
    for file in (tmp_path / "val_set").rglob("*.*"):
        file.unlink()
    (tmp_path / "val_set" / name / "other.txt").write_bytes(b"")
    with pytest.raises(PocketAffectError, match=r"val_set: no rows\n  found:   1 file\(s\)"):
        read(tmp_path)


VALUES = st.one_of(
    st.floats(width=32), st.integers(-(2**62), 2**62), st.text(max_size=5), st.binary(max_size=5), st.booleans()
)


@given(st.lists(VALUES, max_size=8), st.data())
def test_values_are_those_that_numpy_loads_however_they_are_mixed(values, data):
    contents = [npy(value) for value in values]
    numbers, said = decode_values(contents)
    assert [row for row, _ in said] == np.flatnonzero(np.isnan(numbers)).tolist()
    for content, number in zip(contents, numbers, strict=True):
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if loaded.dtype.kind in "iuf":
            assert number == float(loaded) or (np.isnan(number) and not np.isfinite(loaded))
        elif not np.isnan(number):
            assert number == float(str(loaded[()].decode() if loaded.dtype.kind == "S" else loaded[()]))


@given(st.lists(st.sampled_from([npy(3), npy("0.5"), npy(FACE_POINTS)]), min_size=1, max_size=3), st.data())
def test_spoilt_bytes_never_crash_the_decoders(contents, data):
    spoilt = []
    for content in contents:
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, min(len(changed), 140)))
            changed[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        spoilt.append(bytes(changed))
    numbers, said = decode_values(spoilt)
    assert [row for row, _ in said] == np.flatnonzero(np.isnan(numbers)).tolist()
    counts, eyes = decode_landmarks(spoilt)
    assert ((counts == 136) == np.isfinite(eyes).all(axis=1)).all()
    assert eyes.shape == (len(spoilt), len(EYE_COLUMNS))
