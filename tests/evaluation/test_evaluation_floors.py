import numpy as np
import pytest
from evaluation_examples import PAPER_CONFUSION, certain, draw_rows, rows_of_confusion

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.baselines import floor_rows, mean_affect_of_classes
from pocketaffect.evaluation.evaluate import evaluate_predictions
from pocketaffect.evaluation.metrics import EXPRESSION_METRICS, expression_metrics
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import CLASS_MEAN_VA


def paper_rows():
    """Rows with the paper's confusion, class means and spread within classes (its true-class oracle's RMSE).

    Every row comes as two, one spread above its class mean and one below, so that within each cell of the confusion
    matrix the mean is the class's: the published floor figures rest on exactly these moments.
    """
    true, predicted = (np.repeat(part, 2) for part in rows_of_confusion(PAPER_CONFUSION))
    spread = np.where(np.arange(len(true)) % 2, 1, -1)[:, None] * np.array([0.169, 0.146])
    affect = (np.array(CLASS_MEAN_VA)[true] + spread).astype(np.float32)
    return predicted, Labels(true, affect)


def test_the_papers_confusion_and_class_means_give_its_floor_figures():
    predicted, labels = paper_rows()
    floors = floor_rows(predicted, labels, labels)
    expected = {
        "class_lookup": {"rmse_valence": 0.409, "rmse_arousal": 0.369, "ccc_valence": 0.585, "ccc_arousal": 0.489},
        "oracle": {"rmse_valence": 0.169, "rmse_arousal": 0.146, "ccc_valence": 0.929, "ccc_arousal": 0.920},
        "constant": {"rmse_valence": 0.466, "rmse_arousal": 0.379, "ccc_valence": 0, "ccc_arousal": 0},
    }
    for row, figures in expected.items():
        assert {name: floors[row][name] for name in figures} == pytest.approx(figures, abs=2e-3), row


def test_floors_come_from_training_labels_and_not_from_the_labels_judged():
    training = Labels(np.array([1, 1, 0]), np.array([[0.5, 0.1], [0.7, 0.3], [0.0, -0.4]], np.float32))
    labels = Labels(np.array([0, 1]), np.array([[0.0, 0.0], [1.0, 1.0]], np.float32))
    floors = floor_rows(np.array([1, 0]), training, labels)
    assert floors["constant"]["accuracy"] == 0.5
    assert floors["constant"]["rmse_valence"] == pytest.approx(np.sqrt((0.4**2 + 0.6**2) / 2))
    assert floors["class_lookup"]["rmse_valence"] == pytest.approx(np.sqrt((0.6**2 + 1) / 2))
    assert floors["oracle"]["rmse_valence"] == pytest.approx(np.sqrt((0 + 0.4**2) / 2))


def test_floors_without_an_expression_of_their_own_claim_no_accuracy():
    predictions, labels = draw_rows()
    floors = floor_rows(predictions.expression, labels, labels)
    assert "accuracy" in floors["constant"]
    assert not any("accuracy" in floors[row] for row in ("class_lookup", "oracle"))


def test_a_class_unseen_in_training_gets_the_mean_of_all():
    training = Labels(np.array([0, 1, -1, 2]), np.array([[0, 0], [1, 1], [0.5, -1], [np.nan] * 2], np.float32))
    means = mean_affect_of_classes(training, np.array([0.5, 0]))
    assert means[0].tolist() == [0, 0]
    assert means[1].tolist() == [1, 1]
    np.testing.assert_allclose(means[2:], np.tile([0.5, 0], (6, 1)))


def test_an_oracle_without_a_class_falls_back_to_the_constant_on_the_same_rows():
    training = Labels(np.array([0, 1]), np.array([[0, 0], [1, 1]], np.float32))
    labels = Labels(np.array([-1, 1]), np.array([[0, 0], [1, 1]], np.float32))
    floors = floor_rows(np.array([7, 7]), training, labels)
    assert floors["oracle"]["rmse_valence"] == pytest.approx(np.sqrt(0.5**2 / 2))


def test_what_training_cannot_tell_has_no_floor():
    predictions, labels = draw_rows(20, unlabelled=0)
    no_affect = Labels(labels.expression, np.full((20, 2), np.nan, np.float32))
    no_expression = Labels(np.full(20, -1), labels.valence_arousal)
    classes_only = floor_rows(predictions.expression, no_affect, labels)
    assert classes_only.keys() == {"constant"}
    assert classes_only["constant"].keys() == EXPRESSION_METRICS.keys()
    affect_only = floor_rows(predictions.expression, no_expression, labels)
    assert affect_only.keys() == {"constant", "class_lookup", "oracle"}
    assert affect_only["class_lookup"] == affect_only["constant"]
    assert floor_rows(predictions.expression, labels, no_affect) == {"constant": expression_metrics_of_majority(labels)}


def expression_metrics_of_majority(labels):
    majority = np.bincount(labels.expression).argmax()
    return expression_metrics(certain([majority] * len(labels)), labels.expression)


def test_per_class_rows_and_confusion_follow_the_papers_matrix():
    predicted, labels = paper_rows()
    means = np.array(CLASS_MEAN_VA, np.float32)
    evaluation = evaluate_predictions(Predictions(certain(predicted), means[labels.expression]), labels, labels)
    assert (evaluation.confusion == 2 * PAPER_CONFUSION).all()
    happiness = evaluation.per_class[1]
    column = PAPER_CONFUSION[:, 1].sum()
    assert happiness.name == "happiness"
    assert happiness.support == 1000
    assert happiness.recall == pytest.approx(358 / 500)
    assert happiness.precision == pytest.approx(358 / column)
    assert happiness.f1 == pytest.approx(2 * 358 / (500 + column))
    assert happiness.error_valence == pytest.approx(0.169, abs=1e-6)
    assert happiness.error_arousal == pytest.approx(0.146, abs=1e-6)
    assert np.mean([row.f1 for row in evaluation.per_class]) == pytest.approx(evaluation.metrics["macro_f1"])


def test_counts_say_how_many_rows_each_number_rests_on():
    predictions, labels = draw_rows(200)
    evaluation = evaluate_predictions(predictions, labels, labels)
    assert evaluation.counts == {
        "rows": 200,
        "expression_rows": int((labels.expression >= 0).sum()),
        "valence_arousal_rows": int(np.isfinite(labels.valence_arousal[:, 0]).sum()),
        "absent_classes": 0,
    }


def test_predictions_of_other_faces_are_refused():
    predictions, _ = draw_rows(20)
    _, labels = draw_rows(21)
    with pytest.raises(PocketAffectError, match="20 and 21 rows"):
        evaluate_predictions(predictions, labels, labels)
