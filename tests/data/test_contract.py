from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from affectnet_copies import IMAGES, count_rows, lines, row, save_picture, sound_copy, spoilt, write_copy
from hypothesis import HealthCheck, given, settings

from pocketaffect.data.contract import (
    QUARANTINE_COLUMNS,
    RULES,
    SPLIT_RULE,
    ContractResult,
    check_contract,
    enforce_limits,
)
from pocketaffect.data.layouts import read_annotations
from pocketaffect.data.probe import probe_images
from pocketaffect.errors import PocketAffectError

pytestmark = pytest.mark.filterwarnings("ignore")


def check(root: Path) -> ContractResult:
    rows, unsplit = read_annotations(root)
    result = check_contract(rows, unsplit, probe_images(root, list(rows["path"]), workers=1))
    assert_balanced(result, len(rows) + len(unsplit))
    return result


def assert_balanced(result: ContractResult, expected: int) -> None:
    """Every row that came in is kept or quarantined, once."""
    assert result.rows == expected
    places = pd.concat([result.kept[["list", "line"]], result.quarantine[["list", "line"]]])
    assert not places.duplicated().any()
    first = result.quarantine["rule"].value_counts()
    assert first.sum() == len(result.quarantine)
    for count in result.counts:
        named = result.quarantine["also_broken"].str.split(", ").map(lambda rules, rule=count.rule: rule in rules).sum()
        assert count.broken == first.get(count.rule, 0) + named


def check_rows(root: Path, *rows: str) -> ContractResult:
    save_picture(root, "1/a.jpg", 1)
    save_picture(root, "1/v.jpg", 2)
    return check(write_copy(root, list(rows)))


def only_broken(result: ContractResult) -> pd.Series:
    assert len(result.quarantine) == 1, result.quarantine
    return result.quarantine.iloc[0]


def test_a_sound_data_set_is_kept_whole(tmp_path):
    result = check(sound_copy(tmp_path))
    assert (len(result.kept), len(result.quarantine)) == (20, 0)
    assert result.quarantine.columns.to_list() == list(QUARANTINE_COLUMNS)
    assert [count.rule for count in result.counts] == [SPLIT_RULE, *(rule.name for rule in RULES)]
    assert {count.checked for count in result.counts} == {20}
    assert {count.broken for count in result.counts} == {0}
    assert result.kept["image_width"].to_list()[:3] == [40, 41, 42]
    assert json.loads(json.dumps(result.to_dict()))["kept"] == 20


SPOILT_ROWS = [
    ("path_inside_folder", {"path": "../../etc/passwd"}, "subDirectory_filePath ../../etc/passwd"),
    ("path_inside_folder", {"path": "/etc/passwd"}, "subDirectory_filePath "),
    ("path_inside_folder", {"path": "C:\\a.jpg"}, "subDirectory_filePath "),
    ("path_inside_folder", {"path": ""}, "subDirectory_filePath "),
    ("path_inside_folder", {"path": "1/a\0.jpg"}, "subDirectory_filePath "),
    ("image_readable", {"path": "1/none.jpg"}, "image_problem no such file"),
    ("image_readable", {"path": "1"}, "image_problem not a file"),
    ("box_on_image", {"box": "4,4,0,30"}, "face_x 4, face_y 4, face_width 0, face_height 30"),
    ("box_on_image", {"box": "4,4,30,-30"}, "face_height -30"),
    ("box_on_image", {"box": "100,4,30,30"}, "face_x 100"),
    ("box_on_image", {"box": "-100,4,30,30"}, "face_x -100"),
    ("box_on_image", {"box": "-16,0,30,30"}, "face_x -16"),
    ("box_on_image", {"box": "-10,-10,30,30"}, "face_x -10"),  # 4/9 of it on the image
    ("box_on_image", {"box": "nan,4,30,30"}, "face_x nan"),
    ("box_on_image", {"box": "nan,nan,nan,nan"}, "face_x nan"),
    ("box_on_image", {"box": "4,,30,30"}, "face_y ,"),
    ("box_on_image", {"box": "4,4,inf,30"}, "face_width inf"),
    ("box_on_image", {"box": "1e308,4,1e308,30"}, "face_x 1e308"),
    ("box_on_image", {"box": "4,4,wide,30"}, "face_width wide"),
    ("expression_known", {"expression": "11"}, "expression 11"),
    ("expression_known", {"expression": "-1"}, "expression -1"),
    ("expression_known", {"expression": "2.5"}, "expression 2.5"),
    ("expression_known", {"expression": "happy"}, "expression happy"),
    ("expression_known", {"expression": ""}, "expression "),
    ("expression_known", {"expression": "nan"}, "expression nan"),
    ("expression_known", {"expression": "inf"}, "expression inf"),
    ("valence_in_range", {"valence": "1.01"}, "valence 1.01, arousal -0.25"),
    ("valence_in_range", {"valence": "-2"}, "valence -2, arousal -0.25"),
    ("valence_in_range", {"valence": "nan"}, "valence nan"),
    ("valence_in_range", {"valence": "nan", "arousal": "-2"}, "valence nan, arousal -2"),
    ("valence_in_range", {"valence": "-inf"}, "valence -inf"),
    ("arousal_in_range", {"arousal": "-2"}, "valence 0.5, arousal -2"),
    ("arousal_in_range", {"arousal": "-1.001"}, "arousal -1.001"),
    ("arousal_in_range", {"arousal": "calm"}, "arousal calm"),
    ("arousal_in_range", {"arousal": ""}, "arousal "),
]


def test_each_fault_is_quarantined_under_its_rule_with_the_value_and_line(tmp_path):
    save_picture(tmp_path, "1/v.jpg", 1)
    rows = []
    for number, (_, fault, _) in enumerate(SPOILT_ROWS):
        path = f"1/{number}.png"
        save_picture(tmp_path, path, number)
        rows += [row(**{"path": path} | fault)]
    result = check(write_copy(tmp_path, rows))
    assert len(result.kept) == 1  # the validation row
    found = result.quarantine.set_index("line")
    for line, (rule, _, value) in enumerate(SPOILT_ROWS, start=2):
        assert found.at[line, "rule"] == rule, (line, found.loc[line])
        assert value in found.at[line, "value"], (line, found.loc[line])
    assert set(found["list"]) == {"training.csv"}


@pytest.mark.parametrize(
    "fine",
    [
        {"box": ",,,"},
        {"box": " , , , "},
        {"box": "-15,0,30,30"},
        {"box": "0.5,0.5,1e1,10.25"},
        {"expression": "10"},
        {"expression": "3.0"},
        {"valence": "-2", "arousal": "-2"},
        {"valence": "-2.0", "arousal": "-2.000"},
        {"valence": "1", "arousal": "-1"},
        {"landmarks": ""},
    ],
)
def test_rows_at_the_limits_are_kept(tmp_path, fine):
    result = check_rows(tmp_path, row(**fine))
    assert len(result.quarantine) == 0, result.quarantine.iloc[0].to_dict()


def test_an_image_that_is_too_small_or_damaged_is_quarantined_and_not_its_box(tmp_path):
    save_picture(tmp_path, "1/small.png", 1, width=23, height=40)
    (tmp_path / IMAGES / "1/text.jpg").write_text("no picture")
    result = check_rows(tmp_path, row("1/small.png", box="0,0,20,20"), row("1/text.jpg"))
    assert result.quarantine["rule"].to_list() == ["image_large_enough", "image_readable"]
    assert result.quarantine["value"].to_list()[0] == "image_width 23.0, image_height 40.0"
    assert "not an image" in result.quarantine["value"].to_list()[1]
    assert result.quarantine["also_broken"].to_list() == ["", ""]


def test_a_symbolic_link_out_of_the_folder_is_quarantined(tmp_path):
    save_picture(tmp_path / "elsewhere", "1/a.jpg", 1)
    root = tmp_path / "data"
    root.mkdir()
    save_picture(root, "1/v.jpg", 2)
    (root / IMAGES / "1/link.jpg").symlink_to(tmp_path / "elsewhere" / IMAGES / "1/a.jpg")
    found = only_broken(check(write_copy(root, [row("1/link.jpg")])))
    assert (found["rule"], found["value"]) == ("image_readable", "image_problem symbolic link leaves the data folder")


def test_the_first_of_two_equal_paths_is_kept_however_it_is_spelt(tmp_path):
    result = check_rows(tmp_path, row(), row("1/./a.jpg", expression="4"), row("1//a.jpg"))
    assert result.quarantine[["line", "rule"]].to_numpy().tolist() == [[3, "path_unique"], [4, "path_unique"]]


def test_of_a_path_in_both_splits_the_validation_copy_is_kept(tmp_path):
    result = check_rows(tmp_path, row(), row("1/v.jpg", expression="6"))
    found = only_broken(result)
    assert (found["list"], found["rule"], found["line"]) == ("training.csv", "path_unique", 3)
    assert result.kept["split"].to_list() == ["train", "validation"]


def test_a_row_that_breaks_many_rules_is_counted_under_each_and_quarantined_once(tmp_path):
    found = only_broken(check_rows(tmp_path, row(box="0,0,0,0", expression="99", valence="7", arousal="x")))
    assert found["rule"] == "box_on_image"
    assert found["also_broken"] == "expression_known, valence_in_range, arousal_in_range"


def test_lines_without_the_columns_are_quarantined_with_their_text(tmp_path):
    found = only_broken(check_rows(tmp_path, row(), "1/b.jpg,1,2"))
    assert found.to_dict() == {
        "list": "training.csv",
        "line": 3,
        "path": "",
        "rule": SPLIT_RULE,
        "value": "1/b.jpg,1,2",
        "also_broken": "",
    }


def test_the_tables_survive_parquet(tmp_path):
    result = check_rows(tmp_path, row(), row("1/é\ufffd.jpg", expression="\ufffd"), "x")
    for table in (result.kept, result.quarantine):
        table.to_parquet(tmp_path / "table.parquet", index=False)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)


def test_great_expectations_says_nothing_about_temporary_folders(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        check_rows(tmp_path, row())
    assert "temporary directory" not in caplog.text


def limits(result: ContractResult, fraction: float = 0.1, support: int = 1) -> None:
    enforce_limits(result, max_quarantine_fraction=fraction, min_validation_per_class=support)


def test_too_many_broken_rows_stop_with_rule_count_and_examples(tmp_path):
    sound_copy(tmp_path)
    with (tmp_path / "training.csv").open("ab") as stream:
        stream.write(lines(*(row(f"9/{n}.jpg", expression="42") for n in range(4)), row("0/t0.png"), header=None))
    result = check(tmp_path)
    limits(result, fraction=0.2)  # 5 of 25
    with pytest.raises(PocketAffectError) as caught:
        limits(result, fraction=0.19)
    text = str(caught.value)
    assert "5 of 25 rows (20.0%) break it, most of them image_readable (4 rows: the file exists and decodes)" in text
    assert "training.csv line 14: image_problem no such file; training.csv line 15" in text
    assert text.count("no such file") == 3
    assert "19.0% (params.yaml: validate.max_quarantine_fraction)" in text
    assert ".work/validate/quarantine.csv" in text


def test_the_named_rule_has_examples_even_when_another_is_broken_more_often_in_second_place(tmp_path):
    one, two = {"box": "0,0,0,0", "valence": "7"}, {"expression": "77", "valence": "7"}
    rows = [row(f"1/{n}.png", **fault) for n, fault in enumerate([one, one, one, two, two])]
    for number in range(5):
        save_picture(tmp_path, f"1/{number}.png", number)
    with pytest.raises(
        PocketAffectError, match=r"most of them box_on_image \(3 rows.*\n  found:   training.csv line 2"
    ):
        limits(check_rows(tmp_path, *rows))


def test_a_class_with_too_few_validation_images_is_named(tmp_path):
    result = check(sound_copy(tmp_path, validation=7))
    with pytest.raises(PocketAffectError, match=r"too few images of contempt \(0\)\n") as caught:
        limits(result)
    assert "happiness 1" in str(caught.value)
    assert "at least 1 each (params.yaml: validate.min_validation_per_class)" in str(caught.value)
    limits(result, support=0)


def test_a_training_split_without_a_usable_row_stops(tmp_path):
    result = check_rows(tmp_path, row(expression="99"))
    with pytest.raises(PocketAffectError, match="training split: no usable row"):
        limits(result, fraction=1, support=0)


BASE = lines(row(), row("1/b.png", box=",,,", expression="0"), row("1/c.png", valence="-2", arousal="-2"))
TOKENS = (b"\n", b",", b"../", b"/", b"-2", b"nan", b"inf", b"1e9", b"-", b"\xff", b"\0", b"1/a.jpg", b"1/v.jpg")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=spoilt(BASE, TOKENS))
def test_of_a_spoilt_list_nothing_is_lost_and_nothing_broken_is_kept(tmp_path, content):
    for number, path in enumerate(("1/a.jpg", "1/b.png", "1/c.png", "1/v.jpg")):
        if not (tmp_path / IMAGES / path).exists():
            save_picture(tmp_path, path, number)
    try:
        rows, unsplit = read_annotations(write_copy(tmp_path, content))
    except PocketAffectError:
        return
    result = check_contract(rows, unsplit, probe_images(tmp_path, list(rows["path"]), workers=1))
    assert_balanced(result, count_rows(content) + 1)
    for kept in result.kept.itertuples():
        assert kept.expression in range(11)
        assert (kept.valence, kept.arousal) == (-2, -2) or max(abs(kept.valence), abs(kept.arousal)) <= 1
        assert (tmp_path / kept.path).resolve().is_relative_to(tmp_path)
        box = [kept.face_x, kept.face_y, kept.face_width, kept.face_height]
        assert pd.isna(box).all() or (kept.face_width > 0 and kept.face_height > 0)
        if not pd.isna(box).any():
            shared = [
                min(start + side, limit) - max(start, 0)
                for start, side, limit in zip(box[:2], box[2:], (kept.image_width, kept.image_height), strict=True)
            ]
            assert shared[0] * shared[1] >= 0.499 * box[2] * box[3]
    assert result.kept["path"].is_unique
