import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation_examples import certain, draw_rows
from scipy.stats import binomtest

from pocketaffect.evaluation.evaluate import adjust_to_uniform_prior, measure_prior_shift
from pocketaffect.evaluation.metrics import valence_arousal_metrics
from pocketaffect.evaluation.slices import FEW_FACES, read_groups, slice_metrics, wilson_interval
from pocketaffect.evaluation.tables import Labels, Predictions


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (3, 7), (250, 500), (500, 500)])
def test_a_shares_interval_is_scipys_wilson_interval(hits, rows):
    expected = binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson_interval(hits, rows) == pytest.approx((expected.low, expected.high), abs=1e-7)


@pytest.fixture(scope="module")
def drawn():
    return draw_rows(300)


def test_a_slice_is_judged_like_a_data_set_of_its_own(drawn):
    predictions, labels = drawn
    mask = np.arange(300) % 3 == 0
    (found,) = slice_metrics(predictions, labels, {"kind": {"third": mask}})
    rows = mask & labels.has_expression
    assert found.accuracy == pytest.approx((predictions.expression == labels.expression)[rows].mean())
    assert (found.faces, found.expression_rows) == (100, rows.sum())
    expected = valence_arousal_metrics(predictions.valence_arousal[mask], labels.valence_arousal[mask])
    assert found.ccc_arousal == pytest.approx(expected["ccc_arousal"])
    assert not found.few


def test_the_class_mix_explains_a_slice_of_hard_classes():
    true = np.array([0] * 50 + [1] * 50)
    guess = np.array([0] * 50 + [1] * 10 + [0] * 40)
    predictions = Predictions(certain(guess), np.zeros((100, 2), np.float32))
    labels = Labels(true, np.zeros((100, 2), np.float32))
    hard = np.arange(100) >= 50
    found = slice_metrics(predictions, labels, {"half": {"easy": ~hard, "hard": hard, "all": hard | True}})
    assert [row.accuracy for row in found] == pytest.approx([1.0, 0.2, 0.6])
    assert [row.from_class_mix for row in found] == pytest.approx([1.0, 0.2, 0.6])


def test_small_slices_are_marked_and_empty_ones_left_out(drawn):
    predictions, labels = drawn
    first = np.arange(300)
    masks = {"few": first < FEW_FACES - 1, "enough": first < 2 * FEW_FACES, "none": first < 0}
    found = slice_metrics(predictions, labels, {"kind": masks})
    assert [(row.name, row.few) for row in found] == [("few", True), ("enough", False)]


def test_a_slice_without_labels_of_a_kind_has_no_figure_of_that_kind(drawn):
    predictions, labels = drawn
    masks = {"no expression": ~labels.has_expression, "no affect": ~labels.has_valence_arousal}
    bare, other = slice_metrics(predictions, labels, {"label": masks})
    assert (bare.accuracy, bare.low, bare.from_class_mix) == (None, None, None)
    assert bare.rmse_valence is not None
    assert (other.rmse_valence, other.ccc_arousal) == (None, None)


def test_groups_come_from_the_shards_index_in_the_splits_order(tmp_path):
    table = {
        "split": ["train", "validation", "validation", "validation"],
        "list": ["t.csv", "b.csv", "a.csv", "b.csv"],
        "image_side": pa.array([10, 47, 48, 400], pa.int32()),
        "warnings": ["x", "", "va_plausible,tiny_face", "tiny_face"],
    }
    pq.write_table(pa.table(table), tmp_path / "index.parquet")
    found = {
        kind: {name: mask.tolist() for name, mask in members.items()}
        for kind, members in read_groups(tmp_path, "validation").items()
    }
    assert found == {
        "source list": {"a.csv": [False, True, False], "b.csv": [True, False, True]},
        "face side": {
            "under 48 px": [True, False, False],
            "48 to 95 px": [False, True, False],
            "384 px and more": [False, False, True],
        },
        "contract warnings": {
            "none": [True, False, False],
            "tiny_face": [False, True, True],
            "va_plausible": [False, True, False],
        },
    }


def test_dividing_by_trainings_shares_gives_what_bayes_rule_gives():
    rng = np.random.default_rng(0)
    likelihood = rng.random((5, 8))
    counts = np.array([5000, 4000, 1000, 800, 400, 200, 900, 100])
    prior = (counts + 1) / (counts + 1).sum()
    posterior = likelihood * prior / (likelihood * prior).sum(1, keepdims=True)
    expected = likelihood / likelihood.sum(1, keepdims=True)
    np.testing.assert_allclose(adjust_to_uniform_prior(posterior, counts), expected, atol=1e-9)


def test_the_adjustment_mends_a_model_of_skewed_training_on_balanced_faces():
    rng = np.random.default_rng(1)
    true, counts = np.arange(8).repeat(100), np.array([3000, 2000, 500, 400, 200, 100, 600, 50])
    logits = rng.normal(0, 1, (800, 8)) + np.log(counts)
    logits[np.arange(800), true] += 2
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    affect = np.zeros((800, 2), np.float32)
    training = Labels(np.arange(8).repeat(counts), np.zeros((counts.sum(), 2), np.float32))
    found = measure_prior_shift(Predictions(scores, affect), Labels(true, affect), training)
    assert found.adjusted["balanced_accuracy"] > (scores.argmax(1) == true).mean() + 0.2
    assert [row.here for row in found.shares] == pytest.approx([1 / 8] * 8)
    assert found.shares[0].training == pytest.approx(counts[0] / counts.sum())
    assert abs(found.shares[0].adjusted - 1 / 8) < abs(found.shares[0].predicted - 1 / 8)


def test_a_class_that_was_never_trained_on_can_be_adjusted():
    scores = certain([0, 1])
    found = adjust_to_uniform_prior(scores, np.array([10, 10, 0, 0, 0, 0, 0, 0]))
    assert np.isfinite(found).all()
    assert found.argmax(1).tolist() == [0, 1]
