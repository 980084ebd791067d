from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from affectnet_copies import EYES, HEADER, LANDMARKS, lines, row, write_copy
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.data.release import delimited
from pocketaffect.data.release.csv_release import CSV_COLUMNS
from pocketaffect.data.release.delimited import parse_numbers, read_lines
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import read_annotations
from pocketaffect.data.release.rows import reduce_landmarks
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EYE_COLUMNS

TWO_ROWS = (
    row("1/a.jpg", landmarks="1;2"),
    row("2/b.jpg", box=",,,", expression="10", valence="-2", arousal="-2", landmarks="1;2"),
)


def read_training(root: Path, content: bytes):
    found = read_annotations(DataFolder.open(write_copy(root, content)))
    return found.rows[found.rows["list"] == "training.csv"], found.unsplit


def assert_two_rows(rows, unsplit, first_line: int = 2) -> None:
    assert len(unsplit) == 0
    assert rows["path"].to_list() == [f"Manually_Annotated_Images/{name}" for name in ("1/a.jpg", "2/b.jpg")]
    assert rows["line"].to_list() == [first_line, first_line + 1]
    assert rows["expression"].to_list() == [3, 10]
    assert rows["valence"].to_list() == [0.5, -2]
    assert rows["arousal"].to_list() == [-0.25, -2]
    assert rows["box_given"].to_list() == [True, False]
    assert rows["face_width"].isna().to_list() == [False, True]
    assert rows["face_x"].to_list()[0] == 4
    assert rows["landmark_count"].to_list() == [2, 2]
    assert rows["unread"].to_list() == ["", ""]
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
            lines(*(re.sub("([^,]+)", r'"\1"', text) for text in (HEADER, *TWO_ROWS)), header=None), 2, id="quotes"
        ),
        pytest.param(lines(*(text.replace(",", " , ") for text in TWO_ROWS)), 2, id="spaces"),
        pytest.param(lines(*(f"{text},7" for text in TWO_ROWS), header=HEADER + ",remark"), 2, id="one more column"),
        pytest.param(lines(*(f"7,{text}" for text in TWO_ROWS), header="," + HEADER), 2, id="a nameless column"),
    ],
)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_every_form_of_the_release_gives_the_same_rows(tmp_path, monkeypatch, content, first_line, block):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block)
    assert_two_rows(*read_training(tmp_path, content), first_line=first_line)


def test_columns_are_found_by_name_whatever_their_order(tmp_path):
    table = [text.split(",") for text in (HEADER, *TWO_ROWS)]
    reordered = [",".join(fields[::-1]) for fields in table]
    assert_two_rows(*read_training(tmp_path, lines(*reordered, header=None)))


SPELLINGS = [str.upper, str.lower, str.title, lambda name: name.replace("_", " "), lambda name: f" {name.swapcase()} "]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("order", [1, -1])
def test_a_header_is_known_however_it_is_spelt_and_ordered(tmp_path, spell, order):
    table = [
        f"{text},{more}".split(",") for text, more in zip((HEADER, *TWO_ROWS), ("identity", "A", "B"), strict=True)
    ]
    table[0] = [spell(name) for name in table[0]]
    content = lines(*(",".join(fields[::order]) for fields in table), header=None)
    found = read_annotations(DataFolder.open(write_copy(tmp_path, content)))
    assert_two_rows(found.rows[found.rows["list"] == "training.csv"], found.unsplit)
    assert found.rows["identity"].to_list() == ["A", "B", ""]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace("face_x", "face_left"), ["missing: face_x", "'face_left' to face_x"]),
        (HEADER.upper().replace("VALENCE", "VALENZ"), ["missing: valence", "'VALENZ' to valence"]),
        ("path,x,y,w,h,points,label,v,a", ["missing: subDirectory_filePath, face_x", "found:   path, x, y"]),
        (HEADER.replace(",", ";"), ["missing", "separate the columns by commas, not by ';'"]),
        (HEADER.replace(",", "\t"), ["missing", "separate the columns by commas, not by '\\t'"]),
        (HEADER.replace("arousal", "VALENCE"), ["missing: arousal"]),
    ],
)
def test_names_that_are_no_columns_are_refused_and_never_read_by_position(tmp_path, header, words):
    with pytest.raises(PocketAffectError) as caught:
        read_training(tmp_path, lines(*TWO_ROWS, header=header))
    assert all(word in str(caught.value) for word in [*words, "training.csv, line 1"]), str(caught.value)


def test_a_column_given_twice_in_two_spellings_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match=r"column\(s\) given twice: expression"):
        read_training(tmp_path, lines(row() + ",5", header=HEADER + ",Expression"))


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


def test_bytes_that_are_not_utf8_are_shown_escaped(tmp_path):
    rows, unsplit = read_training(tmp_path, lines("x,y", row()) + b"1/\xff\xe9.jpg,,,,,1;2,3,\xff,0\n")
    assert rows["path"].to_list()[1].endswith(r"1/\xff\xe9.jpg")
    assert rows["valence"].isna().to_list() == [False, True]
    assert rows["unread"].to_list() == ["", r"valence '\\xff'"]
    assert unsplit["line"].to_list() == [2]


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "-inf", "-1e999", "0x10", "1_0", "1e", "true", "--1", "٣"])
def test_what_is_no_finite_number_is_nan_and_shown_as_it_stands(tmp_path, text):
    rows, _ = read_training(tmp_path, lines(row(valence=text, arousal="1")))
    assert rows["valence"].isna().all()
    assert rows["arousal"].to_list() == [1]
    assert rows["unread"].to_list() == [f"valence {text!r}"]


def test_cells_of_a_box_are_unread_only_where_a_box_is_given(tmp_path):
    rows, _ = read_training(tmp_path, lines(*(row(box=box) for box in ("1,2,3,4", ",,,", "1,,x,4", "nan,,,"))))
    assert rows["box_given"].to_list() == [True, False, True, True]
    assert rows["unread"].to_list() == [
        "",
        "",
        "face_y '', face_width 'x'",
        "face_x 'nan', face_y '', face_width '', face_height ''",
    ]


def is_number(text: str) -> bool:
    """Python's float, without what only it takes: blanks, underscores, other digits, names of numbers."""
    try:
        return text.isascii() and "_" not in text and text.strip(" ") == text and math.isfinite(float(text))
    except ValueError:
        return False


NUMBER_TEXTS = (
    st.floats(allow_nan=True).map(repr)
    | st.integers().map(str)
    | st.text("0123456789+-.eE", max_size=8)
    | st.sampled_from(["nan", "inf", "+Infinity", "1e400", "-1e-400", "", "."])
    | st.text(max_size=3)
)


@given(st.lists(NUMBER_TEXTS, max_size=6))
def test_numbers_are_read_as_python_reads_them_whatever_stands_beside_them(texts):
    import pyarrow as pa

    texts = [text.strip(delimited.BLANKS) for text in texts]
    together = parse_numbers(pa.array(texts, pa.string()))
    for text, number in zip(texts, together, strict=True):
        alone = parse_numbers(pa.array([text], pa.string()))[0]
        assert (number == alone) or (math.isnan(number) and math.isnan(alone))
        assert number == float(text) if is_number(text) else math.isnan(number)


@given(st.binary(max_size=60) | st.text(",\r\n ab\ufeff", max_size=40).map(str.encode), st.integers(1, 9))
def test_lines_are_numbered_alike_however_the_file_is_cut_into_blocks(content, block):
    class Cut(io.BytesIO):
        def read(self, size):
            return super().read(min(size, block))

    try:
        parts = list(read_lines(Cut(content), "x"))
    except PocketAffectError:
        assert content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return
    found = [pair for part in parts for pair in zip(part.numbers.tolist(), part.text.to_pylist(), strict=True)]
    text = re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))
    expected = [(number, line.decode("utf-8", "backslashreplace")) for number, line in enumerate(text, 1)]
    assert found == [(number, line) for number, line in expected if line.strip(', "\t')]


def test_landmarks_are_counted_and_the_eyes_found(tmp_path):
    kinds = [LANDMARKS, "", "1;2", LANDMARKS + ";", "1;x;3", LANDMARKS.replace("14", "nan", 1), ";".join(["-2"] * 136)]
    kinds += [LANDMARKS.replace(";", " ; "), ";".join(["-2"] * 135 + ["1"])]
    rows, _ = read_training(tmp_path, lines(*(row(landmarks=text) for text in kinds)))
    assert rows["landmark_count"].to_list() == [136, 0, 2, -1, -1, -1, 0, 136, 136]
    eyes = rows[list(EYE_COLUMNS)].to_numpy()
    np.testing.assert_allclose(eyes[[0, 7]], [EYES, EYES])
    assert np.isnan(eyes[1:7]).all()
    assert eyes[8].tolist() == [-2, -2, -2, -2]


@given(st.lists(st.sampled_from([0, 1, 5, 135, 136, 137]), max_size=6), st.integers(0, 2**32 - 1), st.floats(0, 0.05))
def test_landmarks_reduced_together_are_those_reduced_one_by_one(lengths, seed, spoilt):
    generator = np.random.default_rng(seed)
    parts = [generator.uniform(-5, 500, length) for length in lengths]
    for part in parts:
        part[generator.random(len(part)) < spoilt / 10] = np.nan
    values = np.concatenate([*parts, np.empty(0)])
    counts, eyes = reduce_landmarks(values, np.cumsum([0, *lengths]))
    for part, count, found in zip(parts, counts, eyes, strict=True):
        assert count == (-1 if np.isnan(part).any() else len(part))
        if count == 136:
            points = part.reshape(68, 2)
            expected = [*points[36:42].mean(axis=0), *points[42:48].mean(axis=0)]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        else:
            assert np.isnan(found).all()


@pytest.mark.parametrize("name", ["identity", "subject", "person_id"])
def test_a_column_that_says_who_is_pictured_is_kept_and_named(tmp_path, name):
    content = lines(row() + ",Ann", row("1/b.jpg") + ",", header=f"{HEADER},{name}")
    found = read_annotations(DataFolder.open(write_copy(tmp_path, content)))
    assert found.has_identity
    assert found.rows["identity"].to_list() == ["Ann", "", ""]
    assert [summary.identity for summary in found.lists] == [name, ""]


def test_spellings_of_one_path_give_one_path(tmp_path):
    spellings = ["1/a.jpg", "./1/a.jpg", "1//a.jpg", "1/./a.jpg", ".//1/././/a.jpg", " 1/a.jpg "]
    rows, _ = read_training(tmp_path, lines(*(row(text) for text in spellings)))
    assert set(rows["path"]) == {"Manually_Annotated_Images/1/a.jpg"}
    assert rows["listed_path"].to_list()[2] == "1//a.jpg"


def test_a_row_without_a_path_is_no_path_to_a_file(tmp_path):
    rows, _ = read_training(tmp_path, lines(row(""), row("1/../../x")))
    assert rows["path"].to_list() == [f"Manually_Annotated_Images/{path}" for path in ("?", "1/../../x")]


def test_a_missing_column_is_named(tmp_path):
    without = [",".join(fields.split(",")[:6] + fields.split(",")[8:]) for fields in (HEADER, row())]
    with pytest.raises(
        PocketAffectError, match=r"training\.csv, line 1: column\(s\) missing: expression, valence\n"
    ) as caught:
        read_training(tmp_path, lines(*without, header=None))
    assert "arousal" in str(caught.value)


def test_a_column_given_twice_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match=r"column\(s\) given twice: expression"):
        read_training(tmp_path, lines(row() + ",5", header=HEADER + ",expression"))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 50)
    monkeypatch.setattr(delimited, "MAX_LINE_BYTES", 1000)
    with pytest.raises(PocketAffectError, match=r"training\.csv: not readable as CSV\n.*more than 1,000 bytes"):
        read_training(tmp_path, lines(row()) + b"x" * 2000 + b"\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no rows", "an empty file"]),
        (b"\xef\xbb\xbf", ["no rows", "an empty file"]),
        (b"\n \r\n,,\n", ["no rows", "an empty file"]),
        (lines(), ["no rows", "a header line alone"]),
        (HEADER.encode(), ["no rows", "a header line alone"]),
        (lines("", "  "), ["no rows", "a header line alone"]),
        (lines("a,b", "c"), ["no rows", "2 line(s) without the 9 columns; line 2: 'a,b'"]),
        (b"a,b\nc,d\n", ["line 1: column(s) missing: subDirectory_filePath", "found:   a, b"]),
        (b"a,1\nc,2\n", ["first line: neither a header nor a row", "2 column(s): 'a,1'", "subDirectory_filePath"]),
        (lines(row()).replace(b",", b";"), ["line 1: column(s) missing", "separate the columns by commas"]),
        (lines(row(), header=None).replace(b",", b";"), ["first line: neither a header nor a row"]),
        (lines(row()).decode().encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
        (b"\x89PNG\r\n\x1a\n\0\0", ["line 1: column(s) missing"]),
    ],
)
def test_a_list_without_rows_says_what_was_found(tmp_path, content, words):
    with pytest.raises(PocketAffectError) as caught:
        read_training(tmp_path, content)
    assert all(word in str(caught.value) for word in [*words, "training.csv"])


def test_the_columns_are_the_release_s():
    assert len(CSV_COLUMNS) == 9
