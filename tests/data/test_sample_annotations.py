from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.data.sample.annotations import (
    CONFUSIONS,
    MISREAD_RATE,
    PROTOTYPES,
    plan_labels,
    sample_annotation,
    sample_pose,
)
from pocketaffect.data.sample.draws import Draws
from pocketaffect.data.sample.geometry import shape_face
from pocketaffect.data.sample.identity import Identity
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, MAX_EXPRESSION_CODE, NO_VA_CODE

KNOWN_UNITS = {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 43}
"""Units that the drawing moves."""


def test_every_expression_has_patterns_of_known_units():
    assert set(PROTOTYPES) == set(EXPRESSIONS)
    for variants in PROTOTYPES.values():
        for variant in variants:
            assert set(variant) <= KNOWN_UNITS
            assert all(0 < peak <= 1 for peak in variant.values())


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_valence_and_arousal_move_away_from_neutral_as_intensity_grows(seed, expression):
    shown = [sample_pose(Draws(seed), expression, strength).valence_arousal for strength in (0.2, 0.6, 1.0)]
    towards = np.array(CLASS_MEAN_VA[expression])
    along = [float(np.dot(va, towards)) for va in shown]
    assert along == sorted(along)
    assert along[2] > along[0]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_units_and_affect_stay_in_range(seed, expression):
    pose = sample_pose(Draws(seed), expression)
    assert all(0 <= side <= 1 for sides in pose.units.values() for side in sides)
    assert all(-1 <= value <= 1 for value in pose.valence_arousal)


def test_poses_of_a_class_average_near_affectnets_mean():
    for expression, mean in enumerate(CLASS_MEAN_VA):
        shown = np.array([sample_pose(Draws(4, index), expression).valence_arousal for index in range(300)])
        np.testing.assert_allclose(shown.mean(axis=0), mean, atol=0.08)
        assert (shown.std(axis=0) > 0.03).any()


def test_contempt_raises_one_mouth_corner_and_happiness_both():
    differences = {}
    for name in ("contempt", "happiness"):
        rises = []
        for seed in range(30):
            draws = Draws(seed)
            pose = sample_pose(draws, EXPRESSIONS.index(name), 1.0)
            mouth = shape_face(Identity(draws), pose.units).mouth
            rises.append(float(mouth.inner_upper[0, 1] - mouth.inner_upper[12, 1]))
        differences[name] = np.array(rises)
    assert (np.abs(differences["contempt"]) > 0.08).all()
    assert (np.abs(differences["happiness"]) < 0.08).all()
    assert (differences["contempt"] > 0).any()
    assert (differences["contempt"] < 0).any()


@settings(max_examples=40)
@given(st.sampled_from(["training", "validation"]), st.integers(64, 3000), st.integers(0, 2**32 - 1))
def test_a_plan_has_the_asked_length_and_every_code(split, count, seed):
    labels = plan_labels(split, count, seed)
    assert len(labels) == count
    assert set(labels) == set(range(MAX_EXPRESSION_CODE + 1))


def test_training_is_imbalanced_like_affectnet_and_validation_balanced():
    training = Counter(plan_labels("training", 2600, 2018))
    by_size = sorted(range(8), key=lambda code: -training[code])
    affectnet = np.array([74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750])
    assert by_size == np.argsort(-affectnet).tolist()
    assert training[1] > 10 * training[7]
    assert min(training[code] for code in range(8)) >= 0.025 * 2600
    validation = Counter(plan_labels("validation", 520, 2018))
    sizes = [validation[code] for code in range(8)]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 40


def test_a_plan_depends_on_the_seed_only_in_its_order():
    first, second = (plan_labels("training", 500, seed) for seed in (1, 2))
    assert first != second
    assert Counter(first) == Counter(second)


def test_a_tenth_of_the_labels_is_misread_and_plausibly_so():
    misread = Counter()
    total = 0
    for label in range(8):
        for index in range(400):
            shown = sample_annotation(Draws(11, label, index), label).shown
            total += 1
            if shown != label:
                misread[shown, label] += 1
    assert sum(misread.values()) / total == pytest.approx(MISREAD_RATE, abs=0.02)
    pairs = [(shown, label) for shown in range(8) for label in range(8) if shown != label]
    drawn = [misread[pair] for pair in pairs]
    paper = [
        CONFUSIONS[shown][label] / sum(row[label] for code, row in enumerate(CONFUSIONS) if code != label)
        for shown, label in pairs
    ]
    assert np.corrcoef(drawn, paper)[0, 1] > 0.7


def test_annotators_add_noise_of_a_tenth_and_sometimes_leave_affect_out():
    errors, missing, total = [], 0, 0
    for index in range(800):
        label = index % 8
        annotation = sample_annotation(Draws(12, index), label)
        total += 1
        if annotation.valence_arousal[0] == NO_VA_CODE:
            assert annotation.valence_arousal[1] == NO_VA_CODE
            missing += 1
        elif annotation.shown == label:
            draws = Draws(12, index)
            draws.uniform(0, 1)  # the misreading's draw
            errors.append(np.subtract(annotation.valence_arousal, sample_pose(draws, label).valence_arousal))
    assert 0.005 < missing / total < 0.05
    assert np.std(errors) == pytest.approx(0.10, abs=0.015)
    assert abs(np.mean(errors)) < 0.02


@pytest.mark.parametrize("label", [9, 10])
def test_uncertain_rows_and_non_faces_have_no_affect(label):
    for index in range(20):
        assert sample_annotation(Draws(13, index), label).valence_arousal == (NO_VA_CODE, NO_VA_CODE)


def test_affect_tells_more_than_the_class():
    weak, strong = (
        np.mean([sample_pose(Draws(14, index), 1, strength).valence_arousal[0] for index in range(50)])
        for strength in (0.4, 1.0)
    )
    assert strong - weak > 0.25
