from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.stats import entropy
from sklearn.metrics import mean_squared_error
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, NO_EXPRESSION
from pocketaffect.training.losses import (
    EFFECTIVE_NUMBER_BASE,
    average_prototypes,
    balance_classes,
    concordance_loss,
    expression_loss,
    expression_shares,
    follow_teacher,
    valence_arousal_loss,
    weigh_by_effective_number,
)

CLASSES = len(EXPRESSIONS)


@st.composite
def batches(draw):
    rows = draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    expression = generator.integers(NO_EXPRESSION, CLASSES, rows)
    truth = generator.uniform(-1, 1, (rows, 2))
    truth[generator.random(rows) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    return generator.normal(0, draw(st.sampled_from([0.1, 3.0, 50.0])), (rows, CLASSES)), expression, truth


def reference_expression_loss(logits, expression, weight):
    rows = expression >= 0
    if not rows.any():
        return 0.0
    chosen = -log_softmax(logits[rows], axis=1)[np.arange(rows.sum()), expression[rows]]
    return float(np.average(chosen, weights=weight[expression[rows]]))


@settings(max_examples=80)
@given(batch=batches(), weighted=st.booleans())
def test_expression_loss_is_the_weighted_mean_of_log_losses_over_labelled_rows(batch, weighted):
    logits, expression, _ = batch
    weight = np.linspace(0.2, 3, CLASSES) if weighted else np.ones(CLASSES)
    loss = expression_loss(torch.tensor(logits), torch.tensor(expression), torch.tensor(weight) if weighted else None)
    assert float(loss) == pytest.approx(reference_expression_loss(logits, expression, weight), rel=1e-9, abs=1e-12)


@settings(max_examples=80)
@given(batch=batches(), voted=st.sampled_from([0.0, 0.5, 1.0]))
def test_soft_labels_replace_the_class_where_they_are_given(batch, voted):
    logits, expression, _ = batch
    generator = np.random.default_rng(1)
    soft = generator.dirichlet(np.ones(CLASSES), len(expression))
    soft[generator.random(len(expression)) >= voted] = np.nan
    weight = np.linspace(0.2, 3, CLASSES)
    total = norm = 0.0
    for row, code in enumerate(expression):
        if code == NO_EXPRESSION and np.isnan(soft[row, 0]):
            continue
        target = np.eye(CLASSES)[code] if np.isnan(soft[row, 0]) else soft[row]
        total -= float(weight @ target * (target @ log_softmax(logits[row])))
        norm += float(weight @ target)
    loss = expression_loss(*(torch.tensor(part) for part in (logits, expression, weight, soft)))
    assert float(loss) == pytest.approx(total / norm if norm else 0.0, rel=1e-9, abs=1e-12)


@settings(max_examples=40)
@given(batch=batches())
def test_a_one_hot_soft_label_counts_as_the_class_does(batch):
    logits, expression, _ = (torch.tensor(part) for part in batch)
    soft = torch.full((len(expression), CLASSES), torch.nan, dtype=torch.float64)
    labelled = expression != NO_EXPRESSION
    soft[labelled] = torch.eye(CLASSES, dtype=torch.float64)[expression[labelled]]
    weight = torch.linspace(0.2, 3, CLASSES, dtype=torch.float64)
    hard = expression_loss(logits, expression, weight)
    torch.testing.assert_close(expression_loss(logits, expression, weight, soft), hard)


def test_a_weighted_row_is_lowest_where_the_network_says_its_shares():
    """A weight on each class's part would pull every row's answer towards the rare classes."""
    shares = torch.tensor([[0.5, 0.3, 0.2, 0, 0, 0, 0, 0]])
    logits = shares.clamp(min=1e-9).log().requires_grad_()
    expression_loss(logits, torch.tensor([0]), torch.linspace(0.2, 3, CLASSES), shares).backward()
    assert float(logits.grad.abs().max()) < 1e-6


@settings(max_examples=80)
@given(batch=batches())
def test_va_loss_is_the_mean_squared_error_over_labelled_rows(batch):
    logits, _, truth = batch
    prediction = np.tanh(logits[:, :2])
    rows = ~np.isnan(truth).any(axis=1)
    expected = mean_squared_error(truth[rows], prediction[rows]) if rows.any() else 0.0
    assert float(valence_arousal_loss(torch.tensor(prediction), torch.tensor(truth))) == pytest.approx(expected)


def test_a_row_with_one_of_two_dimensions_has_no_va_label():
    truth = torch.tensor([[0.5, torch.nan], [1.0, 0.0]])
    assert float(valence_arousal_loss(torch.zeros(2, 2), truth)) == 0.5


def test_a_batch_without_any_label_gives_zero_and_finite_gradients():
    logits = torch.randn(4, CLASSES, requires_grad=True)
    prediction = torch.randn(4, 2, requires_grad=True)
    by_expression = expression_loss(logits, torch.full((4,), NO_EXPRESSION), torch.ones(CLASSES))
    by_va = valence_arousal_loss(prediction, torch.full((4, 2), torch.nan))
    assert float(by_expression.detach()) == float(by_va.detach()) == 0
    (by_expression + by_va).backward()
    assert float(logits.grad.abs().sum()) == float(prediction.grad.abs().sum()) == 0


def test_rows_without_a_label_get_no_gradient():
    logits = torch.randn(4, CLASSES, requires_grad=True)
    prediction = torch.randn(4, 2, requires_grad=True)
    truth = torch.tensor([[0.1, 0.2], [torch.nan, torch.nan], [0.3, 0.4], [torch.nan, torch.nan]])
    loss = expression_loss(logits, torch.tensor([0, 1, NO_EXPRESSION, NO_EXPRESSION]), None)
    (loss + valence_arousal_loss(prediction, truth)).backward()
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [True, True, False, False]
    assert (prediction.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]
    assert bool(torch.isfinite(prediction.grad).all())


@settings(max_examples=50)
@given(st.lists(st.integers(NO_EXPRESSION, CLASSES - 1), max_size=200))
def test_balanced_weights_are_sklearns(drawn):
    expression = np.array([*drawn, *range(CLASSES)], dtype=np.int64)
    labelled = expression[expression != NO_EXPRESSION]
    expected = compute_class_weight("balanced", classes=np.arange(CLASSES), y=labelled)
    assert balance_classes(expression) == pytest.approx(expected.tolist())


def test_balanced_weights_make_every_class_count_alike():
    expression = np.repeat(np.arange(CLASSES), [1, 2, 3, 50, 5, 6, 7, 400])
    totals = np.bincount(expression) * np.array(balance_classes(expression))
    assert totals == pytest.approx([len(expression) / CLASSES] * CLASSES)


def test_effective_weights_are_the_inverse_of_a_sum_in_which_each_further_image_adds_less():
    counts = np.array([1, 2, 30, 500, 4000, 6, 7, 100])
    expression = np.repeat(np.arange(CLASSES), counts)
    effective = np.array([sum(EFFECTIVE_NUMBER_BASE**image for image in range(count)) for count in counts])
    weights = np.array(weigh_by_effective_number(expression))
    assert weights * effective == pytest.approx(weights[0] * effective[0])
    assert np.mean(weights[expression]) == pytest.approx(1)
    balanced = np.array(balance_classes(expression))
    assert weights.max() / weights.min() < balanced.max() / balanced.min()


@pytest.mark.parametrize("weigh", [balance_classes, weigh_by_effective_number])
def test_classes_without_an_image_leave_the_others_weights_as_they_would_be_alone(weigh):
    expression = np.repeat([0, 1, 2, 4, 5, 6, NO_EXPRESSION], [3, 9, 1, 5, 4, 2, 7])
    weights = np.array(weigh(expression))
    assert weights[[3, 7]].tolist() == [1, 1]
    labelled = expression[expression != NO_EXPRESSION]
    assert np.mean(weights[labelled]) == pytest.approx(1)
    if weigh is balance_classes:
        assert weights[labelled] == pytest.approx(compute_sample_weight("balanced", labelled))
    assert weigh(np.full(5, NO_EXPRESSION, dtype=np.int64)) == [1.0] * CLASSES


def test_prototypes_are_the_means_of_the_rows_that_have_both_labels():
    generator = np.random.default_rng(0)
    expression = generator.integers(NO_EXPRESSION, CLASSES, 500)
    truth = generator.uniform(-1, 1, (500, 2)).astype(np.float32)
    truth[::7] = np.nan
    truth[3, 0] = np.nan
    prototypes = average_prototypes(expression, truth)
    for code in range(CLASSES):
        rows = truth[(expression == code) & ~np.isnan(truth).any(axis=1)]
        assert prototypes[code] == pytest.approx(rows.astype(np.float64).mean(axis=0).tolist())


def test_a_class_without_va_takes_affectnets_prototype():
    expression = np.array([0, 0, 1], dtype=np.int64)
    truth = np.array([[0.5, -0.5], [0.25, 0.5], [np.nan, np.nan]], dtype=np.float32)
    assert average_prototypes(expression, truth) == [(0.375, 0.0), *CLASS_MEAN_VA[1:]]


@settings(max_examples=60)
@given(batch=batches(), smoothing=st.sampled_from([0.05, 0.3, 0.9]), voted=st.booleans())
def test_smoothing_gives_a_share_of_each_target_to_all_classes_alike(batch, smoothing, voted):
    logits, expression, _ = batch
    weight = np.linspace(0.2, 3, CLASSES)
    soft = np.full((len(expression), CLASSES), np.nan)
    if voted:
        soft[0] = np.linspace(1, 8, CLASSES) / 36
    total = norm = 0.0
    for row, code in enumerate(expression):
        if code == NO_EXPRESSION and np.isnan(soft[row, 0]):
            continue
        target = np.eye(CLASSES)[code] if np.isnan(soft[row, 0]) else soft[row]
        counts = float(weight @ target)
        target = (1 - smoothing) * target + smoothing / CLASSES
        total -= counts * float(target @ log_softmax(logits[row]))
        norm += counts
    tensors = [torch.tensor(part) for part in (logits, expression, weight, soft)]
    loss = expression_loss(*tensors, smoothing=smoothing)
    assert float(loss) == pytest.approx(total / norm if norm else 0.0, rel=1e-9, abs=1e-12)


def test_smoothing_without_weights_is_torchs():
    logits, expression = torch.randn(9, CLASSES), torch.arange(9) % CLASSES
    wanted = torch.nn.functional.cross_entropy(logits, expression, label_smoothing=0.2)
    torch.testing.assert_close(expression_loss(logits, expression, None, smoothing=0.2), wanted)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 50))
def test_the_concordance_loss_is_one_minus_lins_coefficient(seed, rows):
    generator = np.random.default_rng(seed)
    truth = generator.uniform(-1, 1, (rows, 2))
    prediction = 0.5 * truth + generator.normal(0.1, 0.3, (rows, 2))
    coefficients = []
    for guess, target in zip(prediction.T, truth.T, strict=True):
        covariance = np.cov(guess, target, bias=True)
        spread = covariance[0, 0] + covariance[1, 1] + (guess.mean() - target.mean()) ** 2
        coefficients.append(2 * covariance[0, 1] / spread)
    wanted = 1 - np.mean(coefficients)
    labelled = torch.tensor(prediction, requires_grad=True), torch.tensor(truth)
    assert float(concordance_loss(*labelled).detach()) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert float(valence_arousal_loss(*labelled, "ccc").detach()) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    mixed = (mean_squared_error(truth, prediction) + wanted) / 2
    assert float(valence_arousal_loss(*labelled, "mix").detach()) == pytest.approx(mixed, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_batch_of_rows_that_are_alike_has_a_concordance_loss_and_a_finite_gradient(rows):
    prediction = torch.zeros(rows, 2, requires_grad=True)
    loss = concordance_loss(prediction, torch.full((rows, 2), 0.5))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1)
    assert bool(prediction.grad.isfinite().all())


def test_the_distance_to_a_teacher_is_scipys_divergence_and_the_squared_error():
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 7, CLASSES))
    va = generator.uniform(-1, 1, (2, 7, 2))
    said, heard = (np.exp(log_softmax(logits / 3, axis=1)) for logits in (teacher, student))
    divergence, error = follow_teacher(
        (torch.tensor(student), torch.tensor(va[0])), (torch.tensor(teacher), torch.tensor(va[1])), temperature=3.0
    )
    assert float(divergence) == pytest.approx(9 * entropy(said, heard, axis=1).mean())
    assert float(error) == pytest.approx(mean_squared_error(va[1], va[0]))


def test_shares_are_those_of_the_labelled_images():
    expression = np.array([*range(CLASSES), 1, 1, NO_EXPRESSION], dtype=np.int64)
    assert expression_shares(expression).tolist() == pytest.approx([0.1, 0.3, *[0.1] * 6])


def test_there_is_nothing_to_undo_of_a_class_that_never_occurs():
    assert expression_shares(np.array([1, 1, 1, 2])).tolist() == pytest.approx([1, 0.75, 0.25, *[1] * 5])
    assert expression_shares(np.full(3, NO_EXPRESSION)).tolist() == [1] * 8
