import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pocketaffect.cli.main import main
from pocketaffect.compare import compare_runs
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.prediction_table import PredictionTable, write_predictions
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import CLASS_MEAN_VA

FACES = 200
PARAMS = Path(__file__).parent.parent / "params.yaml"


def answers(right, faces=FACES):
    """Answers of which about the share `right` names the true expression; the same labels for every share."""
    rng = np.random.default_rng(0)
    true, means = np.arange(faces) % 8, np.array(CLASS_MEAN_VA)
    affect = np.clip(means[true] + rng.normal(0, 0.1, (faces, 2)), -1, 1).astype(np.float32)
    guess = np.where(rng.random(faces) < right, true, (true + 1) % 8)
    scores = np.full((faces, 8), 0.05)
    scores[np.arange(faces), guess] = 0.65
    predictions = Predictions(scores.astype(np.float32), means[guess].astype(np.float32))
    return PredictionTable(tuple(f"{row}.jpg" for row in range(faces)), predictions, Labels(true, affect))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository's folder with the predictions of a worse and a better model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    Path("params.yaml").write_text(PARAMS.read_text())
    write_predictions(Path("worse.parquet"), answers(0.5))
    write_predictions(Path("out/evaluation/predictions.parquet"), answers(0.8))
    write_predictions(Path("out/export/predictions.parquet"), answers(0.75))
    return tmp_path


def compare(*runs, form="shipped"):
    return compare_runs(runs, form=form, model_name="pocketaffect", resamples=200)


def test_a_file_and_a_folder_are_compared_on_the_same_faces(place):
    found = compare("worse.parquet", "out")
    (better,) = found.others
    assert (found.first, better.name) == ("worse.parquet", "out (shipped)")
    assert better.metrics["accuracy"].difference > 0.15
    assert better.metrics["accuracy"].verdict == better.metrics["rmse_valence"].verdict == "better"
    assert better.same_class < 1


def test_a_folder_has_the_shipped_files_predictions_and_the_networks(place):
    first, second = (compare("worse.parquet", "out", form=form).others[0] for form in ("shipped", "network"))
    assert first.metrics["accuracy"].ours < second.metrics["accuracy"].ours
    inside = compare("worse.parquet", "out/evaluation", form="network").others[0]
    assert inside.metrics == second.metrics


def test_the_table_names_each_metric_and_both_models(place):
    done = CliRunner().invoke(main, ["compare", "worse.parquet", "out", "out/evaluation", "--resamples", "100"])
    assert done.exit_code == 0, done.output
    assert "first: worse.parquet" in done.output
    assert done.output.count("against the first") == 2
    assert done.output.count("Macro F1") == 2
    assert "better" in done.output
    assert f"{FACES} faces: {FACES} with an expression" in done.output


def test_json_holds_what_the_table_shows(place):
    done = CliRunner().invoke(main, ["compare", "worse.parquet", "out", "--json", "--resamples", "100"])
    found = json.loads(done.output)["others"]["out (shipped)"]
    row = found["metrics"]["ccc_arousal"]
    assert row["difference"] == pytest.approx(row["this"] - row["first"], abs=2e-6)
    assert row["low"] <= row["difference"] <= row["high"]
    assert found["expected_calibration_error"].keys() == {"first", "this"}


def test_models_are_compared_on_the_one_task_that_the_faces_are_labelled_for(place):
    for name, right in (("first", 0.5), ("second", 0.9)):
        table = answers(right)
        labels = Labels(table.labels.expression, np.full((FACES, 2), np.nan, np.float32))
        write_predictions(Path(f"{name}.parquet"), PredictionTable(table.paths, table.predictions, labels))
    done = CliRunner().invoke(main, ["compare", "first.parquet", "second.parquet", "--resamples", "100"])
    assert done.exit_code == 0, done.output
    assert "0 with valence and arousal" in done.output
    (missing,) = (line for line in done.output.splitlines() if line.startswith("not measured"))
    assert "CCC arousal" in missing
    assert "Accuracy" not in missing
    assert "better" in done.output


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["worse.parquet"], "nothing to compare with"),
        (["out", "out"], "named twice"),
        (["worse.parquet", "out/nothing"], "out/nothing: no such file or folder"),
        (["worse.parquet", "none.parquet"], "none.parquet: no such file or folder"),
        (["worse.parquet", "empty"], r"empty: no predictions of the shipped model\n.*empty/export/predictions.parquet"),
        (["worse.parquet", "params.yaml"], "params.yaml: not readable as a table"),
        (["worse.parquet", "fewer.parquet"], r"different faces\n.*20 only in worse.parquet \(such as 180.jpg\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(place, runs, message):
    Path("empty").mkdir()
    write_predictions(Path("fewer.parquet"), answers(0.5, faces=180))
    with pytest.raises(PocketAffectError, match=message):
        compare(*runs)


@pytest.mark.slow
def test_runs_and_versions_of_the_registry_are_found_by_id_number_and_alias(place):
    from pocketaffect.registry.store.store import open_store

    store = open_store()
    client, experiment = store.client(), store.experiment_id("pocketaffect")
    client.create_registered_model("pocketaffect")
    ids = []
    for right in (0.5, 0.9):
        run = client.create_run(experiment)
        ids.append(run.info.run_id)
        write_predictions(Path("predictions.parquet"), answers(right))
        client.log_artifact(ids[-1], "predictions.parquet")
        client.create_model_version("pocketaffect", f"{run.info.artifact_uri}/model", ids[-1])
    Path("predictions.parquet").unlink()
    client.set_registered_model_alias("pocketaffect", "candidate", "2")
    by_number, by_alias = (compare("1", name).others[0] for name in ("2", "@candidate"))
    assert by_number == by_alias
    assert by_number.name == "pocketaffect version 2 (shipped, candidate)"
    assert by_number.metrics["accuracy"].verdict == "better"
    by_id = compare(*ids).others[0]
    assert by_id.metrics == by_number.metrics
    for runs, form, message in (
        (("2", "candidate"), "shipped", "named twice"),
        (("1", "3"), "shipped", "no version '3'"),
        (("1", "champion"), "shipped", "no version 'champion'"),
        (("1", "0" * 32), "shipped", "no such run"),
        (("1", "2"), "network", r"version 1: keeps no predictions of the network model"),
    ):
        with pytest.raises(PocketAffectError, match=message):
            compare(*runs, form=form)
