"""Thousands of spoilt rows: nothing gets lost, nothing broken is kept, and a plain second reading agrees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from affectnet_copies import lines as csv_lines
from affectnet_copies import row as csv_row
from affectnet_copies import save_picture, spoilt, write_copy
from contract_rows import LIMITS, assert_balanced, check, make_annotations, make_probes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketaffect.data.contract.check import ContractResult, check_contract
from pocketaffect.data.faces.probe import Probes, probe_images
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.data.release.layouts import Annotations, read_annotations
from pocketaffect.errors import PocketAffectError

NAN = math.nan
HUGE = (1e308, -1e308, 1e-308, 1e18, 2.0**53)
BOXES = (0.0, -0.0, -5.0, 0.5, 15.0, 24.0, 40.0, 48.0, 100.0, 1e-9, NAN, *HUGE)
PATHS = (
    "../a.jpg",
    "/etc/passwd",
    "C:\\a.jpg",
    "\\\\host\\a.jpg",
    "a/../../b",
    "",
    ".",
    "a/",
    "a\0b",
    "~/a",
    "é.jpg",
    "a b",
)
FAULTS = {
    **dict.fromkeys(("face_x", "face_y", "face_width", "face_height"), BOXES),
    "box_given": (True, False),
    "expression": (*map(float, range(-1, 12)), 0.5, NAN, *HUGE),
    "valence": (-2.0, -1.0, -1.0000001, 0.0, 1.0, 1.0000001, NAN, *HUGE),
    "arousal": (-2.0, -1.0, -1.0000001, 0.0, 1.0, 1.0000001, NAN, *HUGE),
    "landmark_count": (-1, 0, 1, 135, 136, 137, 272),
    "identity": ("", "ada", "bob", "Ada"),
    "soft_neutral": (NAN, 0.5),
    "unread": ("", "expression 'x', valence ''", "face_x 'inf'"),
}


def spoil(seed: int, rows: int) -> tuple[Annotations, Probes]:
    """Rows with none to six random faults each, some with the paths, identities and pictures of others."""
    generator = np.random.default_rng(seed)
    names = list(FAULTS)
    made = []
    for number in range(rows):
        fault = {"listed_path": f"1/{number}.jpg"}
        if generator.random() < 0.3:
            fault |= {"list": "validation.csv", "split": "validation"}
        for name in generator.choice(names, generator.integers(0, 7), replace=False):
            fault[name] = FAULTS[name][generator.integers(len(FAULTS[name]))]
        if generator.random() < 0.05:
            fault |= {"expression": float(generator.integers(8, 11)), "valence": -2.0, "arousal": -2.0}
        if generator.random() < 0.1:
            fault["listed_path"] = f"1/{generator.integers(rows)}.jpg"
        elif generator.random() < 0.1:
            fault["listed_path"] = PATHS[generator.integers(len(PATHS))]
        made.append(fault)
    some = generator.permutation(rows)
    faults = {
        "problem": dict.fromkeys(some[: rows // 20].tolist(), "damaged image: cut short"),
        "width": dict.fromkeys(some[rows // 20 : rows // 10].tolist(), 23),
        "height": dict.fromkeys(some[rows // 10 : rows // 8].tolist(), 24),
        "face_hash": {
            int(row): np.array(
                [2**40 - 1, 2**50 - 1, 3**20 + int(generator.integers(0, 9)), 2 ** int(generator.integers(0, 9))]
            )
            for row in some[rows // 8 : rows // 4]
        },
    }
    unsplit = [
        ("training.csv", rows + 10 + extra, f"1/{extra}.jpg,1") for extra in range(int(generator.integers(1, 5)))
    ]
    return make_annotations(*made, unsplit=unsplit, has_identity=True), make_probes(rows, **faults)


def find_image_errors(row: Any, problem: str, width: int, height: int) -> list[str]:
    """A plain second reading of the rules for paths, images and boxes."""
    broken = []
    parts = row.listed_path.replace("\\", "/").split("/")
    inside = not (row.listed_path[:1] in ("/", "\\") or row.listed_path[1:2] == ":" or ".." in parts)
    if not inside or "\0" in row.listed_path or parts[-1] in ("", ".", "?"):
        broken.append("path_inside_folder")
    elif problem:
        broken.append("image_readable")
    if not problem and min(width, height) < 24:
        broken.append("image_large_enough")
    x, y, across, down = row.face_x, row.face_y, row.face_width, row.face_height
    is_box = all(map(math.isfinite, (x, y, across, down))) and across > 0 and down > 0
    if is_box and not problem:
        shared = max(0.0, min(x + across, width) - max(x, 0.0)) / across
        is_box = shared * max(0.0, min(y + down, height) - max(y, 0.0)) / down >= 0.5
    if row.box_given and not is_box:
        broken.append("box_on_image")
    return broken


def find_label_errors(row: Any) -> list[str]:
    """A plain second reading of the rules for numbers."""
    broken = ["landmarks_complete"] if row.landmark_count not in (0, 136) else []
    if row.expression not in range(11):
        broken.append("expression_known")
    if (row.valence, row.arousal) != (-2, -2):
        broken += [f"{name}_in_range" for name in ("valence", "arousal") if not -1 <= getattr(row, name) <= 1]
    return broken


def find_errors(annotations: Annotations, probes: Probes) -> dict[tuple[str, int], list[str]]:
    """For each row that breaks any of these rules, which, by list and line."""
    images = zip(probes.problem, probes.width.tolist(), probes.height.tolist(), strict=True)
    rows = zip(annotations.rows.itertuples(), images, strict=True)
    found = {(row.list, row.line): find_image_errors(row, *image) + find_label_errors(row) for row, image in rows}
    return {place: broken for place, broken in found.items() if broken}


def assert_sound(result: ContractResult) -> None:
    """Nothing that the contract forbids is in the kept rows."""
    kept = result.kept
    assert kept["expression"].between(-1, 7).all()
    assert (kept["valence"].isna() == kept["arousal"].isna()).all()
    assert kept[["valence", "arousal"]].fillna(0).abs().le(1).all(axis=None)
    labelled = (kept["expression"] >= 0) | kept["valence"].notna() | kept["soft_neutral"].notna()
    assert labelled.all()
    assert kept["path"].is_unique
    assert (kept[["image_width", "image_height"]].min(axis=1) >= 24).all() or not len(kept)
    known = kept[kept["identity"] != ""]
    people = known.groupby("split", observed=False)["identity"].agg(set)
    assert not people.get("train", set()) & people.get("validation", set())
    across = kept.groupby("duplicate_group")["split"].nunique().drop(-1, errors="ignore")
    assert (across == 1).all()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_of_two_thousand_spoilt_rows_each_is_judged_as_a_plain_reading_judges_it(seed):
    annotations, probes = spoil(seed, 2000)
    result = check(annotations, probes)
    assert_sound(result)
    expected = find_errors(annotations, probes)
    assert len(expected) > 500
    later = {"path_unique", "path_in_one_split", "columns_complete"}
    found = {
        (row.list, row.line): [row.rule, *row.also_broken.split(", ")] if row.also_broken else [row.rule]
        for row in result.quarantine.itertuples()
        if row.rule not in later
    }
    assert found == expected
    broken = {count.name: count.broken for count in result.counts}
    assert all(count > 0 for count in broken.values()), broken


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([-1, 0, 4, 32]))
@pytest.mark.slow
def test_whatever_is_wrong_the_counts_balance(seed, rows, distance):
    annotations, probes = spoil(seed, rows)
    assert_sound(check(annotations, probes, near_duplicate_distance=distance))


BASE = csv_lines(
    *(csv_row(f"1/{n}.png", expression=str(n), landmarks="") for n in range(8)), csv_row("1/v.jpg", landmarks="")
)
TOKENS = (
    b"\n",
    b",",
    b"../",
    b"/",
    b"-2",
    b"nan",
    b"inf",
    b"1e9",
    b"-",
    b"\xff",
    b"\0",
    b"1/a.jpg",
    b"1/v.jpg",
    b'"',
    b";",
)


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=spoilt(BASE, TOKENS))
def test_of_a_spoilt_list_nothing_is_lost_and_nothing_broken_is_kept(tmp_path, content):
    for number in range(8):
        if not (tmp_path / f"Manually_Annotated_Images/1/{number}.png").exists():
            save_picture(tmp_path, f"1/{number}.png", number)
    save_picture(tmp_path, "1/v.jpg", 99)
    try:
        annotations = read_annotations(DataFolder.open(write_copy(tmp_path, content)))
    except PocketAffectError:
        return
    probes = probe_images(tmp_path, annotations.rows, workers=1)
    result = check_contract(annotations, probes, LIMITS, None)
    assert_balanced(result, annotations)
    assert_sound(result)
    assert all((tmp_path / path).resolve().is_relative_to(tmp_path) for path in result.kept["path"])
