import numpy as np
import pytest
from evaluation_examples import certain, draw_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats
from sklearn import metrics as sk

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation import intervals
from pocketaffect.evaluation.intervals import Comparison, bootstrap_metrics, compare_predictions
from pocketaffect.evaluation.metrics import AffectRows, ExpressionRows, defined, measure
from pocketaffect.evaluation.tables import Labels, Predictions


@pytest.fixture(scope="module")
def drawn():
    return draw_rows(300)


def worse_than(predictions, seed=3):
    """The same model with noise on its answers."""
    rng = np.random.default_rng(seed)
    logits = np.log(predictions.probabilities) + rng.normal(0, 1, predictions.probabilities.shape)
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    noise = rng.normal(0, 0.2, predictions.valence_arousal.shape)
    return Predictions(scores, (predictions.valence_arousal + noise).astype(np.float32))


def test_every_metric_has_an_interval_around_its_own_value(drawn):
    found, expected = bootstrap_metrics(*drawn), measure(*drawn)
    # Resampling shifts it upward: an interval would not hold its own value.
    expected.pop("expected_calibration_error")
    assert {name: interval.value for name, interval in found.items()} == expected
    assert all(interval.low < interval.value < interval.high for interval in found.values())


def test_a_resample_gives_what_scikit_learn_and_scipy_give_for_the_rows_it_repeats(drawn):
    predictions, labels = drawn
    rows = labels.has_expression
    scores, true = predictions.probabilities[rows], labels.expression[rows]
    counts = np.random.default_rng(1).poisson(1, (len(true), 4)).astype(np.float32)
    found = ExpressionRows(scores, true).metrics(counts)
    for draw in range(4):
        chosen = np.repeat(np.arange(len(true)), counts[:, draw].astype(int))
        truth, guess, binary = true[chosen], scores[chosen].argmax(1), np.eye(8)[true[chosen]]
        expected = {
            "accuracy": sk.accuracy_score(truth, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, guess),
            "worst_class_recall": sk.recall_score(truth, guess, average=None).min(),
            "macro_f1": sk.f1_score(truth, guess, average="macro"),
            "kappa": sk.cohen_kappa_score(truth, guess),
            "auc": sk.roc_auc_score(binary, scores[chosen], average="macro"),
            "aucpr": sk.average_precision_score(binary, scores[chosen], average="macro"),
        }
        assert {name: found[name][draw] for name in expected} == pytest.approx(expected, abs=1e-9)
    rows = labels.has_valence_arousal
    x, y = (part[rows].astype(np.float64) for part in (predictions.valence_arousal, labels.valence_arousal))
    counts = np.random.default_rng(2).poisson(1, (len(y), 4)).astype(np.float32)
    found = AffectRows(x, y).metrics(counts)
    chosen = np.repeat(np.arange(len(y)), counts[:, 2].astype(int))
    assert found["corr_arousal"][2] == pytest.approx(stats.pearsonr(x[chosen, 1], y[chosen, 1]).statistic, abs=1e-9)
    assert found["rmse_valence"][2] == pytest.approx(np.sqrt(np.mean((x - y)[chosen, 0] ** 2)), abs=1e-9)


probabilities = npst.arrays(np.float32, (6, 8), elements=st.sampled_from([0.125, 0.25, 0.5, 1.0]))
affect = npst.arrays(np.float32, (6, 2), elements=st.sampled_from([-1.0, -0.25, 0.0, 0.1, 0.3, 1.0]))


@settings(max_examples=25)
@given(
    scores=probabilities,
    true=npst.arrays(np.int64, 6, elements=st.integers(0, 7)),
    guess=affect,
    truth=affect,
    counts=npst.arrays(np.int64, 6, elements=st.integers(0, 3)).filter(lambda counts: counts.any()),
)
def test_ties_absent_classes_and_constants_count_as_the_metrics_say(scores, true, guess, truth, counts):
    scores /= scores.sum(1, keepdims=True)
    rows, column = np.repeat(np.arange(6), counts), counts[:, None].astype(np.float32)
    found = ExpressionRows(scores, true).metrics(column) | AffectRows(guess, truth).metrics(column)
    expected = measure(Predictions(scores[rows], guess[rows]), Labels(true[rows], truth[rows]))
    expected.pop("expected_calibration_error")
    assert defined(found) == pytest.approx(expected, abs=1e-9)


def test_intervals_agree_with_scipys_bootstrap(drawn):
    predictions, labels = drawn
    found = bootstrap_metrics(predictions, labels, resamples=4000)
    rows = labels.has_expression
    hits = predictions.expression[rows] == labels.expression[rows]
    x, y = (part[labels.has_valence_arousal, 0] for part in (predictions.valence_arousal, labels.valence_arousal))
    for name, data, statistic in (
        ("accuracy", (hits,), lambda a, axis: a.mean(axis)),
        ("rmse_valence", (x, y), lambda a, b, axis: np.sqrt(((a - b) ** 2).mean(axis))),
        ("corr_valence", (x, y), lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic),
    ):
        theirs = stats.bootstrap(
            data, statistic, method="percentile", paired=True, n_resamples=4000, rng=np.random.default_rng(4)
        ).confidence_interval
        width = float(theirs.high - theirs.low)
        assert (found[name].low, found[name].high) == pytest.approx((theirs.low, theirs.high), abs=0.07 * width), name


def test_a_paired_difference_agrees_with_scipys_and_is_narrower_than_the_two_intervals(drawn):
    ours, labels = drawn
    theirs = worse_than(ours)
    found = compare_predictions(ours, theirs, labels, resamples=4000)["accuracy"]
    rows = labels.has_expression
    hits = [(model.expression == labels.expression)[rows].astype(float) for model in (ours, theirs)]
    assert found.ours == pytest.approx(hits[0].mean())
    assert found.difference == pytest.approx(hits[0].mean() - hits[1].mean())
    expected = stats.bootstrap(
        hits,
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        method="percentile",
        paired=True,
        n_resamples=4000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.07 * width)
    alone = [bootstrap_metrics(model, labels)["accuracy"] for model in (ours, theirs)]
    assert width < np.hypot(*(interval.high - interval.low for interval in alone))


def test_a_model_does_not_differ_from_itself_and_is_better_than_itself_with_noise(drawn):
    ours, labels = drawn
    same = compare_predictions(ours, ours, labels)
    assert all((row.difference, row.verdict) == (0, "undecided") for row in same.values())
    assert {(row.low, row.high) for name, row in same.items() if name != "expected_calibration_error"} == {(0, 0)}
    noisy = compare_predictions(ours, worse_than(ours), labels)
    assert noisy["rmse_valence"].difference < 0
    assert {noisy[name].verdict for name in ("accuracy", "auc", "rmse_valence", "ccc_arousal")} == {"better"}
    turned = compare_predictions(worse_than(ours), ours, labels)
    assert {turned[name].verdict for name in ("accuracy", "auc", "rmse_valence", "ccc_arousal")} == {"worse"}


def test_an_interval_that_holds_zero_decides_nothing():
    assert Comparison("accuracy", 0.6, 0.5, 0.1, -0.01, 0.2).verdict == "undecided"
    assert Comparison("rmse_valence", 0.6, 0.5, 0.1, 0.01, 0.2).verdict == "worse"
    assert Comparison("expected_calibration_error", 0.6, 0.5, 0.1, np.nan, np.nan).verdict == "undecided"


def test_the_same_seed_gives_the_same_intervals_and_another_one_others(drawn):
    assert bootstrap_metrics(*drawn, resamples=100) == bootstrap_metrics(*drawn, resamples=100)
    assert bootstrap_metrics(*drawn, resamples=100) != bootstrap_metrics(*drawn, resamples=100, seed=1)


def test_what_one_task_draws_does_not_depend_on_the_other_tasks_labels(drawn):
    predictions, labels = drawn
    fewer = labels.valence_arousal.copy()
    fewer[:50] = np.nan
    found = bootstrap_metrics(predictions, Labels(labels.expression, fewer), resamples=100)
    assert found["accuracy"] == bootstrap_metrics(predictions, labels, resamples=100)["accuracy"]


def test_every_draw_has_as_many_rows_as_there_are(monkeypatch):
    monkeypatch.setattr(intervals, "_BLOCK", 5)
    blocks = list(intervals._draw_counts(40, 12, np.random.default_rng(0)))
    assert [block.shape for block in blocks] == [(40, 5), (40, 5), (40, 2)]
    assert all((block.sum(0) == 40).all() for block in blocks)


def test_a_class_that_most_draws_leave_out_leaves_every_value_defined():
    true = np.array([0, 0, 0, 0, 1, 7])
    scores = np.full((6, 8), 0.1, np.float32)
    scores[np.arange(6), true] = 0.3
    truth = np.array([[0, 0]] * 5 + [[1, 1]], np.float32)
    found = bootstrap_metrics(Predictions(scores, truth * 0.5), Labels(true, truth), resamples=200)
    assert all(np.isfinite([row.value, row.low, row.high]).all() for row in found.values())
    assert found["worst_class_recall"].low == found["worst_class_recall"].high == 1
    assert found["ccc_valence"].low == 0


def test_a_task_without_a_labelled_face_has_no_interval_and_the_other_keeps_its_own(drawn):
    predictions, labels = drawn
    whole = bootstrap_metrics(predictions, labels, resamples=100)
    no_affect = Labels(labels.expression, np.full((300, 2), np.nan, np.float32))
    no_expression = Labels(np.full(300, -1), labels.valence_arousal)
    for part, name in ((no_affect, "accuracy"), (no_expression, "ccc_valence")):
        found = bootstrap_metrics(predictions, part, resamples=100)
        assert found.keys() < whole.keys()
        assert found.keys() == measure(predictions, part).keys() - {"expected_calibration_error"}
        assert found[name] == whole[name]
        compared = compare_predictions(worse_than(predictions), predictions, part, resamples=100)
        assert compared.keys() == measure(predictions, part).keys()
        assert compared[name].verdict == "worse"


def test_a_constant_prediction_has_an_interval_of_nothing():
    labels = Labels(np.arange(8).repeat(5), np.linspace(-1, 1, 80, dtype=np.float32).reshape(40, 2))
    constant = Predictions(certain(np.full(40, 3)), np.full((40, 2), 0.1, np.float32))
    found = bootstrap_metrics(constant, labels)
    for name in ("kappa", "ccc_valence", "corr_arousal", "worst_class_recall"):
        assert (found[name].low, found[name].high) == pytest.approx((0, 0), abs=1e-12), name
    assert (found["auc"].low, found["auc"].high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": draw_rows(299)[1]}, "300 and 299 rows"),
        ({"resamples": 1}, "too few resamples"),
    ],
)
def test_what_has_no_interval_is_refused(drawn, change, message):
    arguments = {"predictions": drawn[0], "labels": drawn[1]} | change
    with pytest.raises(PocketAffectError, match=message):
        bootstrap_metrics(**arguments)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    predictions, labels = draw_rows(60_000, unlabelled=0)
    truth = measure(predictions, labels)
    rng = np.random.default_rng(0)
    names = ("accuracy", "macro_f1", "auc", "rmse_valence", "ccc_arousal")
    held = dict.fromkeys(names, 0)
    runs = 150
    for _ in range(runs):
        rows = rng.choice(60_000, 400, replace=False)
        found = bootstrap_metrics(
            Predictions(predictions.probabilities[rows], predictions.valence_arousal[rows]),
            Labels(labels.expression[rows], labels.valence_arousal[rows]),
            resamples=200,
        )
        for name in names:
            held[name] += found[name].low <= truth[name] <= found[name].high
    # Percentile intervals of curved statistics are known to hold a little less than they say.
    assert all(0.88 <= count / runs <= 0.99 for count in held.values()), held
