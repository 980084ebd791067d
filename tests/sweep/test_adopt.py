from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.config import load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import apply_settings, write_settings
from pocketaffect.sweep.adopt import choose_trial, list_changes
from pocketaffect.sweep.results import TrialRow

SHIPPED = Path(__file__).parents[2] / "params.yaml"


def make_row(
    number: int, outcome: str = "done", score: float | None = 0.5, size: int = 1000, remark: str = "", macs: int = 50
):
    return TrialRow(number, number, outcome, score, size, macs, {"model.width": 0.5}, 3, 1.0, remark, {})


@pytest.fixture
def file(tmp_path) -> Path:
    copy = tmp_path / "params.yaml"
    copy.write_bytes(SHIPPED.read_bytes())
    return copy


def test_only_the_adopted_values_change_and_comments_stay_where_they_are(file):
    before = file.read_text().splitlines()
    difference = write_settings(
        {"model.width": 0.2345, "model.architecture": "mobilenetv3_small", "train.augment.flip": 0.25}, file
    )
    changed = [(old, new) for old, new in zip(before, file.read_text().splitlines(), strict=True) if old != new]
    assert [new.split("#")[0].strip() for _, new in changed] == [
        "architecture: mobilenetv3_small",
        "width: 0.2345",
        "flip: 0.25",
    ]
    assert changed[1][0].index("#") == changed[1][1].index("#")  # there was room
    assert changed[0][1].endswith("`pocketaffect models`")
    assert "-  width: 0.35" in difference
    assert "+  width: 0.2345" in difference


def test_what_the_file_says_already_is_left_as_it_is_written(file):
    text = file.read_text().replace("learning_rate: 0.001\n", "learning_rate: 1e-3\n").encode()
    file.write_bytes(text)
    assert write_settings({"train.learning_rate": 0.001, "train.optimizer": "adamw"}, file) == ""
    assert file.read_bytes() == text


@settings(max_examples=5)
@given(
    width=st.floats(0.05, 4).map(lambda value: float(f"{value:.4g}")),
    rate=st.floats(1e-7, 1).map(lambda value: float(f"{value:.4g}")),
    batch=st.integers(2, 10_000),
    soft=st.booleans(),
)
def test_whatever_is_adopted_is_what_the_settings_are_afterwards(tmp_path_factory, width, rate, batch, soft):
    file = tmp_path_factory.mktemp("adopt") / "params.yaml"
    file.write_bytes(SHIPPED.read_bytes())
    wanted = {
        "model.width": width,
        "train.learning_rate": rate,
        "train.batch_size": batch,
        "train.soft_labels": soft,
        "model.full_resolution_stem": soft,
    }
    write_settings(wanted, file)
    assert load_params(file) == apply_settings(load_params(SHIPPED), wanted)
    blocks = difflib.SequenceMatcher(None, SHIPPED.read_text().splitlines(), file.read_text().splitlines())
    assert sum(b2 - b1 for tag, _, _, b1, b2 in blocks.get_opcodes() if tag != "equal") <= len(wanted)


def test_a_file_whose_values_hang_together_is_left_alone(file):
    text = file.read_text().replace("  seed: 2018\n  train_images", "  seed: &seed 2018\n  train_images")
    text = text.replace("  epochs: 16\n", "  epochs: *seed\n")
    assert text.count("seed") > 2
    file.write_text(text)
    with pytest.raises(PocketAffectError, match="cannot be edited value by value"):
        write_settings({"train.epochs": 3}, file)
    assert file.read_text() == text
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_best_trial_is_adopted_and_among_equals_the_smallest():
    rows = [make_row(0, score=0.5), make_row(1, score=0.7, size=900), make_row(2, score=0.7, size=800)]
    assert choose_trial(rows, None).number == 2
    assert choose_trial(rows, 0).number == 0
    asked = {"sweep.epochs": 7, "sweep.budget_bytes": 1234}
    assert list_changes(rows[0], asked) == {"model.width": 0.5, "train.epochs": 7, "export.budget_bytes": 1234}
    assert list_changes(rows[0], asked, under=999)["export.budget_bytes"] == 999


@pytest.mark.parametrize(
    ("limits", "chosen"), [({}, 0), ({"under": 900}, 1), ({"macs": 60}, 2), ({"under": 900, "macs": 60}, 3)]
)
def test_under_another_budget_the_best_trial_within_it_is_adopted(limits, chosen):
    rows = [
        make_row(0, score=0.9, size=1000, macs=100),
        make_row(1, score=0.8, size=900, macs=90),
        make_row(2, score=0.7, size=950, macs=50),
        make_row(3, score=0.6, size=600, macs=60),
    ]
    assert choose_trial(rows, None, **limits).number == chosen


def test_a_budget_that_no_finished_trial_is_within_is_refused_with_the_cheapest_ones():
    rows = [make_row(0, size=1000, macs=40), make_row(1, size=900, macs=90), make_row(2, "failed", size=5, macs=5)]
    with pytest.raises(PocketAffectError, match="takes at most 950 bytes and 50 multiply-accumulates") as caught:
        choose_trial(rows, None, under=950, macs=50)
    assert "trial 1 with 900 bytes" in str(caught.value)
    assert "trial 0 with 40" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "found"),
    [(1, "stopped early"), (2, "over budget"), (3, "failed: no memory"), (4, "no such trial")],
)
def test_a_trial_without_a_whole_training_cannot_be_adopted(number, found):
    rows = [
        make_row(0),
        make_row(1, "stopped early"),
        make_row(2, "over budget", None),
        make_row(3, "failed", None, remark="no memory"),
    ]
    with pytest.raises(PocketAffectError, match=found) as caught:
        choose_trial(rows, number)
    assert "best first: 0" in str(caught.value)


def test_before_any_trial_there_is_nothing_to_adopt():
    with pytest.raises(PocketAffectError, match="no trial was trained to its end yet"):
        choose_trial([], None)
