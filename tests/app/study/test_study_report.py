import html
import re

import krippendorff
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn import metrics as sk
from study_parts import add_run

from pocketaffect.app.study import report as report_module
from pocketaffect.app.study.protocol import PROBABILITY_COLUMNS, PROMPTS
from pocketaffect.app.study.report import analyse
from pocketaffect.app.study.store import EXPORT_COLUMNS, StudyStore
from pocketaffect.cli.main import main
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

RUNS = 7


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("study") / "study.db"
    store = StudyStore(file)
    for seed in range(RUNS):
        add_run(store, seed)
    add_run(store, 99, prompts=4)
    store.close()
    return file


@pytest.fixture(scope="module")
def rows(file):
    store = StudyStore(file)
    yield store.rows()
    store.close()


@pytest.fixture(scope="module")
def table(rows):
    return pd.DataFrame(rows, columns=EXPORT_COLUMNS)


@pytest.fixture(scope="module")
def analysed(rows):
    return analyse(rows)


def measure(table: pd.DataFrame) -> dict[str, float]:
    """Every figure again, by scikit-learn, scipy, krippendorff and pandas."""
    classed = table[~table.prompt.isin([3, 5])]
    true, predicted, classes = classed.expected, classed.predicted, range(len(EXPRESSIONS))
    scores = classed[list(PROBABILITY_COLUMNS)].to_numpy()
    figures = {
        "accuracy": sk.accuracy_score(true, predicted),
        "macro_f1": sk.f1_score(true, predicted, average="macro", labels=classes, zero_division=0),
        "kappa": sk.cohen_kappa_score(true, predicted),
        "krippendorff_alpha": krippendorff.alpha([true, predicted], level_of_measurement="nominal"),
        "auc": np.mean([sk.roc_auc_score(true == index, scores[:, index]) for index in classes]),
        "aucpr": np.mean([sk.average_precision_score(true == index, scores[:, index]) for index in classes]),
    }
    for name in ("valence", "arousal"):
        x, y = table[name], table[f"annotated_{name}"]
        figures |= {
            f"rmse_{name}": sk.root_mean_squared_error(y, x),
            f"corr_{name}": stats.pearsonr(x, y).statistic,
            f"sagr_{name}": (np.sign(x) == np.sign(y)).mean(),
            f"ccc_{name}": 2
            * np.cov(x, y, ddof=0)[0, 1]
            / (x.var(ddof=0) + y.var(ddof=0) + (x.mean() - y.mean()) ** 2),
        }
    return figures


def rate(table: pd.DataFrame) -> dict[str, float]:
    right = table[table.expected == table.predicted].rating.mean()
    wrong = table[table.expected != table.predicted].rating.mean()
    by_prompt = {PROMPTS[number - 1].id: mean for number, mean in table.groupby("prompt").rating.mean().items()}
    return {"all": table.rating.mean(), "right": right, "wrong": wrong, "right_minus_wrong": right - wrong, **by_prompt}


def test_every_metric_is_what_independent_libraries_say(analysed, table):
    for name, value in measure(table).items():
        assert analysed.metrics[name].value == pytest.approx(value, abs=1e-6), name


def test_every_mean_rating_is_what_pandas_says(analysed, table):
    expected = rate(table)
    assert set(expected) == set(analysed.ratings)
    for name, value in expected.items():
        assert analysed.ratings[name].value == pytest.approx(value), name
    assert analysed.ratings["right"].rows == (table.expected == table.predicted).sum()


def test_the_confusion_matrix_is_scikit_learn_s(analysed, table):
    classed = table[~table.prompt.isin([3, 5])]
    expected = sk.confusion_matrix(classed.expected, classed.predicted, labels=range(8))
    assert analysed.confusion.tolist() == expected.tolist()
    assert (analysed.runs, analysed.complete, analysed.rows) == (RUNS + 1, RUNS, 10 * RUNS + 4)


def test_intervals_are_quantiles_over_draws_of_whole_runs(rows, table, monkeypatch):
    monkeypatch.setattr(report_module, "RESAMPLES", 20)
    analysed = analyse(rows, seed=4)
    runs = sorted(table.run.unique())
    draws = np.random.default_rng(4).integers(0, len(runs), (20, len(runs)))
    drawn = [pd.concat([table[table.run == runs[index]] for index in draw]) for draw in draws]
    values = [
        {
            "accuracy": (part.expected == part.predicted)[~part.prompt.isin([3, 5])].mean(),
            "rmse_valence": ((part.valence - part.annotated_valence) ** 2).mean() ** 0.5,
            "corr_arousal": part.arousal.corr(part.annotated_arousal),
            **rate(part),
        }
        for part in drawn
    ]
    for name, series in pd.DataFrame(values).items():
        low, high = np.nanquantile(series, [0.025, 0.975])
        figure = analysed.metrics.get(name) or analysed.ratings[name]
        assert (figure.low, figure.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6)), name


def test_one_run_has_no_interval(rows):
    analysed = analyse([row for row in rows if row[0] == rows[0][0]])
    assert np.isnan(analysed.metrics["accuracy"].low)
    assert np.isnan(analysed.ratings["all"].high)


def test_a_study_without_rows_is_no_report():
    with pytest.raises(PocketAffectError, match="nothing to report"):
        analyse([])


@pytest.mark.slow  # the page's confusion matrix imports torch
def test_the_commands_write_the_rows_and_a_page_that_shows_every_figure(file, rows, table, tmp_path):
    target = tmp_path / "report.html"
    for command, place in (("report", target), ("export", tmp_path / "rows.csv")):
        done = CliRunner().invoke(main, ["study", command, "--store", str(file), "--to", str(place)])
        assert done.exit_code == 0, done.output
    assert len(pd.read_csv(tmp_path / "rows.csv")) == len(rows)
    page = target.read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for value in (*measure(table).values(), *rate(table).values()):
        assert f"{value:.3f}" in text
    assert not re.search(r"<script|(src|href)=[\"']?(http|//)", page)
    assert "0.49" in text


def test_a_missing_store_is_named_and_not_made(tmp_path):
    done = CliRunner().invoke(main, ["study", "export", "--store", str(tmp_path / "no.db")])
    assert done.exit_code == 1
    assert "no store of a study" in done.output
    assert not (tmp_path / "no.db").exists()
