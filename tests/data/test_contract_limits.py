from __future__ import annotations

import pytest
from contract_rows import (
    LIMITS,
    VALIDATION,
    check,
    make_annotations,
    make_probes,
    sound,
)

from pocketaffect.data.contract.check import ContractResult, enforce_limits
from pocketaffect.errors import PocketAffectError


def limits(result: ContractResult, fraction: float = 0.1, support: int = 1) -> None:
    settings = {"max_quarantine_fraction": fraction, "min_validation_per_class": support}
    enforce_limits(result, LIMITS.model_copy(update=settings))


def test_too_many_broken_rows_stop_with_rule_count_and_examples():
    faults = [{"expression": 42.0}] * 4 + [{"listed_path": "1/0.jpg"}]
    annotations = make_annotations(*sound(12), *faults, *sound(8, **VALIDATION))
    result = check(annotations, make_probes(25, problem=dict.fromkeys(range(12, 16), "no such file")))
    limits(result, fraction=0.2)  # 5 of 25
    with pytest.raises(PocketAffectError) as caught:
        limits(result, fraction=0.19)
    text = str(caught.value)
    assert "5 of 25 rows (20.0%) break it, most of them image_readable (4 rows: the file exists and decodes)" in text
    assert "training.csv line 14: no such file; training.csv line 15" in text
    assert text.count("no such file") == 3
    assert "19.0% (params.yaml: validate.max_quarantine_fraction)" in text
    assert ".work/validate/quarantine.csv" in text


def test_the_named_rule_has_examples_even_when_another_is_broken_more_often_in_second_place():
    one, two = {"face_width": 0.0, "valence": 7.0}, {"expression": 77.0, "valence": 7.0}
    result = check(make_annotations(one, one, one, two, two))
    with pytest.raises(
        PocketAffectError, match=r"most of them box_on_image \(3 rows.*\n  found:   training.csv line 2"
    ):
        limits(result)


def labelled(*training: float, validation: tuple[float, ...] = (), va: tuple[bool, bool] = (True, True)):
    """Rows of these expressions, with valence and arousal or without, for each split."""
    rows = [{"expression": code} | (NO_VA if not va[0] else {}) for code in training]
    rows += [{"expression": code} | VALIDATION | (NO_VA if not va[1] else {}) for code in validation]
    return check(make_annotations(*rows))


NO_VA = {"valence": -2.0, "arousal": -2.0}


def test_a_class_with_too_few_validation_images_is_named():
    result = labelled(0, 1, 1, validation=(0, 0, 1))
    with pytest.raises(PocketAffectError, match=r"too few images of happiness \(1\)\n") as caught:
        limits(result, support=2)
    assert "at least 2 each (params.yaml: validate.min_validation_per_class)" in str(caught.value)
    limits(result, fraction=0, support=0)  # dropped rows are not in quarantine


@pytest.mark.parametrize(
    ("training", "validation", "va", "problem"),
    [
        ((0, 1, 7), (0, 1), (True, True), "validation split: no image of contempt"),
        ((0, 1), (0, 1, 7), (True, True), "training split: no image of contempt"),
        ((0, 1), (0, 1), (True, False), "validation split: no image of valence and arousal"),
        ((0, 1), (0, 1), (False, True), "training split: no image of valence and arousal"),
        ((1, 1), (1, 1), (False, False), "nothing to learn: fewer than two expressions"),
    ],
)
def test_labels_that_can_only_be_learnt_or_only_be_judged_are_refused(training, validation, va, problem):
    with pytest.raises(PocketAffectError, match=problem):
        limits(labelled(*training, validation=validation, va=va))


@pytest.mark.parametrize(
    ("codes", "va", "absent"),
    [
        (range(8), (False, False), "no image of valence and arousal:"),
        ((8, 8), (True, True), "no image of neutral, happiness, sadness"),
        (range(7), (True, True), "no image of contempt:"),
    ],
)
def test_data_with_one_task_or_fewer_classes_passes_and_what_is_absent_is_named(caplog, codes, va, absent):
    limits(labelled(*codes, validation=tuple(codes), va=va))
    assert absent in caplog.text


def test_a_training_split_without_a_usable_row_stops():
    result = check(make_annotations({"expression": 99.0}, *sound(8, **VALIDATION)))
    with pytest.raises(PocketAffectError, match="training split: no usable row"):
        limits(result, fraction=1, support=0)
