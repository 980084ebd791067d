"""The choice of a precision: the best measured one that fits, and a reason for each of the others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.export.choose import (
    APART,
    CHOSEN,
    CLOSE,
    RULE,
    _explain,
    _Measured,
    _pick,
    choose_package,
    choose_precision,
    propose_precisions,
    score_package,
    tabulate,
)
from pocketaffect.export.convert import Package
from pocketaffect.export.verdict import Candidate, Quality
from pocketaffect.precisions import PRECISIONS, readable_precisions


@pytest.fixture
def choose(making, held_to):
    def run(budget, target="iOS16", **changes):
        return choose_precision(making, held_to(budget_bytes=budget, deployment_target=target, **changes))

    return run


def verdicts(verification):
    return {candidate.precision: candidate.verdict for candidate in verification.candidates}


def test_the_best_that_fits_is_chosen_and_each_other_has_its_reason(choose, making, verifier, caplog):
    budget = making.make(PRECISIONS["palette4"]).bytes
    with caplog.at_level("INFO", logger="pocketaffect"):
        package, verification = choose(budget, min_agreement=0.5, max_accuracy_drop=0.3, max_rmse_rise=0.3)
    assert package.precision.name == verification.precision == "palette4"
    assert verification.package_bytes == package.bytes == budget
    assert f"by the answers to {len(verifier.faces.images)} validation faces; {RULE}" in caplog.text
    assert verification.to_dict()["rule"] in caplog.text
    reasons = verdicts(verification)
    assert reasons["palette4"] == CHOSEN
    assert reasons["palette2"] == "not tried: palette4 fits and holds more"
    assert reasons["fp16"].startswith("over the budget by at least")
    assert set(reasons) == {one.name for one in readable_precisions("iOS16")}
    assert tabulate(verification.candidates) in caplog.text
    assert json.loads(json.dumps(verification.to_dict(), allow_nan=False))["candidates"][0]["precision"] == "fp32"


def test_faces_that_were_set_apart_choose_and_the_whole_validation_split_verifies(making, held_to, verifier):
    """With other labels than the validation faces', so that a score of the wrong faces shows."""
    faces = verifier.faces.thin_out(20)
    apart = dataclasses.replace(faces, expression=(faces.expression + 1) % 8)
    budget = making.make(PRECISIONS["palette4"]).bytes
    loose = {"min_agreement": 0.5, "max_accuracy_drop": 0.5, "max_rmse_rise": 0.5}
    judge = held_to(budget_bytes=budget, precision="auto", **loose)
    package, verification = choose_package(making, judge, apart)
    (chosen,) = (one for one in verification.candidates if one.verdict == CHOSEN)
    expected = judge.on(apart).verify(package)
    assert verification.rule == f"20 {APART}; {RULE}"
    assert chosen.quality == expected.shipped_quality != verification.shipped_quality
    assert verification.images == len(verifier.faces.images)
    assert verification.shipped_quality == judge.verify(package).shipped_quality


def test_a_budget_one_byte_short_rejects_by_that_byte(choose, making):
    package = making.make(PRECISIONS["palette4"])
    with pytest.raises(PocketAffectError) as raised:
        choose(package.bytes - 1, min_agreement=1.0, max_rmse_rise=0.0)
    lines = {line.split()[0]: line for line in str(raised.value).splitlines() if line.split()}
    assert "over the budget by 1 bytes" in lines["palette4"]
    assert f"{package.bytes:,}" in lines["palette4"]
    assert "must be >= 1" in lines["palette2"]  # it fits, and fails
    assert "agreement" in lines["palette2"]
    assert "iOS18" in str(raised.value)


def test_where_nothing_fits_nothing_is_converted_for_it(choose, making):
    made = set(making._made)
    with pytest.raises(PocketAffectError, match="no precision fits"):
        choose(1000, "iOS18")
    assert set(making._made) <= made | {"fp16"}


@pytest.mark.parametrize(
    ("scores", "chosen", "reasons"),
    [
        # The same to a thousandth: the fewest bytes, and the larger one says why it was left.
        ({"fp16": 0.9904, "int8": 0.9896}, "int8", {"fp16": "scores as int8 to a thousandth, in more bytes"}),
        ({"fp16": 0.992, "int8": 0.990}, "fp16", {"int8": "scores less than fp16"}),
        # A form for new systems alone must be worth it.
        (
            {"palette6-grouped": 0.992, "palette6": 0.990},
            "palette6",
            {"palette6-grouped": "needs iOS18 and scores no more than 0.002 above palette6"},
        ),
        ({"palette6-grouped": 0.993, "palette6": 0.990}, "palette6-grouped", {"palette6": "scores less than"}),
        (
            {"palette6-grouped": 0.992, "palette6": 0.991, "int8": 0.990},
            "palette6",
            {"int8": "scores less than palette6", "palette6-grouped": "needs iOS18"},
        ),
    ],
)
def test_the_rule_decides_and_each_other_form_says_by_what(scores, chosen, reasons):
    sizes = {"fp16": 800, "int8": 400, "palette6-grouped": 320, "palette6": 300}
    passed = [
        _Measured(Package(PRECISIONS[name], None, Path(name), sizes[name], Path()), None, score)
        for name, score in scores.items()
    ]
    found = _pick(passed)
    assert found.package.precision.name == chosen
    assert _explain(found, found) == CHOSEN
    for one in passed:
        if one is not found:
            assert _explain(one, found).startswith(reasons[one.package.precision.name])


@pytest.mark.slow
def test_with_room_the_choice_is_of_the_highest_score_and_then_of_the_fewest_bytes(choose, making):
    package, verification = choose(1_000_000, "iOS18")
    scores = {one.precision: one.score for one in verification.candidates if one.score is not None}
    near = {name: score for name, score in scores.items() if max(scores.values()) - score <= CLOSE}
    near = {name: score for name, score in near.items() if PRECISIONS[name].target == "iOS16"} or near
    best = max(round(score, 3) for score in near.values())
    tied = [name for name, score in near.items() if round(score, 3) == best]
    assert package.bytes == min(making.make(PRECISIONS[name]).bytes for name in tied)
    assert verdicts(verification)["palette4"].startswith("not tried")
    assert {"fp32", "fp16", "int8", "palette8"} <= set(scores)


@pytest.mark.slow
def test_newer_systems_give_the_choice_more_forms(choose, making):
    budget = making.make(PRECISIONS["palette4-grouped"]).bytes
    package, verification = choose(budget, "iOS18", min_agreement=0.5, max_accuracy_drop=0.5, max_rmse_rise=0.5)
    scores = {one.precision: one.score for one in verification.candidates if one.score is not None}
    assert {"palette4-grouped", "palette4"} <= set(scores)
    is_worth_it = scores["palette4-grouped"] - scores["palette4"] > CLOSE
    assert package.precision.name == ("palette4-grouped" if is_worth_it else "palette4")


def test_luck_counts_as_no_loss(verifier, making):
    verification = verifier.verify(making.make(PRECISIONS["fp16"]))
    before = verification.pytorch_quality
    lucky = dataclasses.replace(before, balanced_accuracy=1.0, valence_rmse=0.0)
    worse = Quality(before.accuracy, before.balanced_accuracy - 0.1, before.valence_rmse + 0.2, before.arousal_rmse)
    agreement = verification.shipped.agreement
    assert score_package(dataclasses.replace(verification, shipped_quality=lucky)) == agreement
    assert score_package(dataclasses.replace(verification, shipped_quality=worse)) == pytest.approx(agreement - 0.2)


def test_the_proposal_names_what_would_fit_with_its_bytes(making, held_to):
    size = making.make(PRECISIONS["palette4"]).bytes
    text = propose_precisions(making, held_to(budget_bytes=size))
    assert f"palette4 ({size:,}), palette2" in text
    assert "int8" not in text
    assert "auto" in text
    text = propose_precisions(making, held_to(budget_bytes=2000))
    assert f"the smallest is palette2 ({making.make(PRECISIONS['palette2']).bytes:,})" in text
    assert "model.width" in text


def test_the_table_has_a_line_for_each_candidate():
    quality = Quality(0.5, 0.25, 0.125, 0.375)
    lines = tabulate(
        [Candidate("int8", CHOSEN, 1234567, 0.9, quality, 0.95), Candidate("fp32", "over the budget by 9 bytes")]
    ).splitlines()
    assert lines[1].split() == ["int8", "1,234,567", "0.9000", "0.9500", "0.2500", "0.1250", "0.3750", "chosen"]
    assert lines[2].startswith("fp32")
    assert lines[2].endswith("over the budget by 9 bytes")
    assert lines[1].index("chosen") == lines[2].index("over")
