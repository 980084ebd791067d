from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from registry_parts import make_answers
from scipy.stats import binomtest
from sklearn.metrics import precision_score, recall_score

from pocketaffect.config import PromotionChecks, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.intervals import Comparison, Interval
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.registry.promotion.log import Log, LogEntry
from pocketaffect.registry.promotion.policy import Evidence, apply_policy, failed_checks, render_checks
from pocketaffect.registry.store.measured import measure_classes

SHIPPED = Path(__file__).parents[2] / "params.yaml"


def evidence(**changes) -> Evidence:
    known = {
        "package_bytes": 400_000,
        "metrics": {"balanced_accuracy": Interval(0.7, 0.66, 0.74), "ece": Interval(0.05, math.nan, math.nan)},
        "comparisons": {"ccc_valence": Comparison("ccc_valence", 0.70, 0.71, -0.01, -0.03, 0.01)},
        "remark": "",
        "verification": "",
        "contract": "",
        "lineage": (),
        "audit": None,
    }
    return Evidence(**(known | changes))


@pytest.mark.parametrize(
    ("check", "limit", "holds"),
    [
        ("max_bytes", 400_000, True),
        ("max_bytes", 399_999, False),
        ("min_balanced_accuracy", 0.7, True),
        ("min_balanced_accuracy", 0.71, False),
        ("max_ece", 0.05, True),
        ("max_ece", 0.04, False),
        ("max_drop_ccc_valence", 0.03, True),
        ("max_drop_ccc_valence", 0.02, False),  # the difference is -.01, but the interval reaches to -.03
        ("verification_passed", True, True),
        ("audit_passed", True, False),
    ],
)
def test_a_check_holds_up_to_its_limit(check, limit, holds):
    (result,) = apply_policy(PromotionChecks(**{check: limit}), evidence())
    assert (result.name, result.passed) == (check, holds)


@pytest.mark.parametrize("check", ["min_ccc_valence", "max_drop_ccc_arousal"])
def test_a_limit_on_what_the_labels_cannot_tell_fails_and_says_what_to_do(check):
    (result,) = apply_policy(PromotionChecks(**{check: 0.1}), evidence())
    assert (result.passed, result.value) == (False, "not measured")
    assert f"promotion.checks.{check}: null" in result.remark


def test_a_check_that_is_left_out_null_or_false_is_not_made():
    assert apply_policy(PromotionChecks(max_bytes=None, audit_passed=False), evidence()) == ()


def test_what_is_not_known_does_not_pass():
    unknown = evidence(metrics="no answers", comparisons="no answers", verification="x", contract="x", lineage=("x",))
    checks = load_params(SHIPPED).promotion.checks
    results = apply_policy(checks, unknown)
    assert {result.name for result in results} - {result.name for result in failed_checks(results)} == {"max_bytes"}


def test_a_metric_that_is_no_number_does_not_pass():
    (result,) = apply_policy(PromotionChecks(max_ece=0.5), evidence(metrics={"ece": Interval(math.nan, 0, 0)}))
    assert result.passed is False


def test_the_table_names_each_failed_check_with_value_and_limit():
    text = render_checks(apply_policy(PromotionChecks(max_bytes=300_000, min_balanced_accuracy=0.6), evidence()))
    assert "FAILED  max_bytes              400,000  <= 300,000" in text
    assert "95 % interval 0.660 to 0.740" in text


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("max_bites", "did you mean 'max_bytes'?"), ("min_ccc_valance", "did you mean 'min_ccc_valence'?")],
)
def test_an_unknown_check_is_refused_with_the_nearest_known_one(tmp_path, wrong, hint):
    known = hint.split("'")[1]
    file = tmp_path / "params.yaml"
    file.write_text(SHIPPED.read_text().replace(f"{known}:", f"{wrong}:"))
    with pytest.raises(PocketAffectError, match=rf"promotion\.checks\.{wrong}: unknown key; ") as refused:
        load_params(file)
    assert hint in str(refused.value)


def entry(kind: str, after: int, previous: str = "") -> LogEntry:
    return LogEntry(kind, "a@b", "2026", "why", None, after, "d", (), "", "", previous)


@pytest.mark.parametrize(
    ("moves", "earlier"),
    [
        ([], None),
        ([("promotion", 1)], None),
        ([("promotion", 1), ("promotion", 2), ("promotion", 3)], 2),
        ([("promotion", 1), ("promotion", 2), ("promotion", 3), ("rollback", 2)], 1),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1), ("promotion", 3)], 1),
        ([("promotion", 1), ("promotion", 2), ("rollback", 1), ("promotion", 2)], 1),
    ],
)
def test_the_earlier_champion_is_not_one_that_was_rolled_back_from(moves, earlier):
    assert Log(tuple(entry(kind, after) for kind, after in moves)).earlier_champion() == earlier


def test_an_entrys_hash_covers_everything_but_its_place_and_state():
    first = entry("promotion", 1)
    changed = [entry("override", 1), entry("promotion", 2), entry("promotion", 1, "previous")]
    assert len({first.sha256, *(one.sha256 for one in changed)}) == 4
    placed = LogEntry(**{**vars(first), "number": 7, "applied": True})
    assert placed.sha256 == first.sha256


def test_class_scores_are_scikit_learns_and_their_intervals_scipys():
    table = make_answers(right=0.6)
    true, named = table.labels.expression, table.predictions.expression
    rows = measure_classes(table)
    assert [row.name for row in rows] == list(EXPRESSIONS)
    np.testing.assert_allclose([row.recall for row in rows], recall_score(true, named, average=None))
    np.testing.assert_allclose([row.precision for row in rows], precision_score(true, named, average=None))
    for row in rows:
        expected = binomtest(round(row.recall * row.faces), row.faces).proportion_ci(method="wilson")
        assert (row.recall_low, row.recall_high) == pytest.approx((expected.low, expected.high))
