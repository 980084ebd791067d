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


def test_a_class_with_too_few_validation_images_is_named():
    result = check(make_annotations(*sound(4), *[{"expression": 10.0}] * 9, *sound(7, **VALIDATION)))
    with pytest.raises(PocketAffectError, match=r"too few images of contempt \(0\)\n") as caught:
        limits(result)
    assert "happiness 1" in str(caught.value)
    assert "at least 1 each (params.yaml: validate.min_validation_per_class)" in str(caught.value)
    limits(result, fraction=0, support=0)  # dropped rows are not in quarantine


def test_a_training_split_without_a_usable_row_stops():
    result = check(make_annotations({"expression": 99.0}, *sound(8, **VALIDATION)))
    with pytest.raises(PocketAffectError, match="training split: no usable row"):
        limits(result, fraction=1, support=0)
