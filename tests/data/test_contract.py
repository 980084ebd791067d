from __future__ import annotations

import json
import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from affectnet_copies import row, save_picture, write_copy
from contract_rows import (
    IMAGES,
    LIMITS,
    PLAUSIBLE,
    VALIDATION,
    assert_balanced,
    broken,
    check,
    make_annotations,
    make_probes,
    near,
    only,
    sound,
)

from pocketaffect.data.contract import check as contract
from pocketaffect.data.contract.check import check_contract, write_result
from pocketaffect.data.contract.ledger import DROPPED_COLUMNS, DUPLICATES_COLUMNS, KEPT_COLUMNS, QUARANTINE_COLUMNS
from pocketaffect.data.contract.profile import profile_of
from pocketaffect.data.contract.rules import RULES
from pocketaffect.data.faces.probe import probe_images
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.labels import EXPRESSIONS

NO_VA = {"valence": -2.0, "arousal": -2.0}


def test_sound_rows_are_all_kept_training_first():
    result = check(make_annotations(*sound(3), *sound(2, **VALIDATION), *sound(2, list="more.csv")))
    assert (len(result.kept), len(result.quarantine), len(result.dropped), len(result.duplicates)) == (7, 0, 0, 0)
    assert result.kept["split"].to_list() == ["train"] * 5 + ["validation"] * 2
    assert result.kept["list"].to_list() == ["training.csv"] * 3 + ["more.csv"] * 2 + ["validation.csv"] * 2
    assert result.kept["line"].to_list() == [2, 3, 4, 2, 3, 2, 3]
    assert broken(result) == {}
    assert set(result.kept["warnings"]) == {""}


def test_the_tables_have_the_documented_columns_and_types_and_survive_their_files(tmp_path):
    annotations = make_annotations(
        *sound(2),
        {"expression": 10.0, "listed_path": "1/é\ufffd.jpg"},
        {"valence": np.nan, "unread": "valence '\ufffd\\x00'"},
        *sound(1, **VALIDATION),
        unsplit=[("training.csv", 77, "x,\x00")],
    )
    result = check(annotations, make_probes(5, face_hash={0: near(0), 1: near(0)}))
    for table, columns in (
        (result.kept, KEPT_COLUMNS),
        (result.quarantine, QUARANTINE_COLUMNS),
        (result.dropped, DROPPED_COLUMNS),
        (result.duplicates, DUPLICATES_COLUMNS),
    ):
        assert tuple(table.columns) == columns
        assert isinstance(table.index, pd.RangeIndex)
        assert len(table) > 0
    kinds = {name: str(dtype) for name, dtype in result.kept.dtypes.items()}
    assert {name for name, kind in kinds.items() if kind == "str"} == {"path", "archive", "identity", "warnings"}
    assert kinds["expression"] == "int8"
    assert {kinds[name] for name in ("valence", "arousal", "soft_fear", "eye_left_x")} == {"float32"}
    assert {kinds[name] for name in ("image_width", "image_height", "duplicate_group")} == {"int32"}
    assert str(result.quarantine["line"].dtype) == str(result.dropped["line"].dtype) == "int64"
    for name in ("manifest", "again"):
        write_result(result, tmp_path / name)
    files = {file.name: file.read_bytes() for file in (tmp_path / "manifest").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
    assert json.loads(files.pop("contract.json")) == result.to_dict()
    assert (
        files.pop("profile.json").decode()
        == json.dumps(asdict(profile_of(result.kept)), indent=2, sort_keys=True) + "\n"
    )
    assert json.loads(files.pop("suite.json")) == result.suite
    assert json.loads(files.pop("validation.json")) == result.validation
    names = ("dropped.parquet", "duplicates.parquet", "evidence.parquet", "manifest.parquet", "quarantine.parquet")
    assert sorted(files) == list(names)
    tables = (result.dropped, result.duplicates, result.evidence, result.kept, result.quarantine)
    for name, table in zip(names, tables, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "manifest" / name), table)


SPOILT_ROWS = [
    ("path_inside_folder", {"listed_path": "../../etc/passwd"}, "path leaves the data folder: ../../etc/passwd"),
    ("path_inside_folder", {"listed_path": "/etc/passwd"}, "path leaves the data folder: /etc/passwd"),
    ("path_inside_folder", {"listed_path": "C:\\a.jpg"}, "path leaves the data folder: C:\\a.jpg"),
    ("path_inside_folder", {"listed_path": ""}, "path without a file name: "),
    ("path_inside_folder", {"listed_path": "1/a\0.jpg"}, "path holds a NUL byte: "),
    ("box_on_image", {"face_width": 0.0}, "face_x 4, face_y 4, face_width 0, face_height 30; image 48 x 40 pixels"),
    ("box_on_image", {"face_height": -30.0}, "face_height -30"),
    ("box_on_image", {"face_x": 100.0}, "face_x 100"),
    ("box_on_image", {"face_x": -100.0}, "face_x -100"),
    ("box_on_image", {"face_x": -16.0, "face_y": 0.0}, "face_x -16"),
    ("box_on_image", {"face_x": -10.0, "face_y": -10.0}, "face_x -10"),  # 4/9 of it on the image
    ("box_on_image", {"face_x": 48 - 15.0 + 1e-9}, "face_x 33"),
    ("box_on_image", {"face_y": 40 - 14.999999}, "face_y 25"),
    ("box_on_image", {"face_x": np.nan, "unread": "face_x 'nan'"}, "face_height 30, face_x 'nan'; image"),
    ("box_on_image", {"face_x": 1e308, "face_width": 1e308}, "face_x 1e+308"),
    ("box_on_image", {"face_x": -1e308, "face_width": 1.7e308}, "face_x -1e+308"),
    ("landmarks_complete", {"landmark_count": 135}, "135 numbers"),
    ("landmarks_complete", {"landmark_count": -1}, "a value that is no finite number"),
    ("expression_known", {"expression": 11.0}, "expression 11"),
    ("expression_known", {"expression": -1.0}, "expression -1"),
    ("expression_known", {"expression": 2.5}, "expression 2.5"),
    ("expression_known", {"expression": np.nan, "unread": "expression 'happy'"}, "expression 'happy'"),
    ("valence_in_range", {"valence": 1.01}, "valence 1.01, arousal 0.25"),
    ("valence_in_range", {"valence": -2.0}, "valence -2, arousal 0.25"),
    ("valence_in_range", {"valence": np.nan, "unread": "valence '-inf'"}, "arousal 0.25, valence '-inf'"),
    ("valence_in_range", {"valence": np.nan, "arousal": -2.0, "unread": "valence ''"}, "arousal -2, valence ''"),
    ("arousal_in_range", {"arousal": -2.0}, "valence 0.5, arousal -2"),
    ("arousal_in_range", {"arousal": -1.001}, "arousal -1.001"),
    ("arousal_in_range", {"arousal": np.nan, "unread": "arousal 'calm'"}, "valence 0.5, arousal 'calm'"),
]


def test_each_fault_is_quarantined_under_its_rule_with_the_value_and_line():
    annotations = make_annotations(*(fault for _, fault, _ in SPOILT_ROWS), *sound(1, **VALIDATION))
    result = check(annotations)
    assert len(result.kept) == 1  # the validation row
    found = result.quarantine.set_index("line")
    for line, (rule, _, value) in enumerate(SPOILT_ROWS, start=2):
        assert found.at[line, "rule"] == rule, (line, found.loc[line])
        assert value in found.at[line, "value"], (line, found.loc[line])


def test_rows_at_the_limits_are_kept():
    fine = [
        {"box_given": False, "face_x": np.nan, "face_y": np.nan, "face_width": np.nan, "face_height": np.nan},
        {"face_x": -15.0, "face_y": 0.0},
        {"face_x": 48 - 15.0},
        {"face_y": 40 - 15.0},
        {"face_x": 0.5, "face_y": 0.5, "face_width": 0.25, "face_height": 10.25},
        {"expression": 8.0},
        {"valence": -2.0, "arousal": -2.0},
        {"valence": 1.0, "arousal": -1.0},
        {"landmark_count": 0},
        {"listed_path": "1/..a..jpg"},
        {"listed_path": "ab:c/d.jpg"},
    ]
    result = check(make_annotations(*fine))
    assert len(result.kept) == len(fine), result.quarantine.to_dict("records")


def test_an_image_that_is_too_small_or_damaged_is_quarantined_and_not_its_box():
    rows = [{"face_width": 20.0, "face_x": 0.0}, {}, {}, {"face_width": 0.0}, {"listed_path": "../a.jpg"}]
    problems = {1: "damaged image: cut short", 3: "empty file", 4: "path leaves the data folder"}
    result = check(make_annotations(*rows), make_probes(5, width={0: 23}, problem=problems, height={2: 24}))
    assert result.quarantine[["line", "rule", "value", "also_broken"]].to_numpy().tolist() == [
        [2, "image_large_enough", "23 x 40 pixels", ""],
        [3, "image_readable", "damaged image: cut short", ""],
        [5, "image_readable", "empty file", "box_on_image"],  # no image holds a box without an area
        [6, "path_inside_folder", "path leaves the data folder: ../a.jpg", ""],  # its image was never opened
    ]


def test_the_first_of_two_equal_paths_is_kept():
    result = check(make_annotations(*({"listed_path": "1/a.jpg"} for _ in range(3)), {"listed_path": "1/b.jpg"}))
    assert result.kept["line"].to_list() == [2, 5]
    assert result.quarantine[["line", "rule", "value"]].to_numpy().tolist() == [
        [3, "path_unique", "also training.csv line 2"],
        [4, "path_unique", "also training.csv line 2"],
    ]


def test_of_a_path_in_both_splits_the_validation_copy_is_kept():
    same = {"listed_path": "1/a.jpg"}
    result = check(make_annotations(same, same, same | VALIDATION, same | VALIDATION))
    assert result.kept[["split", "line"]].to_numpy().tolist() == [["validation", 2]]
    assert result.quarantine[["list", "line", "rule", "value", "also_broken"]].to_numpy().tolist() == [
        ["training.csv", 2, "path_in_one_split", "also validation.csv line 2", ""],
        ["training.csv", 3, "path_in_one_split", "also validation.csv line 2", "path_unique"],
        ["validation.csv", 3, "path_unique", "also validation.csv line 2", ""],
    ]


def test_a_broken_row_takes_part_in_nothing_else():
    same = {"listed_path": "1/a.jpg"}
    result = check(
        make_annotations(
            same | {"expression": 99.0},
            same,
            same | VALIDATION | {"valence": 5.0},
            {"expression": 3.0},
            VALIDATION | {"landmark_count": 3},
        ),
        make_probes(5, face_hash={3: near(0), 4: near(0)}),
    )
    # The first copy and validation's are broken, so the second copy stays; so does the twin of a broken row.
    assert result.kept["line"].to_list() == [3, 4]
    assert len(result.duplicates) == 0


def test_broken_lines_stand_among_the_rows_and_a_row_that_breaks_many_rules_stands_once():
    many = {"face_width": 0.0, "expression": 99.0, "valence": 4.0}
    annotations = make_annotations({"valence": 3.0}, {}, many, unsplit=[("training.csv", 3, "1/b.jpg,1,2")])
    annotations.rows.loc[1:, "line"] += 1
    result = check(annotations)
    assert result.quarantine["line"].to_list() == [2, 3, 5]
    assert result.quarantine["rule"].to_list()[2] == "box_on_image"
    assert result.quarantine["also_broken"].to_list() == ["", "", "expression_known, valence_in_range"]
    assert np.isnan(result.quarantine["expression"].iloc[1])
    assert result.quarantine.drop(columns="expression").iloc[1].to_dict() == {
        "list": "training.csv",
        "line": 3,
        "split": "train",
        "path": "",
        "rule": "columns_complete",
        "value": "1/b.jpg,1,2",
        "also_broken": "",
        "archive": "",
        "offset": 0,
        "length": 0,
        "deflated": False,
    }


def test_non_faces_and_rows_without_a_label_are_dropped():
    result = check(
        make_annotations(
            {"expression": 10.0},
            {"expression": 10.0} | NO_VA,
            {"expression": 9.0} | NO_VA,
            {"expression": 8.0},
            {"expression": 2.0} | NO_VA,
            {"expression": 8.0, "soft_neutral": 0.5, "soft_fear": 0.5} | NO_VA,
        )
    )
    assert result.dropped[["line", "rule", "value"]].to_numpy().tolist() == [
        [2, "non_face", "expression 10"],
        [3, "non_face", "expression 10"],
        [4, "no_label", "expression 9, valence -2, arousal -2"],
    ]
    assert result.kept["expression"].to_list() == [-1, 2, -1]
    assert result.kept["valence"].isna().to_list() == [False, True, True]
    assert result.kept["arousal"].isna().to_list() == [False, True, True]
    assert broken(result)["no_label"] == 2


def test_a_row_that_is_doubtful_is_kept_with_the_names_of_its_warnings():
    annotations = make_annotations({"expression": 2.0, "valence": 0.9}, {}, {"expression": 1.0, "valence": 0.0})
    result = check(annotations, make_probes(3, face_hash={0: near(0), 1: near(0)}))
    both = "va_plausible,near_duplicate_in_split"
    assert result.kept["warnings"].to_list() == [both, "near_duplicate_in_split", "va_plausible"]


def test_the_counts_name_every_rule_once_in_order_with_the_rows_that_came_to_it():
    result = check(make_annotations({"valence": 9.0}, {"expression": 10.0}, *sound(6)))
    assert [count.name for count in result.counts] == [rule.name for rule in RULES]
    checked = {count.name: count.checked for count in result.counts}
    assert checked["columns_complete"] == checked["box_on_image"] == 8
    assert checked["path_unique"] == checked["non_face"] == 7
    assert checked["near_duplicate_of_validation"] == checked["va_plausible"] == 6
    assert result.describe().splitlines() == [
        "8 rows: 6 kept, 1 quarantined, 1 dropped",
        "  error valence_in_range: 1",
        "  drop non_face: 1",
    ]
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (plain["rows"], plain["kept"], plain["quarantined"], plain["dropped"]) == (8, 6, 1, 1)
    assert plain["rules"][1]["severity"] == "error"


def test_the_lines_of_the_log_add_up_to_the_rows_that_left():
    result = check(make_annotations({"valence": 9.0}, {"valence": 9.0, "arousal": 9.0}, {"arousal": 9.0}, *sound(3)))
    assert result.describe().splitlines() == [
        "6 rows: 3 kept, 3 quarantined, 0 dropped",
        "  error valence_in_range: 2",
        "  error arousal_in_range: 2, 1 of them counted under a rule above",
    ]


def test_nothing_but_broken_rows_leaves_empty_tables_and_what_is_said_of_them_is_short():
    annotations = make_annotations({"listed_path": "../" + "x" * 100_000}, unsplit=[("training.csv", 9, "y" * 10_000)])
    result = check(annotations)
    assert (len(result.kept), len(result.quarantine)) == (0, 2)
    assert result.quarantine["value"].str.len().to_list() == [300, 300]


def test_a_table_that_does_not_fit_its_probes_is_a_programming_error():
    with pytest.raises(ValueError, match="2 rows, but 3 probes"):
        check(make_annotations({}, {}), make_probes(3))


def test_a_row_that_got_lost_is_never_passed_over(monkeypatch):
    whole = contract.make_quarantine
    monkeypatch.setattr(contract, "make_quarantine", lambda *parts: whole(*parts).iloc[1:])
    with pytest.raises(RuntimeError, match="3 rows came in, but 1 are kept, 1 in quarantine and 0 dropped"):
        check(make_annotations({"valence": 9.0}, {"valence": 9.0}, {}))


def test_great_expectations_says_nothing_about_temporary_folders(caplog):
    with caplog.at_level(logging.INFO):
        check(make_annotations({}))
    assert "temporary directory" not in caplog.text


def test_a_data_folder_goes_through_reading_probing_and_checking(tmp_path):
    lines = []
    for number in range(16):
        save_picture(tmp_path, f"1/t{number}.png", seed=number)
        valence, arousal = PLAUSIBLE[number % 8]
        lines.append(row(f"1/t{number}.png", "4,4,30,30", str(number % 8), f"{valence}", f"{arousal}", landmarks=""))
    for number in range(8):
        save_picture(tmp_path, f"1/v{number}.png", seed=100 + number)
    validation = [row(f"1/v{number}.png", ",,,", str(number), "-2", "-2", landmarks="") for number in range(8)]
    save_picture(tmp_path, "1/v0.png", seed=3)  # the same picture as t3, but in the box
    save_picture(tmp_path, "1/small.png", seed=200, width=23)
    lines += [
        row("1/small.png", "0,0,20,20", landmarks=""),
        row("1/none.png", landmarks=""),
        row("../1/t0.png", landmarks=""),
        row("1/t1.png", landmarks=""),
        row("1/./t1.png", landmarks=""),
        row("1/v1.png", landmarks=""),
        row("1/t0.png", expression="x", valence="", landmarks="1;2"),
        "1/t2.png,1,2",
    ]
    lines[3] = row("1/t3.png", ",,,", "3", "0.1", "0.5", landmarks="")
    write_copy(tmp_path, lines, validation)
    annotations = read_annotations(DataFolder.open(tmp_path))
    probes = probe_images(tmp_path, annotations.rows, workers=1)
    result = check_contract(annotations, probes, LIMITS, None)
    assert_balanced(result, annotations)
    assert result.rows == 32
    assert result.quarantine[["line", "rule"]].to_numpy().tolist() == [
        [18, "image_large_enough"],
        [19, "image_readable"],
        [20, "path_inside_folder"],
        [21, "path_unique"],
        [22, "path_unique"],
        [23, "path_in_one_split"],
        [24, "landmarks_complete"],
        [25, "columns_complete"],
    ]
    assert result.quarantine["also_broken"].to_list()[6] == "expression_known, valence_in_range"
    found = only(result.dropped)
    assert (found["line"], found["rule"]) == (5, "near_duplicate_of_validation")
    assert found["value"] == f"{IMAGES}/1/v0.png, 0 bits apart"
    kept = result.kept
    assert len(kept) == 23
    assert sorted(kept.loc[kept["split"] == "validation", "expression"]) == list(range(len(EXPRESSIONS)))
    assert set(kept["warnings"]) == {""}
    assert set(kept["image_width"]) == {48}
