from __future__ import annotations

from itertools import pairwise, product

import pytest

from pocketaffect.designs import CATALOGUE, find_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.export.size import WIDTHS, ModelRow, list_models, render_models


@pytest.fixture(scope="module")
def rows() -> list[ModelRow]:
    return list_models(32, (0.1,))


def test_every_design_is_listed(rows):
    assert [row.spec.architecture for row in rows] == list(CATALOGUE)


@pytest.mark.slow
def test_every_design_costs_more_at_each_larger_width():
    wider = list_models(32)
    assert [(row.spec.architecture, row.spec.width) for row in wider] == list(product(CATALOGUE, WIDTHS))
    for one, next_one in pairwise(wider):
        if one.spec.architecture == next_one.spec.architecture:
            assert one.shipped_parameters < next_one.shipped_parameters
            assert one.trained_parameters < next_one.trained_parameters
            assert one.macs < next_one.macs


def test_less_is_shipped_than_trained_and_much_less_where_branches_merge(rows):
    for row in rows:
        assert row.shipped_parameters < row.trained_parameters
    assert all(
        row.shipped_parameters < 0.4 * row.trained_parameters for row in rows if row.spec.architecture == "mobileone_s0"
    )


def test_the_columns_stand_under_each_other(rows):
    table = render_models(rows).splitlines()
    header, *lines = table[: len(rows) + 1]
    for title in ("trained", "shipped", "MMACs", "int8 bytes"):
        end = header.index(title) + len(title)
        assert all(line[end - 1].isdigit() and line[end : end + 2] == "  " for line in lines)
    assert all(line.endswith(find_design(row.spec.architecture).licence) for line, row in zip(lines, rows, strict=True))
    assert lines[-1].split()[:2] == ["mobileone_s0", "0.1"]
    assert f"{rows[-1].shipped_parameters:,}" in lines[-1]
    assert f"{rows[-1].bytes[1]:,}" in lines[-1]


def test_every_designs_paper_and_source_are_named_once(rows):
    text = render_models(rows)
    for name, design in CATALOGUE.items():
        assert text.count(f"\n{name}: {design.citation}") == 1
        assert design.source in text


def test_an_impossible_width_is_refused():
    with pytest.raises(PocketAffectError, match="width"):
        list_models(64, (0.0,))
