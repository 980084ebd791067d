from __future__ import annotations

import numpy as np
import pytest
from affectnet_copies import pack_copy
from fer_copies import write_class_folders
from PIL import Image

from pocketaffect.config import load_params
from pocketaffect.data.contract.check import check_contract, enforce_limits
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.packing.pack import pack
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import CLASSES, read_annotations
from pocketaffect.data.report.describe import describe, render
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

SEVEN = {"Angry": "anger", "disgust": "disgust", "FEAR": "fear", "happy": "happiness"}
SEVEN |= {"sad": "sadness", "surprised": "surprise", "Neutral": "neutral"}


def read(root):
    return read_annotations(DataFolder.open(root))


def seven(root, train="train", test="test", count=3):
    return write_class_folders(root, {f"{split}/{name}": count for split in (train, test) for name in SEVEN})


def check(root):
    annotations = read(root)
    settings = load_params().validate_.model_copy(update={"near_duplicate_distance": -1})
    return check_contract(annotations, probe_images(root, annotations.rows, workers=1), settings, None)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "VALID"), ("training", "val")])
def test_classes_are_known_in_any_case_and_by_synonyms_and_have_no_valence_and_arousal(tmp_path, train, test):
    found = read(seven(tmp_path, train, test))
    rows = found.rows
    assert found.layout == CLASSES
    assert rows["split"].tolist() == ["train"] * 21 + ["validation"] * 21
    for folder, expression in SEVEN.items():
        inside = rows["path"].str.contains(f"/{folder}/")
        assert rows[inside]["expression"].tolist() == [EXPRESSIONS.index(expression)] * 6
    assert (rows[["valence", "arousal"]] == -2).all(axis=None)


def test_the_rows_are_the_same_in_an_archive_below_a_folder_and_in_a_pack(tmp_path):
    loose = read(seven(tmp_path / "loose")).rows
    for kind in ("zip", "tar"):
        packed = read(pack_copy(tmp_path / "loose", tmp_path / kind, kind=kind, top="fer2013/")).rows
        assert packed[["path", "expression", "split"]].equals(loose[["path", "expression", "split"]])
    pack(tmp_path / "loose", tmp_path / "pack")
    assert read(tmp_path / "pack").rows["path"].tolist() == loose["path"].tolist()


@pytest.mark.parametrize("names", [("1", "2"), ("happy", "bored")])
def test_a_folder_that_cannot_be_known_shows_the_file_to_write_which_then_decides(tmp_path, names):
    write_class_folders(tmp_path, {f"{split}/{name}": 2 for split in ("train", "test") for name in names})
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path)
    text = str(caught.value)
    unknown = [name for name in names if name != "happy"]
    assert f"class folders whose expression is not known\n  found:   {', '.join(unknown)}" in text
    assert f"write {tmp_path}/classes.yaml" in text
    assert all(f'"{name}": …' in text for name in unknown)
    (tmp_path / "classes.yaml").write_text(f"{names[0]}: surprise\n{names[1]}: null\n")
    found = read(tmp_path)
    assert found.rows["expression"].tolist() == [EXPRESSIONS.index("surprise")] * 4
    assert found.notes[-1] == "classes.yaml leaves 2 pictures of test/ out"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("happy: joyful", ["happy", "joyful", "one of neutral"]),
        ("glad: happiness", ["glad", "no such folder"]),
        ("- a\n- b", ["classes.yaml: no settings"]),
        ("{", ["not readable as YAML"]),
    ],
)
def test_an_odd_classes_file_is_refused(tmp_path, text, words):
    write_class_folders(tmp_path, {"train/happy": 1, "test/happy": 1})
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_without_a_validation_folder_a_seeded_tenth_of_each_class_is_it_and_said(tmp_path):
    write_class_folders(tmp_path, {"train/happy": 21, "train/sad": 4})
    found = read(tmp_path)
    apart = found.rows[found.rows["split"] == "validation"]
    assert apart["expression"].value_counts().to_dict() == {1: 2, 2: 1}
    assert len(found.rows) == 25
    assert found.rows["path"].is_unique
    assert "no validation folder: 3 of the 25 pictures of train/" in found.notes[0]
    assert found.notes[0] in render(describe(tmp_path))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "train/happy/later.png")
    again = read(tmp_path).rows
    assert set(apart["path"]) <= set(again[again["split"] == "validation"]["path"]) | {"train/happy/later.png"}


def test_a_class_folder_without_a_file_is_named_be_it_empty_or_a_link_out(tmp_path):
    root, outside = seven(tmp_path / "data"), write_class_folders(tmp_path / "outside", {"contempt": 2})
    assert not any("no file" in note for note in read(root).notes)
    (root / "train" / "contempt").symlink_to(outside / "contempt")
    (root / "test" / "joy").mkdir()
    found = read(root)
    assert "no file in train/contempt/: an empty folder, or a link that leaves the data folder" in found.notes
    assert "no file in test/joy/: an empty folder, or a link that leaves the data folder" in found.notes
    assert not found.rows["path"].str.contains("contempt").any()


def test_a_test_folder_beside_a_validation_folder_is_held_out(tmp_path):
    found = read(write_class_folders(tmp_path, {"train/sad": 2, "valid/sad": 2, "test/sad": 2}))
    assert not found.rows["path"].str.startswith("test/").any()
    assert found.notes == ("test/ is held out and never read: valid/ is the validation split",)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ({"test/happy": 1}, ["not all of a folder a class", "train/ missing"]),
        ({"train": 1, "test": 1}, ["no class folder", "train/happy/"]),
        ({"train/happy": 0, "test/happy": 1}, ["train", "no picture"]),
        ({"train/happy": 1, "val/happy": 1, "valid/happy": 1}, ["two folders of one split", "val/, valid/"]),
        ({"train/happy": 1, "test/happy": 1, "train_set/images": 1}, ["two layouts", "train_set/, train/, test/"]),
        ({"train/happy": 1, "test/happy": 1, "FER2013Train": 1}, []),
    ],
)
def test_half_a_layout_or_two_say_what_is_there(tmp_path, folders, words):
    write_class_folders(tmp_path, folders)
    if not words:
        (tmp_path / "FER2013Train" / "label.csv").write_text("a.png")
        words = ["two layouts in one folder", "FER2013Train/label.csv, train/, test/"]
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_what_is_no_picture_is_counted_and_named_and_odd_pictures_are_read(tmp_path):
    root = seven(tmp_path / "data")
    happy = root / "train" / "happy"
    (happy / "notes.txt").write_text("no picture")
    (happy / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    (root / "train" / "stray.png").write_bytes((happy / "000.png").read_bytes())
    (tmp_path / "outside.png").write_bytes((happy / "000.png").read_bytes())
    (happy / "link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "far").mkdir()
    (happy / "linked").symlink_to(tmp_path / "far")
    Image.fromarray(np.full((48, 48), 40_000, np.uint16)).save(happy / "sixteen.png")
    Image.fromarray(np.full((48, 48, 4), 90, np.uint8), "CMYK").save(happy / "cmyk.jpg")
    result = check(root)
    told = dict(zip(result.quarantine["path"] + result.quarantine["value"], result.quarantine["rule"], strict=True))
    assert len(told) == 4
    for text, rule in (
        ("train/happy/notes.txtnot an image", "image_readable"),
        ("train/happy/a.heicHEIF or AVIF", "image_readable"),
        ("train/happy/link.pngsymbolic link leaves the data folder", "image_readable"),
        ("train/stray.png", "columns_complete"),
    ):
        assert [found for key, found in told.items() if key.startswith(text)] == [rule], text
    assert {"train/happy/sixteen.png", "train/happy/cmyk.jpg"} <= set(result.kept["path"])


def test_seven_classes_pass_and_a_class_of_one_picture_is_refused_by_name(tmp_path):
    limits = load_params().validate_.model_copy(update={"min_validation_per_class": 2})
    enforce_limits(check(seven(tmp_path / "seven")), limits)
    root = write_class_folders(tmp_path / "one", {"train/sad": 20, "train/happy": 20, "train/contempt": 1})
    with pytest.raises(PocketAffectError, match="training split: no image of contempt"):
        enforce_limits(check(root), limits)
