import numpy as np
import pytest
import torch
from evaluation_examples import certain, draw_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from pocketaffect.evaluation.calibration import (
    KEPT_RIGHT,
    fit_confidence,
    fit_temperature,
    reliability,
    scale,
    trace_coverage,
)
from pocketaffect.evaluation.calibration import measure_calibration as measure_calibration_of
from pocketaffect.evaluation.metrics import BINS, expression_metrics
from pocketaffect.evaluation.tables import Labels, Predictions


def draw_calibrated(rows=4000, seed=0):
    """Logits, and labels drawn from exactly their probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 8))
    return logits, (softmax(logits, axis=1).cumsum(1) > rng.random((rows, 1))).argmax(1)


def measure_calibration(scores, true):
    rows = len(true)
    return measure_calibration_of(
        Predictions(scores.astype(np.float32), np.zeros((rows, 2))), Labels(true, np.zeros((rows, 2)))
    )


def expected_calibration_error(scores, true):
    return expression_metrics(scores, true)["expected_calibration_error"]


def test_the_error_equals_torchmetrics_over_the_labelled_rows():
    predictions, labels = draw_rows(500)
    found = expected_calibration_error(predictions.probabilities, labels.expression)
    rows = labels.has_expression
    scores, true = torch.from_numpy(predictions.probabilities[rows]), torch.from_numpy(labels.expression[rows])
    expected = multiclass_calibration_error(scores, true, num_classes=8, n_bins=BINS)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_the_reliability_table_equals_scikit_learns_curve():
    predictions, labels = draw_rows(500)
    rows = labels.has_expression
    top, right = predictions.probabilities[rows].max(1), (predictions.expression == labels.expression)[rows]
    accuracy, confidence = calibration_curve(right, top, n_bins=15, strategy="uniform")
    table = [row for row in reliability(predictions.probabilities[rows], labels.expression[rows]) if row.faces]
    np.testing.assert_allclose([row.accuracy for row in table], accuracy, atol=1e-6)
    np.testing.assert_allclose([row.confidence for row in table], confidence, atol=1e-6)
    assert sum(row.faces for row in table) == rows.sum()


def test_a_probability_on_an_edge_belongs_to_the_bin_below():
    scores = np.full((2, 8), 0.6 / 7)
    scores[:, 0] = 0.4
    below, above = reliability(scores, np.array([0, 1]))[5:7]
    assert (below.low, below.high, above.low) == pytest.approx((5 / 15, 0.4, 0.4))
    assert (below.faces, above.faces) == (2, 0)
    assert (below.confidence, below.accuracy) == (0.4, 0.5)
    assert (above.confidence, above.accuracy) == (None, None)


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_what_sharpened_the_probabilities(sharpened):
    logits, true = draw_calibrated()
    assert fit_temperature(softmax(logits * sharpened, axis=1), true) == pytest.approx(sharpened, rel=0.05)


def test_the_temperature_has_the_least_log_loss_that_another_optimiser_finds():
    predictions, labels = draw_rows(800, unlabelled=0)
    scores, true = predictions.probabilities.astype(np.float64), labels.expression
    found = fit_temperature(scores, true)

    def loss(temperature):
        return -log_softmax(np.log(scores) / temperature, axis=1)[np.arange(800), true].mean()

    expected = minimize(loss, 1.0, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x[0]
    assert found == pytest.approx(expected, rel=1e-4)
    assert log_loss(true, scale(scores, found), labels=range(8)) == pytest.approx(loss(expected), abs=1e-9)


def test_a_temperature_mends_an_overconfident_model_on_faces_it_was_not_fitted_on():
    logits, true = draw_calibrated()
    found = measure_calibration(softmax(2.5 * logits, axis=1), true)
    assert found.error > 0.15
    assert found.scaled_error < 0.03
    assert found.scaled_log_loss < found.log_loss
    assert found.log_loss == pytest.approx(log_loss(true, softmax(2.5 * logits, axis=1), labels=range(8)), abs=1e-6)


def test_a_temperature_that_has_nothing_to_mend_is_not_shown_to_help():
    # Fitted and judged on the same faces, it would always lower the log loss.
    worse = 0
    for seed in range(10):
        logits, true = draw_calibrated(40, seed)
        found = measure_calibration(softmax(logits, axis=1), true)
        worse += found.scaled_log_loss > found.log_loss
    assert worse >= 5


def test_certain_answers_have_a_defined_error_loss_and_temperature():
    true = np.arange(8).repeat(3)
    right, wrong = (measure_calibration(certain(guess), true) for guess in (true, (true + 1) % 8))
    assert (right.error, right.log_loss, right.scaled_error) == pytest.approx((0, 0, 0), abs=1e-6)
    assert (wrong.error, wrong.temperature) == pytest.approx((1, 4), rel=1e-3)
    assert np.isfinite([wrong.log_loss, wrong.scaled_log_loss]).all()


def test_one_face_can_be_judged():
    found = measure_calibration(certain([2]), np.array([2]))
    assert (found.error, found.scaled_error) == (0, 0)


@settings(max_examples=40)
@given(seed=st.integers(0, 999), rows=st.integers(1, 40), temperature=st.floats(0.1, 10))
def test_scaling_keeps_the_order_of_classes_and_the_error_within_zero_and_one(seed, rows, temperature):
    rng = np.random.default_rng(seed)
    scores, true = softmax(rng.normal(0, 3, (rows, 8)), axis=1), rng.integers(-1, 8, rows)
    scaled = scale(scores, temperature)
    np.testing.assert_allclose(scaled.sum(1), 1, atol=1e-12)
    assert (scaled.argmax(1) == scores.argmax(1)).all()
    np.testing.assert_allclose(scale(scores, 1.0), scores, atol=1e-9)
    if (true >= 0).any():
        assert 0 <= expected_calibration_error(scaled, true) <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 60), skill=st.floats(0, 6))
def test_the_threshold_keeps_as_many_faces_as_it_can_with_nine_in_ten_right(seed, rows, skill):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 8, rows)
    logits = np.round(rng.normal(0, 1, (rows, 8)))  # rounded: many are equally sure
    logits[np.arange(rows), true] += np.round(skill * rng.random(rows))
    found = fit_confidence(softmax(logits, axis=1), true)
    scaled = scale(softmax(logits, axis=1), found.temperature)
    top, right = np.floor(scaled.max(1) * 1e4) / 1e4, scaled.argmax(1) == true
    shares = {least: right[top >= least].mean() for least in top}
    enough = [least for least, share in shares.items() if share >= KEPT_RIGHT]
    if right.mean() >= KEPT_RIGHT:
        assert found.unsure_below == 0
    elif not enough:
        assert found.unsure_below == 1
    else:
        assert found.unsure_below == pytest.approx(min(enough))


def test_coverage_ends_with_all_faces_at_the_accuracy_of_all():
    logits, true = draw_calibrated(400)
    confidence, kept, accuracy = trace_coverage(softmax(logits, axis=1), true)
    assert (np.diff(kept) > 0).all()
    assert (np.diff(confidence) < 0).all()
    assert kept[-1] == 1
    assert accuracy[-1] == pytest.approx((logits.argmax(1) == true).mean())
    assert accuracy[20] > accuracy[-1]


def test_what_other_faces_chose_is_held_to_these_faces():
    logits, true = draw_calibrated()
    scores = softmax(2.5 * logits, axis=1)
    parts = [
        (Predictions(scores[part].astype(np.float32), np.zeros((2000, 2))), Labels(true[part], np.zeros((2000, 2))))
        for part in (slice(2000), slice(2000, None))
    ]
    chosen = fit_confidence(parts[0][0].probabilities, true[:2000])
    found = measure_calibration_of(*parts[1], choosing=parts[0])
    assert (found.temperature, found.unsure_below) == (chosen.temperature, chosen.unsure_below)
    assert found.kept_right == pytest.approx(0.9, abs=0.03)
    assert found.scaled_error < 0.03


def test_few_faces_that_are_all_right_make_no_network_certain():
    assert fit_confidence(softmax(np.eye(8), axis=1), np.arange(8)).temperature == pytest.approx(0.25)


def test_nothing_is_said_where_no_face_has_an_expression():
    assert measure_calibration(certain([0, 1]), np.array([-1, -1])) is None


def test_faces_set_apart_choose_the_temperature_and_the_scaled_figures_follow():
    logits, true = draw_calibrated()
    half = len(true) // 2
    affect = np.zeros((half, 2))
    own, apart = (
        (Predictions(softmax(2 * logits[rows], axis=1).astype(np.float32), affect), Labels(true[rows], affect))
        for rows in (slice(half), slice(half, None))
    )
    found = measure_calibration_of(*own, choosing=apart)
    assert found.temperature == pytest.approx(fit_temperature(apart[0].probabilities, apart[1].expression), abs=1e-3)
    scaled = scale(own[0].probabilities, found.temperature)
    assert found.scaled_error == pytest.approx(expected_calibration_error(scaled, own[1].expression), abs=1e-4)
