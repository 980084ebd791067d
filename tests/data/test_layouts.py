from __future__ import annotations

import re
from pathlib import Path

import pytest
from affectnet_copies import HEADER, count_rows, lines, row, spoilt, write_copy
from hypothesis import HealthCheck, example, given, settings

from pocketaffect.data.layouts import CSV_COLUMNS, read_annotations
from pocketaffect.errors import PocketAffectError

TWO_ROWS = (row("1/a.jpg"), row("2/b.jpg", box=",,,", expression="10", valence="-2", arousal="-2"))


def read_training(root: Path, content: bytes):
    rows, unsplit = read_annotations(write_copy(root, content))
    return rows[rows["list"] == "training.csv"], unsplit


def assert_two_rows(rows, unsplit, first_line: int = 2) -> None:
    assert len(unsplit) == 0
    assert rows["path"].to_list() == [f"Manually_Annotated_Images/{name}" for name in ("1/a.jpg", "2/b.jpg")]
    assert rows["line"].to_list() == [first_line, first_line + 1]
    assert rows["expression"].to_list() == [3, 10]
    assert rows["valence"].to_list() == [0.5, -2]
    assert rows["arousal"].to_list() == [-0.25, -2]
    assert rows["face_width"].isna().to_list() == [False, True]
    assert rows["face_x"].to_list()[0] == 4
    assert rows["facial_landmarks"].to_list() == ["1;2", "1;2"]
    assert set(rows["split"]) == {"train"}


@pytest.mark.parametrize(
    ("content", "first_line"),
    [
        pytest.param(lines(*TWO_ROWS), 2, id="header"),
        pytest.param(lines(*TWO_ROWS, header=None), 1, id="no header"),
        pytest.param(b"\xef\xbb\xbf" + lines(*TWO_ROWS), 2, id="byte-order mark"),
        pytest.param(b"\xef\xbb\xbf" + lines(*TWO_ROWS, header=None), 1, id="byte-order mark, no header"),
        pytest.param(lines(*TWO_ROWS, end="\r\n"), 2, id="Windows line ends"),
        pytest.param(lines(*TWO_ROWS, end="\r"), 2, id="old Mac line ends"),
        pytest.param(lines(*TWO_ROWS).rstrip(), 2, id="no end of the last line"),
        pytest.param(b"\r\n\n" + lines(*TWO_ROWS), 4, id="blank lines above"),
        pytest.param(lines(*TWO_ROWS, "", "   ", ",,,,,,,,", " ,", ",,"), 2, id="blank lines below"),
        pytest.param(
            lines(*(re.sub("([^,]+)", r'"\1"', text) for text in (HEADER, *TWO_ROWS)), header=None), 2, id="q"
        ),
        pytest.param(lines(*(text.replace(",", " , ") for text in TWO_ROWS)), 2, id="spaces"),
        pytest.param(lines(*(f"{text},7" for text in TWO_ROWS), header=HEADER + ",identity"), 2, id="one more column"),
    ],
)
def test_every_form_of_the_release_gives_the_same_rows(tmp_path, content, first_line):
    assert_two_rows(*read_training(tmp_path, content), first_line=first_line)


def test_columns_are_found_by_name_whatever_their_order(tmp_path):
    table = [text.split(",") for text in (HEADER, *TWO_ROWS)]
    reordered = [",".join(fields[::-1]) for fields in table]
    assert_two_rows(*read_training(tmp_path, lines(*reordered, header=None)))


def test_blank_lines_between_rows_keep_the_line_numbers(tmp_path):
    rows, unsplit = read_training(tmp_path, lines("", row(), "", " \t", row("1/b.jpg"), "1/c.jpg,1,2", ""))
    assert rows["line"].to_list() == [3, 6]
    assert unsplit[["line", "text"]].to_numpy().tolist() == [[7, "1/c.jpg,1,2"]]


@pytest.mark.parametrize("broken", ["1/c.jpg,1,2", row() + ",9", "text", '"a'])
@pytest.mark.parametrize("header", [HEADER, None])
def test_a_line_with_too_few_or_too_many_fields_is_set_apart_with_its_number(tmp_path, broken, header):
    rows, unsplit = read_training(tmp_path, lines(row(), broken, row(), header=header))
    first = 2 if header else 1
    assert rows["line"].to_list() == [first, first + 2]
    assert unsplit.to_numpy().tolist() == [["training.csv", first + 1, broken]]


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path):
    rows, unsplit = read_training(tmp_path, lines(row(), '"' + row("1/q.jpg"), row(), row()))
    assert (len(rows), len(unsplit)) == (4, 0)


def test_bytes_that_are_no_utf8_are_shown_as_replacement_characters(tmp_path):
    rows, unsplit = read_training(tmp_path, lines("x,y", row()) + b"1/\xff\xe9.jpg,,,,,1;2,3,\xff,0\n")
    assert rows["path"].to_list()[1].endswith("1/��.jpg")
    assert rows["valence"].isna().to_list() == [False, True]
    assert rows["valence_text"].to_list()[1] == "�"
    assert unsplit["line"].to_list() == [2]


@pytest.mark.parametrize("text", ["", "abc", "nan", "0x10", "1_0", "1,".strip(",") + "e", "true", "None", "--1", "٣x"])
def test_text_in_a_number_column_is_nan_beside_the_text_itself(tmp_path, text):
    rows, _ = read_training(tmp_path, lines(row(expression=text)))
    assert rows["expression"].isna().all()
    assert rows["expression_text"].to_list() == [text]


def test_infinite_and_huge_numbers_are_read_as_such(tmp_path):
    rows, _ = read_training(tmp_path, lines(row(expression="inf", valence="-1e999", arousal="9" * 40)))
    assert rows[["expression", "valence", "arousal"]].to_numpy().tolist() == [[float("inf"), -float("inf"), 1e40]]


def test_spellings_of_one_path_give_one_path(tmp_path):
    spellings = ["1/a.jpg", "./1/a.jpg", "1//a.jpg", "1/./a.jpg", ".//1/././/a.jpg", " 1/a.jpg "]
    rows, _ = read_training(tmp_path, lines(*(row(text) for text in spellings)))
    assert set(rows["path"]) == {"Manually_Annotated_Images/1/a.jpg"}
    assert rows["subDirectory_filePath"].to_list()[2] == "1//a.jpg"


def test_the_automatic_list_joins_the_training_rows_from_its_own_folder(tmp_path):
    write_copy(tmp_path, [row()])
    (tmp_path / "automatically_annotated.csv").write_bytes(lines(row("9/z.jpg")))
    rows, _ = read_annotations(tmp_path)
    assert rows["split"].to_list() == ["train", "validation", "train"]
    assert rows["path"].to_list()[2] == "Automatically_Annotated_Images/9/z.jpg"
    assert rows.index.to_list() == [0, 1, 2]


def test_a_missing_column_is_named(tmp_path):
    without = [",".join(fields.split(",")[:6] + fields.split(",")[8:]) for fields in (HEADER, row())]
    with pytest.raises(PocketAffectError, match=r"training\.csv: column\(s\) missing: expression, valence\n") as caught:
        read_training(tmp_path, lines(*without, header=None))
    assert "arousal" in str(caught.value)


def test_a_column_given_twice_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match=r"column\(s\) given twice: expression"):
        read_training(tmp_path, lines(row() + ",5", header=HEADER + ",expression"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no rows", "an empty file"]),
        (b"\xef\xbb\xbf", ["no rows", "an empty file"]),
        (b"\n \r\n", ["no rows", "an empty file"]),
        (lines(), ["no rows", "a header line alone"]),
        (HEADER.encode(), ["no rows", "a header line alone"]),
        (lines("", "  "), ["no rows", "a header line alone"]),
        (lines("a,b", "c"), ["no rows", "2 line(s) without the 9 columns; line 2: 'a,b'"]),
        (b"a,b\nc,d\n", ["first line: neither a header nor a row", "2 column(s): 'a,b'", "subDirectory_filePath"]),
        (lines(row()).replace(b",", b";"), ["first line: neither a header nor a row"]),
        (lines(row()).decode().encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
        (b"\x89PNG\r\n\x1a\n\0\0", ["first line: neither a header nor a row"]),
    ],
)
def test_a_list_without_rows_says_what_was_found(tmp_path, content, words):
    with pytest.raises(PocketAffectError) as caught:
        read_training(tmp_path, content)
    assert all(word in str(caught.value) for word in [*words, "training.csv"])


def test_a_missing_folder_an_empty_one_and_a_wrong_one_say_so(tmp_path):
    with pytest.raises(PocketAffectError, match=r"no such data folder\n  found:   nothing") as caught:
        read_annotations(tmp_path / "nowhere")
    assert "pocketaffect data use PATH" in str(caught.value)
    with pytest.raises(PocketAffectError, match="an empty folder"):
        read_annotations(tmp_path)
    (tmp_path / "training.csv").write_bytes(lines(row()))
    with pytest.raises(PocketAffectError, match=r"release, validation\.csv missing\n  found:   training\.csv"):
        read_annotations(tmp_path)
    with pytest.raises(PocketAffectError, match="a file"):
        read_annotations(tmp_path / "training.csv")


GOOD = lines(*TWO_ROWS, row("3/c.jpg", expression="7", valence="1e-1"), end="\r\n")
TOKENS = (b"\n", b"\r", b"\r\n", b",", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"nan", b"-", b" ", HEADER.encode())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=spoilt(GOOD, TOKENS))
@example(content=GOOD + b",,,,,,,,\n,\n")
@example(content=GOOD.replace(b"\r\n", b"\r\r\n"))
def test_a_spoilt_list_loses_no_line_and_crashes_nothing(tmp_path, content):
    try:
        rows, unsplit = read_training(tmp_path, content)
    except PocketAffectError:
        return
    assert len(rows) + len(unsplit) == count_rows(content)
    found = sorted([*rows["line"], *unsplit["line"]])
    assert len(set(found)) == len(found)
    texts = [b"", *re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))]
    for line, name in zip(rows["line"], rows["subDirectory_filePath"], strict=True):
        assert name in texts[line].decode("utf-8", "replace")


def test_the_columns_are_the_release_s():
    assert len(CSV_COLUMNS) == 9
