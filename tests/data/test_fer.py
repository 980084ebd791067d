from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fer_copies import grey, write_fer_csv, write_fer_folders
from hypothesis import given
from hypothesis import strategies as st
from shard_parts import make_settings

from pocketaffect.config import load_params
from pocketaffect.data.contract.check import check_contract, write_result
from pocketaffect.data.faces.images import ImageProblemError, decode_image
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import FER, FERPLUS, read_annotations
from pocketaffect.data.release.places import Place, read_place
from pocketaffect.data.release.votes import VOTE_COLUMNS, judge_votes
from pocketaffect.data.report.describe import describe
from pocketaffect.data.shards.split import open_choosing, open_split
from pocketaffect.data.shards.write import write_shards
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import CLASS_MEAN_VA, DERIVED_VA, EXPRESSIONS, PLACE_COLUMNS, SOFT_COLUMNS


def read(root):
    return read_annotations(DataFolder.open(root))


def test_the_rows_are_those_that_are_not_held_out_with_votes_as_labels_and_pixels_read_in_place(tmp_path):
    found = read(write_fer_csv(tmp_path))
    rows = found.rows
    assert found.layout == FER
    assert rows["split"].tolist() == ["train"] * 7 + ["validation"] * 2
    assert rows["expression"].tolist() == [1, 2, 9, 9, 10, 1, 2, 2, 1]
    assert rows["line"].tolist() == list(range(2, 11))
    happy = dict(zip(EXPRESSIONS, rows[list(SOFT_COLUMNS)].iloc[0], strict=True))
    assert happy == pytest.approx(dict.fromkeys(EXPRESSIONS, 0) | {"neutral": 0.1, "happiness": 0.8, "surprise": 0.1})
    assert rows["valence"][0] == pytest.approx(0.1 * -0.03 + 0.8 * 0.67 + 0.1 * 0.18)
    assert (rows.loc[[2, 3, 4], ["valence", "arousal"]] == -2).all(axis=None)
    assert rows.loc[[2, 3, 4], list(SOFT_COLUMNS)].isna().all(axis=None)
    for number in (0, 3, 7):
        place = Place(*rows.loc[number, list(PLACE_COLUMNS)])
        assert (decode_image(read_place(tmp_path, place)).pixels == grey(number)[:, :, None]).all()
    assert "PrivateTest" not in " ".join(rows["list"].astype("str"))


def test_it_goes_through_contract_and_shards_with_a_part_that_chooses(tmp_path):
    data = write_fer_csv(tmp_path / "data")
    annotations = read(data)
    settings = load_params().validate_.model_copy(update={"near_duplicate_distance": -1})
    result = check_contract(annotations, probe_images(data, annotations.rows, workers=1), settings, None)
    assert result.quarantine[["rule", "line"]].values.tolist() == [["path_unique", 7]]
    assert result.dropped["rule"].tolist() == ["no_label", "no_label", "non_face"]
    assert len(result.kept) == 5
    for share, parts in ((0.0, {"train": 3, "validation": 2}), (0.5, {"train": 1, "choosing": 2, "validation": 2})):
        out = tmp_path / str(share)
        write_result(result, out / "manifest", choosing_share=share)
        summary = write_shards(
            out / "manifest" / "manifest.parquet", data, out / "shards", out / "work", make_settings(image_size=48)
        )
        assert summary["images"] == parts
        chosen = open_choosing(out / "shards")
        assert chosen.paths == open_split(out / "shards", "choosing" if share else "validation").paths
        faces = [path for name in parts for path in open_split(out / "shards", name).paths]
        assert sorted(faces) == sorted(result.kept["path"])
        assert summary["va_derived"]
    assert DERIVED_VA in result.to_dict()["notes"]
    assert result.kept["split"].tolist() == ["train"] * 3 + ["validation"] * 2


def test_ferplus_folders_say_the_same_of_the_pictures_that_are_there(tmp_path):
    table, folders = read(write_fer_csv(tmp_path / "csv")).rows, read(write_fer_folders(tmp_path / "folders"))
    assert (folders.layout, folders.derived_va) == (FERPLUS, True)
    names = ["expression", "valence", "arousal", "split", *SOFT_COLUMNS]
    named = table[~table["path"].str.startswith("unnamed")].reset_index(drop=True)
    pd.testing.assert_frame_equal(folders.rows[names], named[names])
    assert folders.rows["path"].str.rpartition("/")[2].tolist() == named["path"].tolist()
    assert describe(tmp_path / "folders").missing == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "FER2013Valid" / "label.csv").unlink(), ["FER2013Valid/label.csv missing"]),
        (lambda root: (root / "FER2013Valid" / "label.csv").write_text(""), ["no rows", "an empty file"]),
        (lambda root: (root / "FER2013Valid" / "label.csv").write_text("a.png,1,2\n"), ["not FER+'s columns", "3 col"]),
        (lambda root: write_fer_csv(root), ["two layouts", "fer2013.csv", "FER2013Train/label.csv"]),
    ],
)
def test_half_of_ferplus_folders_or_odd_lists_are_refused(tmp_path, change, words):
    change(write_fer_folders(tmp_path))
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_describe_counts_the_pictures_in_the_table(tmp_path):
    found = describe(write_fer_csv(tmp_path))
    assert (found.layout, found.listed, found.missing, found.repeated, found.unlisted) == (FER, 8, 0, 1, 0)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [("1 2 3", "3 pixels, where 48 x 48 are 2,304"), ("", "0 pixels"), ("256 " * 2304, "whole numbers from 0 to 255")],
)
def test_pixels_that_are_not_the_picture_are_that_rows_problem_alone(tmp_path, pixels, problem):
    lines = (write_fer_csv(tmp_path) / "fer2013.csv").read_text().splitlines()
    lines[2] = f"0,{pixels},Training"
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    found = probe_images(tmp_path, read(tmp_path).rows, workers=1).problem
    assert problem in found[1]
    assert [bool(text) for text in found] == [False, True] + [False] * 7


def test_numbers_of_a_file_that_changed_meanwhile_are_not_taken_for_a_picture(tmp_path):
    rows = read(write_fer_csv(tmp_path)).rows
    file = tmp_path / "fer2013.csv"
    file.write_bytes(b"x" + file.read_bytes()[:-1])
    with pytest.raises(ImageProblemError):
        read_place(tmp_path, Place(*rows.loc[1, list(PLACE_COLUMNS)]))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("fer2013new.csv", lambda _: "", ["not all of FER2013", "fer2013new.csv missing"]),
        ("fer2013.csv", lambda _: "", ["not all of FER2013", "fer2013.csv missing"]),
        ("fer2013new.csv", lambda text: text.replace("NF", "NN"), ["line 1", "missing: NF"]),
        ("fer2013.csv", lambda text: text.replace("pixels", "cells"), ["line 1", "missing: pixels"]),
        (
            "fer2013new.csv",
            lambda text: text.replace(",8,", ",many,"),
            ["line 2: happiness is no count", "many"],
        ),
        ("fer2013new.csv", lambda text: text.replace(",8,", ",-8,"), ["line 2", "is no count of votes"]),
        ("fer2013.csv", lambda text: text.replace("Training", "PublicTest"), ["row by row", "row 1 of each"]),
        ("fer2013.csv", lambda text: text + "0,1,Training\n", ["row by row", "11 and 10 rows"]),
        ("fer2013.csv", lambda text: text.partition("\n")[0] + "\n", ["row by row", "0 and 10 rows"]),
        ("fer2013new.csv", lambda text: text.replace("0", "0,0", 1), ["not readable as CSV", "line 2"]),
    ],
)
def test_half_a_copy_or_files_that_do_not_fit_say_what_is_wrong(tmp_path, name, change, words):
    file = write_fer_csv(tmp_path) / name
    text = change(file.read_text())
    if text:
        file.write_text(text)
    else:
        file.unlink()
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path)
    for word in words:
        assert word in str(caught.value)


@given(st.lists(st.lists(st.integers(0, 3), min_size=10, max_size=10), min_size=1, max_size=20))
def test_the_class_is_the_one_that_alone_has_most_votes(votes):
    expression, soft, affect = judge_votes(np.array(votes, dtype=np.float64))
    for row, code, shares, means in zip(votes, expression, soft, affect, strict=True):
        first = [name for name, count in zip(VOTE_COLUMNS, row, strict=True) if count == max(row)]
        clear = len(first) == 1 and first[0] in EXPRESSIONS
        assert code == (EXPRESSIONS.index(first[0]) if clear else 10 if first == ["NF"] else 9)
        if not clear:
            assert np.isnan(shares).all()
            assert means.tolist() == [-2, -2]
            continue
        known = pd.Series(row[:8], index=VOTE_COLUMNS[:8])[list(EXPRESSIONS)] / sum(row[:8])
        np.testing.assert_allclose(shares, known, rtol=1e-6)
        np.testing.assert_allclose(means, known.to_numpy() @ np.array(CLASS_MEAN_VA), atol=1e-6)
