import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_examples import certain, draw_rows

from pocketaffect import figures
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation import plots
from pocketaffect.evaluation.behaviour import compare_movement
from pocketaffect.evaluation.evaluate import evaluate_predictions
from pocketaffect.evaluation.intervals import bootstrap_metrics
from pocketaffect.evaluation.judge import write_evaluation, write_report
from pocketaffect.evaluation.metrics import METRIC_TITLES
from pocketaffect.evaluation.prediction_table import PredictionTable
from pocketaffect.evaluation.slices import slice_metrics
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.summary import summary_table

HISTORY = [
    {"epoch": epoch, "train_loss": 2 / (epoch + 1), "validation_loss": 2.2 / (epoch + 1), "accuracy": epoch / 10}
    for epoch in range(4)
]


@pytest.fixture(scope="module")
def judged():
    predictions, labels = draw_rows(300)
    _, training = draw_rows(600, seed=1)
    everyone = {"source list": {"a.csv": np.arange(300) >= 0, "b.csv": np.arange(300) < 20}}
    evaluation = replace(
        evaluate_predictions(predictions, labels, training),
        intervals=bootstrap_metrics(predictions, labels, resamples=100),
        slices=slice_metrics(predictions, labels, everyone),
        behaviour=[
            compare_movement("mirrored", predictions, predictions, labels.expression),
            compare_movement("tinted", predictions, draw_rows(300, seed=2)[0], labels.expression),
        ],
    )
    return evaluation, PredictionTable(tuple(f"faces/{index}.png" for index in range(300)), predictions, labels)


@pytest.fixture(scope="module")
def folder(judged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation") / "new"
    write_evaluation(*judged, folder)
    return folder


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_file_is_flat_rounded_and_complete(judged, folder):
    written = json.loads((folder / "metrics.json").read_text())
    assert written == {name: round(value, 6) for name, value in judged[0].metrics.items()}
    assert written.keys() == METRIC_TITLES.keys()
    assert json.loads((folder / "floors.json").read_text()).keys() == {"constant", "class_lookup", "oracle"}


def test_confusion_table_counts_to_the_confusion_matrix(judged, folder):
    counted = np.zeros((8, 8), int)
    for row in read_csv(folder / "confusion.csv"):
        counted[EXPRESSIONS.index(row["actual"]), EXPRESSIONS.index(row["predicted"])] += 1
    assert (counted == judged[0].confusion).all()


@pytest.mark.parametrize(("index", "name"), enumerate(("valence", "arousal")))
def test_scatter_tables_hold_the_labelled_rows(judged, folder, index, name):
    predictions, labels = judged[1].predictions, judged[1].labels
    found = np.array([[float(row["truth"]), float(row["prediction"])] for row in read_csv(folder / f"{name}.csv")])
    rows = labels.has_valence_arousal
    expected = np.stack([labels.valence_arousal[rows, index], predictions.valence_arousal[rows, index]], axis=1)
    np.testing.assert_allclose(found, expected, atol=5e-7)


def test_what_the_page_shows_is_written_as_tables_too(judged, folder):
    intervals = json.loads((folder / "intervals.json").read_text())
    assert intervals.keys() == judged[0].metrics.keys() - {"expected_calibration_error"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in intervals.values())
    assert [row["name"] for row in read_csv(folder / "slices.csv")] == ["a.csv", "b.csv"]
    assert read_csv(folder / "behaviour.csv")[0]["change"] == "mirrored"
    assert sum(int(row["faces"]) for row in read_csv(folder / "reliability.csv")) == judged[0].counts["expression_rows"]
    assert len(json.loads((folder / "calibration.json").read_text())["bins"]) == 15
    assert len(json.loads((folder / "priors.json").read_text())["shares"]) == 8


def test_the_page_says_in_words_what_the_network_does_not_survive(judged, tmp_path):
    write_report(tmp_path / "report.html", *judged)
    page = (tmp_path / "report.html").read_text()
    assert "The network does not survive: tinted.\nA change is survived" in page
    assert 'aria-label="Coverage against accuracy"' in page
    write_report(tmp_path / "report.html", replace(judged[0], behaviour=judged[0].behaviour[:1]), judged[1])
    assert "The network survives all of them." in (tmp_path / "report.html").read_text()


def test_the_same_evaluation_is_written_in_the_same_bytes(judged, folder, tmp_path):
    write_evaluation(*judged, tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_a_folder_that_cannot_be_made_is_named(judged, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((PocketAffectError, OSError), match="file"):
        write_evaluation(*judged, tmp_path / "file" / "metrics")
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_absent_class_leaves_empty_fields_and_no_nan_and_what_nobody_asked_for_is_left_out(tmp_path):
    true = np.arange(7).repeat(4)
    labels = Labels(true, np.zeros((28, 2), np.float32))
    predictions = Predictions(certain(true), np.zeros((28, 2), np.float32))
    evaluation = evaluate_predictions(predictions, labels, labels)
    table = PredictionTable(tuple(map(str, range(28))), predictions, labels)
    write_evaluation(evaluation, table, tmp_path)
    contempt = read_csv(tmp_path / "per_class.csv")[7]
    assert contempt["support"] == "0"
    assert contempt["precision"] == contempt["recall"] == contempt["f1"] == contempt["error_valence"] == ""
    assert evaluation.metrics["macro_f1"] == evaluation.metrics["worst_class_recall"] == 1
    assert evaluation.absent_classes == ["contempt"]
    write_report(tmp_path / "report.html", evaluation, table)
    page = (tmp_path / "report.html").read_text()
    assert not {path.name for path in tmp_path.iterdir()} & {"intervals.json", "slices.csv", "behaviour.csv"}
    assert "1 of 8 expressions have no face here and are not measured:\ncontempt." in page
    assert "<h2>Calibration</h2>" in page
    assert "<h2>Slices</h2>" not in page
    assert "nan" not in re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.S).lower()


@pytest.mark.parametrize(("present", "missing"), [("expression", "RMSE valence"), ("affect", "Accuracy")])
def test_data_with_labels_for_one_task_is_judged_on_it_and_the_other_is_named(tmp_path, present, missing):
    predictions, labels = draw_rows(60)
    one = {
        "expression": Labels(labels.expression, np.full((60, 2), np.nan, np.float32)),
        "affect": Labels(np.full(60, -1), labels.valence_arousal),
    }[present]
    everyone = {"kind": {"all": np.ones(60, bool)}}
    evaluation = replace(
        evaluate_predictions(predictions, one, one),
        intervals=bootstrap_metrics(predictions, one, resamples=100),
        slices=slice_metrics(predictions, one, everyone),
    )
    table = PredictionTable(tuple(map(str, range(60))), predictions, one)
    write_evaluation(evaluation, table, tmp_path)
    write_report(tmp_path / "report.html", evaluation, table)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics.keys() == evaluation.metrics.keys() < METRIC_TITLES.keys()
    assert ("accuracy" in metrics, "ccc_valence" in metrics) == (present == "expression", present == "affect")
    assert json.loads((tmp_path / "intervals.json").read_text()).keys() == metrics.keys() - {
        "expected_calibration_error"
    }
    assert (tmp_path / "calibration.json").exists() == (tmp_path / "priors.json").exists() == (present == "expression")
    # DVC's plots name these files: without rows they hold their columns alone.
    columns = {
        "confusion": "actual,predicted",
        "reliability": "confidence,accuracy,faces",
        "valence": "truth,prediction",
    }
    empty = {"expression": {"valence"}, "affect": {"confusion", "reliability"}}[present]
    for name, header in columns.items():
        lines = (tmp_path / f"{name}.csv").read_text().splitlines()
        assert lines[0] == header
        assert (len(lines) == 1) == (name in empty)
    page = (tmp_path / "report.html").read_text()
    (named,) = re.findall(r"Not measured, since no face has the labels: (.*)\.</p>", page)
    assert missing in named
    assert f'<th scope="row">{missing}' not in page
    assert "<h2>Slices</h2>" in page
    assert ("<h2>Calibration</h2>" in page) == (present == "expression")
    assert "nan" not in re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.S).lower()
    shown = summary_table(evaluation.metrics, evaluation.floors)
    assert missing in shown.splitlines()[-1]
    assert not any(line.startswith(missing) for line in shown.splitlines())


FIGURES = {
    "training": lambda _: plots.draw_training_curves(HISTORY, best_epoch=2),
    "confusion": lambda judged: plots.draw_confusion(judged[0].confusion),
    "affect": lambda judged: plots.draw_affect_scatter(judged[1].predictions, judged[1].labels, judged[0]),
    "reliability": lambda judged: plots.draw_reliability(judged[0].calibration),
    "classes": lambda judged: plots.draw_class_bars(judged[0].per_class),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figures_repeat_byte_for_byte_and_every_text_lies_inside(judged, name):
    figure = FIGURES[name](judged)
    svg = figures.render_svg(figure)
    assert svg == figures.render_svg(FIGURES[name](judged))
    assert "<dc:date>" not in svg
    assert figures.render_png(figure, dpi=50) == figures.render_png(FIGURES[name](judged), dpi=50)
    figure.canvas.draw()
    for axis in figure.axes:
        ticks = (*axis.xaxis.get_major_ticks(), *axis.yaxis.get_major_ticks())
        texts = [*axis.texts, axis._left_title, axis.xaxis.label, axis.yaxis.label]
        texts += [tick.label1 for tick in ticks if axis.viewLim.padded(1e-9).contains(*tick_place(axis, tick))]
        for text in filter(lambda text: text.get_text(), texts):
            box = text.get_window_extent()
            assert figure.bbox.contains(*box.min), text
            assert figure.bbox.contains(*box.max), text


def tick_place(axis, tick):
    """A point of the view at the tick's position, so that ticks beyond the view can be told."""
    x, y = axis.viewLim.min
    return (tick.get_loc(), y) if tick in axis.xaxis.get_major_ticks() else (x, tick.get_loc())


class Links(HTMLParser):
    """Addresses that a page would load, ids, and elements."""

    def __init__(self):
        super().__init__()
        self.addresses, self.ids, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)


def test_the_report_needs_no_network_and_no_script_and_escapes_what_it_is_told(judged, tmp_path):
    facts = {"Model": "<script>alert(1)</script>"}
    write_report(tmp_path / "report.html", *judged, history=HISTORY, best_epoch=2, facts=facts)
    page = (tmp_path / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert all(address.startswith(("#", "data:image/png")) for address in links.addresses)
    assert "script" not in links.tags
    assert len(links.ids) == len(set(links.ids))
    assert {address[1:] for address in links.addresses if address.startswith("#")} <= set(links.ids)
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 6
    assert "AffectNet validation, not this data" in page
    assert f"{judged[0].metrics['ccc_arousal']:.3f}" in page
    interval = judged[0].intervals["auc"]
    assert f"{interval.low:.3f} to {interval.high:.3f}" in page
    assert "b.csv (few)" in page
    assert "a.csv (few)" not in page
    assert "prefers-color-scheme: dark" in page


def test_the_summary_shows_each_metric_beside_its_floors(judged):
    lines = summary_table(judged[0].metrics, judged[0].floors).splitlines()
    assert lines[0].split() == ["model", "constant", "class", "lookup", "oracle"]
    shown = {line[:14].strip(): line[14:].split() for line in lines[1:]}
    assert list(shown) == ["Accuracy", "Macro F1", "RMSE valence", "RMSE arousal", "CCC valence", "CCC arousal"]
    assert shown["Accuracy"][2:] == ["n/a", "n/a"]
    floors = judged[0].floors
    assert shown["RMSE valence"] == [
        f"{row['rmse_valence']:.3f}" for row in (judged[0].metrics, *(floors[name] for name in floors))
    ]


DVC_PLOTS = """
plots:
  - Confusion: {template: confusion_normalized, x: predicted, y: {confusion.csv: actual}}
  - Valence: {template: scatter, x: truth, y: {valence.csv: prediction}}
  - Arousal: {template: scatter, x: truth, y: {arousal.csv: prediction}}
metrics: [metrics.json]
"""


@pytest.mark.slow
def test_dvc_renders_the_tables_as_plots_and_reads_the_metrics(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dvc.yaml").write_text(DVC_PLOTS)

    def dvc(*arguments):
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    dvc("init", "--no-scm", "--quiet")
    shown = json.loads(dvc("plots", "show", "--json"))
    assert "errors" not in shown
    assert shown["data"].keys() == {"Confusion", "Valence", "Arousal"}
    for plots_of_name in shown["data"].values():
        assert plots_of_name[0]["content"]["data"]["values"]
    dvc("plots", "show", "-o", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert all(name in page for name in ("Confusion", "Valence", "Arousal"))
    metrics = json.loads(dvc("metrics", "show", "--json"))
    assert metrics[""]["data"]["metrics.json"]["data"] == json.loads((tmp_path / "metrics.json").read_text())
