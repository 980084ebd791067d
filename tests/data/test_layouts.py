from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from affectnet_copies import EYES, IMAGES, lines, pack_copy, row, sound_copy, sound_npy_copy, write_copy, write_votes

from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import CSV, NPY8, read_annotations, recognise
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.data.release.rows import ROW_COLUMNS
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS, SOFT_COLUMNS

PLACE_COLUMNS = ["archive", "offset", "length", "deflated"]
FORMS = {
    "tar": {"kind": "tar"},
    "zip": {"kind": "zip"},
    "compressed zip": {"kind": "zip", "compress": True},
    "tar with a folder around all": {"kind": "tar", "top": "AffectNet/"},
    "zip with a folder around all": {"kind": "zip", "top": "AffectNet/"},
    "tar with the lists beside it": {"kind": "tar", "lists": False},
    "compressed zip with the lists beside it": {"kind": "zip", "compress": True, "lists": False},
}


def read(root):
    return read_annotations(DataFolder.open(root))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [sound_copy, sound_npy_copy])
def test_a_release_gives_the_same_rows_loose_and_in_every_kind_of_archive(tmp_path, make, form):
    loose = read(make(tmp_path / "loose"))
    packed = read(pack_copy(tmp_path / "loose", tmp_path / "packed", **FORMS[form]))
    assert packed.layout == loose.layout
    assert packed.lists == loose.lists
    pd.testing.assert_frame_equal(packed.rows.drop(columns=PLACE_COLUMNS), loose.rows.drop(columns=PLACE_COLUMNS))
    assert len(loose.rows) == 20
    assert set(packed.rows["archive"]) == {"copy." + FORMS[form]["kind"]}
    for read_rows, root in ((loose, tmp_path / "loose"), (packed, tmp_path / "packed")):
        found = read_rows.rows.iloc[3]
        place = Place(found["path"], *(found[name] for name in PLACE_COLUMNS))
        assert read_place(root, place) == (tmp_path / "loose" / found["path"]).read_bytes()


def test_the_table_has_the_columns_and_types_that_the_contract_reads(tmp_path):
    for make in (sound_copy, sound_npy_copy):
        rows = read(make(tmp_path / make.__name__)).rows
        assert list(rows) == [*ROW_COLUMNS, *SOFT_COLUMNS, *PLACE_COLUMNS]
        assert rows.index.equals(pd.RangeIndex(20))
        kinds = {name: str(kind) for name, kind in rows.dtypes.items()}
        assert {name for name, kind in kinds.items() if kind == "str"} == {
            *("path", "listed_path", "unread", "identity", "archive")
        }
        assert {name for name, kind in kinds.items() if kind == "category"} == {"list", "split"}
        assert {name for name, kind in kinds.items() if kind == "float32"} == {*EYE_COLUMNS, *SOFT_COLUMNS}
        assert {name for name, kind in kinds.items() if kind == "float64"} == {
            *BOX_COLUMNS,
            "expression",
            "valence",
            "arousal",
        }
        assert (kinds["line"], kinds["landmark_count"], kinds["box_given"]) == ("int64", "int32", "bool")


def test_both_releases_of_the_same_images_say_the_same_of_them(tmp_path):
    csv, npy = (read(make(tmp_path / make.__name__)).rows for make in (sound_copy, sound_npy_copy))
    for name in ("expression", "valence", "arousal"):
        np.testing.assert_allclose(csv[name], npy[name])
    assert csv["split"].tolist() == npy["split"].tolist() == ["train"] * 12 + ["validation"] * 8
    assert csv.loc[1, list(EYE_COLUMNS)].tolist() == npy.loc[0, list(EYE_COLUMNS)].tolist() == list(EYES)
    assert not npy["box_given"].any()
    assert csv["box_given"].tolist() == [number % 4 != 3 for number in [*range(12), *range(8)]]


def test_each_release_is_recognised_by_what_lies_in_the_folder(tmp_path):
    assert recognise(DataFolder.open(sound_copy(tmp_path / "a"))) == CSV
    assert recognise(DataFolder.open(sound_npy_copy(tmp_path / "b"))) == NPY8


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], ["no layout that is known", "found:   an empty folder"]),
        (["holiday/a.jpg", "notes.txt"], ["no layout that is known", "found:   holiday/, notes.txt"]),
        (["training.csv"], ["not all of AffectNet's CSV release, validation.csv missing", "found:   training.csv"]),
        (["validation.csv"], ["not all of AffectNet's CSV release, training.csv missing"]),
        (["train_set/images/0.jpg"], ["not all of AffectNet's 8-label release, val_set/ missing", "train_set/"]),
        (["training.csv", "validation.csv", "val_set/images/0.jpg"], ["two layouts in one folder", "val_set/"]),
        (["training.csv", "train_set/images/0.jpg"], ["two layouts in one folder", "training.csv, train_set/"]),
    ],
)
def test_a_folder_that_is_no_release_half_of_one_or_two_says_what_it_holds(tmp_path, made, words):
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(PocketAffectError) as caught:
        recognise(DataFolder.open(tmp_path))
    for word in [*words, "CSV release (training.csv", "8-label release (train_set/", ".tar or .zip"]:
        assert word in str(caught.value)


def test_the_automatic_list_joins_the_training_rows_from_its_own_folder(tmp_path):
    write_copy(tmp_path, [row()])
    (tmp_path / "automatically_annotated.csv").write_bytes(lines(row("9/z.jpg")))
    rows = read(tmp_path).rows
    assert rows["split"].to_list() == ["train", "validation", "train"]
    assert rows["path"].to_list()[2] == "Automatically_Annotated_Images/9/z.jpg"
    assert rows["list"].to_list() == ["training.csv", "validation.csv", "automatically_annotated.csv"]


def test_lists_and_images_are_found_in_the_folders_that_the_release_unpacks_to(tmp_path):
    sound_copy(tmp_path / "plain")
    (tmp_path / "as released").mkdir()
    nested = tmp_path / "as released" / "Manually_Annotated"
    nested.mkdir()
    (tmp_path / "plain" / IMAGES).rename(nested / IMAGES)
    (tmp_path / "as released" / "Manually_Annotated_file_lists").mkdir()
    for name in ("training.csv", "validation.csv"):
        (tmp_path / "plain" / name).rename(tmp_path / "as released" / "Manually_Annotated_file_lists" / name)
    annotations = read(tmp_path / "as released")
    assert set(annotations.rows["list"]) == {"training.csv", "validation.csv"}
    assert all((tmp_path / "as released" / path).is_file() for path in annotations.rows["path"])


def test_votes_become_soft_labels_of_their_rows_in_either_release(tmp_path):
    sound_copy(tmp_path / "csv")
    write_votes(tmp_path / "csv", {"1/t1.png": (6, 0, 0, 2, 0, 0, 0, 0, 2, 0), "9/nobody.png": (1,) * 10})
    sound_npy_copy(tmp_path / "npy")
    write_votes(tmp_path / "npy", {"train_set/images/1.jpg": (6, 0, 0, 2, 0, 0, 0, 0, 2, 0)})
    for name in ("csv", "npy"):
        annotations = read(tmp_path / name)
        assert annotations.has_votes
        soft = annotations.rows[list(SOFT_COLUMNS)].to_numpy()
        assert soft[1].tolist() == [0.75, 0, 0.25, 0, 0, 0, 0, 0]
        assert np.isnan(np.delete(soft, 1, axis=0)).all()
        assert (annotations.votes.labelled, annotations.votes.unlisted) == (1, int(name == "csv"))


def test_without_votes_and_identity_these_columns_are_empty(tmp_path):
    annotations = read(sound_copy(tmp_path / "a"))
    assert not annotations.has_votes
    assert not annotations.has_identity
    assert annotations.rows[list(SOFT_COLUMNS)].isna().all(axis=None)
    assert (annotations.rows["identity"] == "").all()
