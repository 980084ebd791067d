import warnings

import krippendorff
import numpy as np
import pytest
import torch
from evaluation_examples import PAPER_CONFUSION, certain, draw_rows, rows_of_confusion
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.functional import concordance_corrcoef

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.metrics import (
    METRIC_TITLES,
    AffectRows,
    expression_metrics,
    measure,
    valence_arousal_metrics,
)
from pocketaffect.evaluation.tables import Labels, Predictions


def concordance(x, y):
    """Lin 1989 with population moments."""
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture(scope="module")
def drawn():
    return draw_rows()


def test_expression_metrics_equal_scikit_learn_on_the_labelled_rows(drawn):
    predictions, labels = drawn
    found = expression_metrics(predictions.probabilities, labels.expression)
    rows = labels.expression >= 0
    true, scores = labels.expression[rows], predictions.probabilities[rows].astype(np.float64)
    guess, binary = scores.argmax(1), np.eye(8)[true]
    expected = {
        "accuracy": sk.accuracy_score(true, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(true, guess),
        "macro_f1": sk.f1_score(true, guess, average="macro"),
        "kappa": sk.cohen_kappa_score(true, guess),
        "auc": sk.roc_auc_score(binary, scores, average="macro"),
        "aucpr": sk.average_precision_score(binary, scores, average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_krippendorff_alpha_equals_the_krippendorff_package(drawn):
    predictions, labels = drawn
    rows = labels.expression >= 0
    pair = [labels.expression[rows], predictions.expression[rows]]
    expected = krippendorff.alpha(reliability_data=pair, level_of_measurement="nominal")
    found = expression_metrics(predictions.probabilities, labels.expression)["krippendorff_alpha"]
    assert found == pytest.approx(expected, abs=1e-12)


def test_ties_between_scores_are_ranked_as_scikit_learn_ranks_them():
    rng = np.random.default_rng(3)
    counts = rng.multinomial(4, np.full(8, 1 / 8), size=300)
    scores = (counts / 4).astype(np.float32)
    true = rng.integers(0, 8, 300)
    found, binary = expression_metrics(scores, true), np.eye(8)[true]
    assert found["auc"] == pytest.approx(sk.roc_auc_score(binary, scores, average="macro"), abs=1e-6)
    assert found["aucpr"] == pytest.approx(sk.average_precision_score(binary, scores, average="macro"), abs=1e-6)


def test_affect_metrics_equal_numpy_and_scipy_on_the_labelled_rows(drawn):
    predictions, labels = drawn
    found = valence_arousal_metrics(predictions.valence_arousal, labels.valence_arousal)
    rows = ~np.isnan(labels.valence_arousal[:, 0])
    expected = {}
    for index, name in enumerate(("valence", "arousal")):
        x = predictions.valence_arousal[rows, index].astype(np.float64)
        y = labels.valence_arousal[rows, index].astype(np.float64)
        expected[f"rmse_{name}"] = np.sqrt(np.mean((x - y) ** 2))
        expected[f"corr_{name}"] = stats.pearsonr(x, y).statistic
        expected[f"sagr_{name}"] = np.mean(np.sign(x) == np.sign(y))
        expected[f"ccc_{name}"] = concordance(x, y)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_papers_confusion_matrix_gives_the_papers_figures():
    true, predicted = rows_of_confusion(PAPER_CONFUSION)
    found = expression_metrics(certain(predicted), true)
    assert found["accuracy"] == pytest.approx(0.578, abs=5e-4)
    assert round(found["kappa"], 2) == 0.52
    assert round(found["krippendorff_alpha"], 2) == 0.52
    assert round(found["macro_f1"], 2) == 0.58


def test_a_constant_prediction_scores_zero_and_never_nan():
    true = np.arange(8).repeat(5)
    found = expression_metrics(certain(np.full(40, 3)), true)
    assert found["kappa"] == pytest.approx(0, abs=1e-7)
    assert found["auc"] == pytest.approx(0.5)
    assert found["accuracy"] == found["balanced_accuracy"] == pytest.approx(1 / 8)
    truth = np.linspace(-1, 1, 40, dtype=np.float32)[:, None].repeat(2, axis=1)
    affect = valence_arousal_metrics(np.full((40, 2), 0.1, np.float32), truth)
    assert all(affect[f"{name}_{dimension}"] == 0 for name in ("ccc", "corr") for dimension in ("valence", "arousal"))


def test_constant_truth_met_exactly_is_no_concordance():
    same = np.full((9, 2), 0.3, np.float32)
    found = valence_arousal_metrics(same, same)
    assert found["rmse_valence"] == found["ccc_valence"] == found["corr_valence"] == 0


@pytest.mark.parametrize("present", [1, 2, 7])
def test_macro_means_run_over_the_classes_that_have_a_face_and_warn_of_nothing(present):
    true = np.arange(present).repeat(6)
    guess = true.copy()
    guess[:3] = 7
    scores = np.where(np.arange(8) == guess[:, None], 0.65, 0.05).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = expression_metrics(scores, true)
    recalls = [0.5] + [1.0] * (present - 1)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["worst_class_recall"] == 0.5
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, guess, average="macro", labels=range(present)))
    binary = np.eye(8)[true][:, :present]
    assert found["aucpr"] == pytest.approx(sk.average_precision_score(binary, scores[:, :present], average="macro"))
    if present == 1:
        assert "auc" not in found
    else:
        assert found["auc"] == pytest.approx(sk.roc_auc_score(binary, scores[:, :present], average="macro"))


def test_truth_and_predictions_of_one_single_class_agree_on_nothing():
    found = expression_metrics(certain([3] * 9), np.full(9, 3))
    assert found["accuracy"] == 1
    assert found["kappa"] == found["krippendorff_alpha"] == 0


def test_a_task_without_a_labelled_face_has_no_metric_and_leaves_the_others_alone(drawn):
    predictions, labels = drawn
    whole = measure(predictions, labels)
    only_affect = measure(predictions, Labels(np.full(400, -1), labels.valence_arousal))
    only_expression = measure(predictions, Labels(labels.expression, np.full((400, 2), np.nan, np.float32)))
    assert only_affect.keys() & only_expression.keys() == set()
    assert only_affect | only_expression == whole
    assert whole.keys() == METRIC_TITLES.keys()


def test_an_almost_constant_prediction_over_many_rows_keeps_its_correlation():
    # torchmetrics gives NaN here in float32: one row in 20,000 differs.
    truth = np.zeros((20_000, 2), np.float32)
    truth[7] = 0.5
    found = valence_arousal_metrics(np.where(truth > 0, 0.2, 0.1).astype(np.float32), truth)
    assert found["corr_valence"] == pytest.approx(1)


def test_large_offsets_do_not_cancel_the_variance():
    rng = np.random.default_rng(5)
    guess, truth = rng.normal(0, 0.2, (61, 2)), rng.uniform(-1, 1, (61, 2))
    near, far = (AffectRows(guess + offset, truth - offset).metrics()["corr_valence"][0] for offset in (0, 1e6))
    assert near == pytest.approx(stats.pearsonr(guess[:, 0], truth[:, 0]).statistic, abs=1e-12)
    assert far == pytest.approx(near, abs=1e-7)


def test_concordance_is_torchmetrics_own_with_population_variance():
    rng = np.random.default_rng(5)
    truth = rng.uniform(-1, 1, (50, 2))
    guess = truth * 0.5 + rng.normal(0.1, 0.2, (50, 2))
    reference = concordance_corrcoef(torch.from_numpy(guess), torch.from_numpy(truth)).numpy()
    # Only the means' distance is weighted differently: n - 1 against n.
    gap = (guess.mean(0) - truth.mean(0)) ** 2
    spread = guess.var(0, ddof=1) + truth.var(0, ddof=1)
    expected = reference * (spread + gap) / (spread + gap * 50 / 49)
    found = valence_arousal_metrics(guess, truth)
    assert [found["ccc_valence"], found["ccc_arousal"]] == pytest.approx(expected.tolist(), abs=1e-9)


def test_zero_is_a_sign_of_its_own():
    truth = np.array([[0.0, 0.5], [0.0, -0.5], [-0.0, 0.0]], np.float32)
    guess = np.array([[0.1, 0.1], [0.0, 0.1], [0.0, -0.1]], np.float32)
    found = valence_arousal_metrics(guess, truth)
    assert found["sagr_valence"] == pytest.approx(2 / 3)
    assert found["sagr_arousal"] == pytest.approx(1 / 3)


def test_probabilities_of_half_precision_are_accepted():
    scores = draw_rows(50)[0].probabilities.astype(np.float16).astype(np.float32)
    assert 0 <= expression_metrics(scores, np.arange(50) % 8)["auc"] <= 1


NONE = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Labels(np.array([0, 8]), NONE), "row 1"),
        (lambda: Labels(np.array([0.0, 1.0]), NONE), "int64"),
        (lambda: Labels(np.array([0, 1, 2]), NONE), "3 and 2 rows"),
        (lambda: measure(Predictions(certain([0, 1]), NONE), Labels(np.array([0]), NONE[:1])), "2 and 1 rows"),
        (lambda: Predictions(certain([0, 1]) * np.float32(5), NONE), r"in \[0, 1\]"),
        (lambda: Predictions(certain([0, 1]) * np.float32(0.5), NONE), "not logits"),
        (lambda: Predictions(certain([0, 1]) * np.float32(np.nan), NONE), "finite"),
        (lambda: Predictions(np.ones((2, 7)) / 7, NONE), r"\[n, 8\]"),
        (lambda: Labels(np.array([0]), np.array([[0.1, np.nan]])), "both NaN"),
        (lambda: Labels(np.array([0]), np.array([[-2.0, -2.0]])), r"in \[-1, 1\]"),
        (lambda: Predictions(certain([0]), np.array([[np.inf, 0]])), "finite"),
    ],
)
def test_impossible_input_is_refused_by_name(call, message):
    with pytest.raises(PocketAffectError, match=message):
        call()


rows = st.integers(1, 30)
finite = st.floats(-1, 1, width=32)
affect_pairs = rows.flatmap(lambda n: st.tuples(*[npst.arrays(np.float32, (n, 2), elements=finite) for _ in range(2)]))
expressions = rows.flatmap(
    lambda n: st.tuples(
        npst.arrays(np.float64, (n, 8), elements=st.floats(0.01, 1)),
        npst.arrays(np.int64, n, elements=st.integers(-1, 7)),
    )
)


@settings(max_examples=30)
@given(pair=affect_pairs, seed=st.integers(0, 99))
def test_affect_metrics_stay_in_range_and_ignore_row_order(pair, seed):
    guess, truth = pair
    found = valence_arousal_metrics(guess, truth)
    order = np.random.default_rng(seed).permutation(len(guess))
    assert valence_arousal_metrics(guess[order], truth[order]) == pytest.approx(found, abs=1e-9)
    for dimension in ("valence", "arousal"):
        ccc, corr = found[f"ccc_{dimension}"], found[f"corr_{dimension}"]
        assert abs(ccc) <= abs(corr) + 1e-9 <= 1 + 2e-9
        assert 0 <= found[f"sagr_{dimension}"] <= 1
        assert 0 <= found[f"rmse_{dimension}"] <= 2
    swapped = valence_arousal_metrics(truth, guess)
    assert swapped["ccc_valence"] == pytest.approx(found["ccc_valence"], abs=1e-12)


@settings(max_examples=25)
@given(case=expressions, seed=st.integers(0, 99))
def test_expression_metrics_stay_in_range_and_ignore_row_order_and_unlabelled_rows(case, seed):
    scores, true = case
    scores /= scores.sum(1, keepdims=True)
    found = expression_metrics(scores, true)
    assert bool(found) == (true >= 0).any()
    assert all(-1 <= value <= 1 for value in found.values())
    assert all(found[name] >= 0 for name in found if name not in ("kappa", "krippendorff_alpha"))
    order = np.random.default_rng(seed).permutation(len(true))
    assert expression_metrics(scores[order], true[order]) == pytest.approx(found, abs=1e-6)
    kept = true >= 0
    assert expression_metrics(scores[kept], true[kept]) == pytest.approx(found, abs=1e-6)
