import subprocess
import sys

import pytest

from pocketaffect.tables import render_table

LONG = "a name of many words " * 20


def test_columns_are_aligned_and_lines_end_without_blanks():
    rows = [("name", "bytes", ""), ("vgg", "1,234,567", "chosen"), ("mobilenet", "9", "")]
    assert render_table(rows, "lrl").splitlines() == [
        "name           bytes",
        "vgg        1,234,567  chosen",
        "mobilenet          9",
    ]


def test_the_last_letter_counts_for_all_columns_after_it_and_rows_may_be_short():
    assert render_table([("a", "b", "c"), ("", "22", "333"), ("x",)], "lr").splitlines() == [
        "a   b    c",
        "   22  333",
        "x",
    ]


def test_nothing_is_nothing():
    assert render_table([], "l") == ""


@pytest.mark.parametrize(
    "variables", [{"COLUMNS": "20"}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}]
)
def test_no_terminal_cuts_wraps_or_colours_a_cell(variables):
    script = "import sys; from pocketaffect.tables import render_table; print(render_table([sys.argv[1:]], 'l'))"
    cells = [LONG.strip(), "[bold]1.5[/bold] :smile: true None 2026-01-01", "日本語のリスト.csv"]
    done = subprocess.run(
        [sys.executable, "-c", script, *cells], env=variables, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "  ".join(cells) + "\n"


def test_wide_letters_take_their_place_in_a_terminal():
    first, second = render_table([("日本", "x"), ("four", "y")], "l").splitlines()
    assert (first, second) == ("日本  x", "four  y")
