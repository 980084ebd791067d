from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from contract_rows import check, make_annotations, make_probes
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.contract.evidence import Evidence, find_path_problems
from pocketaffect.data.contract.ledger import (
    DROPPED_COLUMNS,
    DUPLICATES_COLUMNS,
    KEPT_COLUMNS,
    QUARANTINE_COLUMNS,
    Suite,
)
from pocketaffect.data.contract.rules import RULE_NAMES, RULES, STEPS, VA_REGIONS, describe_region
from pocketaffect.data.release.places import describe_path_problem
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-contract.md"


def tables() -> list[list[list[str]]]:
    """The document's tables as cells, without their heads and rulers."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    split = [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()] for block in blocks
    ]
    return [block[2:] for block in split]


def test_the_document_has_every_rule_with_its_severity_and_demand():
    listed = [(cells[0].strip("`"), cells[1], cells[2]) for block in tables() for cells in block if len(cells) == 5]
    assert listed == [(rule.name, rule.severity, rule.demand) for rule in RULES]


def test_every_rule_of_the_document_says_why_and_what_to_do():
    for block in tables():
        for cells in block:
            assert all(len(cell) > 0 for cell in cells), cells
            if len(cells) == 5:
                assert min(len(cells[3]), len(cells[4])) > 20, cells


def test_the_document_has_every_column_of_every_table():
    text = DOCUMENT.read_text(encoding="utf-8")
    for columns in (KEPT_COLUMNS, QUARANTINE_COLUMNS, DROPPED_COLUMNS, DUPLICATES_COLUMNS):
        for name in columns:
            short = re.sub(r"^soft_.*", "soft_<expression>", name)
            assert f"`{short}`" in text, name


def test_the_document_has_every_plausible_region():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in EXPRESSIONS:
        assert f"| {name} | {describe_region(name)} |" in text


def test_rule_names_are_unique_and_fit_a_32_bit_record():
    assert len(set(RULE_NAMES)) == len(RULE_NAMES) <= 32


def test_rules_stand_in_the_order_of_their_steps():
    assert [rule.step for rule in RULES] == sorted((rule.step for rule in RULES), key=STEPS.index)
    assert {rule.step for rule in RULES} == set(STEPS)


def test_happiness_has_the_region_that_affectnet_printed():
    assert describe_region("happiness") == "valence (0, 1], arousal [-0.2, 0.5]"


def test_a_sign_is_demanded_where_the_class_mean_is_two_spreads_from_zero():
    for name, means in zip(EXPRESSIONS, CLASS_MEAN_VA, strict=True):
        if name in ("neutral", "happiness"):
            continue
        region = VA_REGIONS[name]
        for (low, high), mean, spread in zip((region.valence, region.arousal), means, (0.169, 0.146), strict=True):
            wanted = (None, None) if abs(mean) < 2 * spread else (None, 0.0) if mean < 0 else (0.0, None)
            assert (low, high) == wanted, name


def test_neutral_reaches_two_spreads_from_its_mean_and_no_tenth_further():
    region, means = VA_REGIONS["neutral"], CLASS_MEAN_VA[0]
    furthest = max(abs(mean) + 2 * spread for mean, spread in zip(means, (0.169, 0.146), strict=True))
    assert region.valence == region.arousal
    assert 0.3 < furthest <= max(region.valence) == -min(region.valence) == 0.4


@given(
    st.integers(0, 7),
    st.floats(-1, 1) | st.sampled_from([0.0, -0.2, 0.5, 0.4]),
    st.floats(-1, 1) | st.sampled_from([0.0, -0.2, 0.5, 0.4]),
)
def test_the_text_of_a_region_says_what_lies_in_it(code, valence, arousal):
    """A second reading of the regions, from their text."""
    inside = True
    for part in describe_region(EXPRESSIONS[code]).split("], "):
        name, opening, low, high = re.match(r"(\w+) ([\[(])([-.\d]+), ([-.\d]+)", part).groups()
        value = {"valence": valence, "arousal": arousal}[name]
        inside &= (float(low) < value if opening == "(" else float(low) <= value) and value <= float(high)
    region = VA_REGIONS[EXPRESSIONS[code]]
    direct = all(
        (low is None or low <= value) and (high is None or value <= high)
        for (low, high), value in ((region.valence, valence), (region.arousal, arousal))
    ) and not (region.above and valence == region.valence[0])
    assert inside == direct


def test_the_suite_marks_exactly_the_rows_outside_their_region():
    generator = np.random.default_rng(1)
    grid = [-1.0, -0.41, -0.4, -0.2, -0.21, 0.0, 1e-9, -1e-9, 0.4, 0.5, 0.51, 1.0]
    rows = [
        {"expression": float(generator.integers(0, 9)), "valence": valence, "arousal": arousal}
        for valence in grid
        for arousal in grid
        for _ in range(3)
    ] + [{"expression": float(code), "valence": -2.0, "arousal": -2.0} for code in range(8)]
    kept = check(make_annotations(*rows)).kept
    for made, row in zip(rows, kept.itertuples(), strict=True):
        plausible = True
        if made["expression"] < 8 and made["valence"] != -2:
            region = VA_REGIONS[EXPRESSIONS[int(made["expression"])]]
            for (low, high), value in ((region.valence, made["valence"]), (region.arousal, made["arousal"])):
                plausible &= (low is None or value >= low) and (high is None or value <= high)
            plausible &= not (region.above and made["valence"] == region.valence[0])
        assert row.warnings == ("" if plausible else "va_plausible"), made


PATHS = st.text(st.sampled_from("a./\\:?\0 C\n\té"), max_size=12)


@given(st.lists(PATHS, min_size=1, max_size=40))
def test_paths_are_judged_as_the_reader_of_files_judges_them(paths):
    found = find_path_problems(pa.array(paths, pa.large_string()))
    assert found.to_pylist() == [describe_path_problem(path) for path in paths]


@settings(max_examples=30)
@given(st.data())
def test_the_overlap_is_the_share_of_the_box_that_an_image_holds(data):
    corner, side = st.integers(-60, 60), st.integers(1, 60)
    count = data.draw(st.integers(1, 8))
    boxes: list[tuple[int, ...]] = [
        (data.draw(corner), data.draw(corner), data.draw(side), data.draw(side)) for _ in range(count)
    ]
    sizes = [(data.draw(side), data.draw(side)) for _ in range(count)]
    names = ("face_x", "face_y", "face_width", "face_height")
    annotations = make_annotations(*(dict(zip(names, map(float, box), strict=True)) for box in boxes))
    probes = make_probes(
        count, width={n: size[0] for n, size in enumerate(sizes)}, height={n: size[1] for n, size in enumerate(sizes)}
    )
    shares = Evidence(annotations.rows, probes, has_votes=False).table["box_overlap"]
    for share, (x, y, width, height), size in zip(shares, boxes, sizes, strict=True):
        canvas = np.zeros((200, 200), dtype=bool)
        canvas[70 : 70 + size[1], 70 : 70 + size[0]] = True
        assert share == pytest.approx(canvas[70 + y : 70 + y + height, 70 + x : 70 + x + width].mean())


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["a", "b", "c", "aa", "é"]), max_size=30), st.randoms(use_true_random=False))
def test_equal_paths_are_found_as_pandas_finds_them(names, random):
    splits = [random.choice(["train", "validation"]) for _ in names]
    rows = [{"listed_path": f"1/{name}.jpg", "split": split} for name, split in zip(names, splits, strict=True)]
    if not rows:
        return
    annotations = make_annotations(*rows)
    evidence = Evidence(annotations.rows, make_probes(len(rows)), has_votes=False)
    evidence.enter_path(np.arange(len(rows)))
    table = pd.DataFrame({"path": names, "split": splits})
    assert evidence.table["repeated"].astype(bool).tolist() == table.duplicated().tolist()
    held = table["path"].isin(table.loc[table["split"] == "validation", "path"]) & (table["split"] == "train")
    assert evidence.table["held_by_validation"].astype(bool).tolist() == held.tolist()


def test_a_rule_that_cannot_run_is_never_taken_for_kept():
    with pytest.raises(RuntimeError, match="could not run"):
        Suite().run("path", pd.DataFrame({"repeated": np.zeros(3)}))


def test_great_expectations_gives_every_row_of_a_large_table_that_breaks_a_rule():
    broken = np.zeros(50_000, dtype=np.int8)
    broken[::3] = 1
    found = Suite().run("path", pd.DataFrame({"repeated": broken, "held_by_validation": 1 - broken}))
    assert found["path_unique"].tolist() == np.flatnonzero(broken).tolist()
    assert found["path_in_one_split"].tolist() == np.flatnonzero(broken == 0).tolist()
