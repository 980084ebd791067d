from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affectnet_copies import row, write_copy, write_votes
from hypothesis import given
from hypothesis import strategies as st

from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.votes import (
    PATH_COLUMN,
    VOTE_COLUMNS,
    VOTES_FILE,
    Votes,
    _share,
    find_soft_labels,
    read_votes,
)
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS, SOFT_COLUMNS

HEADER = ",".join((PATH_COLUMN, *VOTE_COLUMNS))


def read(root: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Votes:
    write_copy(root, [row()])
    (root / VOTES_FILE).write_bytes(end.join([header, *rows, ""]).encode())
    return read_votes(DataFolder.open(root))


def test_votes_become_shares_in_the_labels_order(tmp_path):
    write_copy(tmp_path, [row()])
    write_votes(tmp_path, {"1/a.jpg": (0, 1, 2, 3, 4, 0, 0, 0, 7, 9), "1/b.jpg": (0,) * 8 + (9, 1)})
    votes = read_votes(DataFolder.open(tmp_path))
    assert votes.paths.to_pylist() == ["1/a.jpg", "1/b.jpg"]
    shares = dict(zip(EXPRESSIONS, votes.shares[0].tolist(), strict=True))
    expected = {"happiness": 0.1, "surprise": 0.2, "sadness": 0.3, "anger": 0.4}
    assert shares == {name: np.float32(expected.get(name, 0)) for name in EXPRESSIONS}
    assert np.isnan(votes.shares[1]).all()


@pytest.mark.parametrize("spell", [str, str.upper, str.title])
def test_columns_are_found_by_name_and_any_line_end_is_read(tmp_path, spell):
    shuffled = ",".join([PATH_COLUMN, *VOTE_COLUMNS][::-1])
    votes = read(tmp_path, "0,0,0,0,0,0,0,0,10,0,1//a.jpg", header=spell(shuffled), end="\r\n")
    assert votes.paths.to_pylist() == ["1/a.jpg"]
    assert votes.shares[0, EXPRESSIONS.index("happiness")] == 1


ZEROS = ",0" * 9


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([f"1/a.jpg,-1{ZEROS}"], HEADER, ["line 2: neutral is no count of votes", "'-1'", "0 or more"]),
        ([f"1/a.jpg,3{ZEROS}", f"1/b.jpg,three{ZEROS}"], HEADER, ["line 3: neutral", "'three'"]),
        ([f"1/a.jpg,nan{ZEROS}", f"1/b.jpg,{ZEROS}"], HEADER, ["line 2: neutral", "'nan' (2 such rows)"]),
        ([f"1/a.jpg{ZEROS},inf"], HEADER, ["line 2: NF", "'inf'"]),
        ([f"1/a.jpg{ZEROS}"], HEADER, ["line 2: NF is no count of votes", "''"]),
        (
            ["1/a.jpg,1" + ZEROS, "1/b.jpg,1" + ZEROS, "1//a.jpg,2" + ZEROS],
            HEADER,
            ["line 4: path given twice", "line 2"],
        ),
        (["1/a.jpg,1" + ZEROS], HEADER.replace("anger", "rage"), ["line 1: column(s) missing: anger", "rage"]),
        (["1/a.jpg,1,1" + ZEROS], HEADER + ",bored", ["line 1: column(s) unknown: bored"]),
        (["1/a.jpg,1,1" + ZEROS], HEADER + ",fear", ["line 1: column(s) given twice: fear"]),
        ([], HEADER, ["no rows", "a header line alone"]),
        ([], "", ["no rows", "an empty file"]),
        ([], "1/a.jpg,1" + ZEROS, ["line 1: no header line", "1/a.jpg,1"]),
        (["1/a.jpg,1" + ZEROS], HEADER.replace("anger", "ANGR"), ["missing: anger", "'ANGR' to anger"]),
    ],
)
def test_bad_votes_name_the_file_the_line_and_what_is_allowed(tmp_path, rows, header, words):
    with pytest.raises(PocketAffectError) as caught:
        read(tmp_path, *rows, header=header)
    assert all(word in str(caught.value) for word in [*words, VOTES_FILE, "allowed:"]), str(caught.value)


def test_how_votes_fit_the_lists_is_counted(tmp_path):
    import pyarrow as pa

    votes = read(tmp_path, f"a,2{ZEROS}", f"b,0{ZEROS}", f"c,1{ZEROS}", "d,0,0,0,0,0,0,0,0,5,5")
    soft, counts = find_soft_labels(votes, pa.array(["a", "x", "b", "a"]))
    assert soft[:, 0].tolist()[0] == soft[:, 0].tolist()[3] == 1
    assert np.isnan(soft[1:3]).all()
    assert (counts.rows, counts.without_expression, counts.unlisted, counts.labelled) == (4, 2, 2, 2)


@given(st.lists(st.lists(st.floats(0, 1e308) | st.integers(0, 10), min_size=10, max_size=10), min_size=1, max_size=4))
def test_shares_sum_to_one_and_keep_the_votes_proportions(table):
    votes = np.array(table, dtype=np.float64)
    shares = _share(votes)
    for row_votes, row_shares in zip(votes, shares, strict=True):
        eight = [row_votes[VOTE_COLUMNS.index(name)] for name in EXPRESSIONS]
        if max(eight) == 0:
            assert np.isnan(row_shares).all()
            continue
        scaled = np.array(eight) / max(eight)
        np.testing.assert_allclose(row_shares, scaled / scaled.sum(), rtol=1e-6, atol=1e-30)
        assert abs(row_shares.sum() - 1) < 1e-6


def test_a_soft_label_has_a_column_for_each_expression():
    assert tuple(f"soft_{name}" for name in EXPRESSIONS) == SOFT_COLUMNS
    assert set(EXPRESSIONS) == set(VOTE_COLUMNS[:8])
