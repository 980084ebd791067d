"""`pocketaffect score` on a small data set in AffectNet's CSV layout: photographs, and pictures without a face."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pocketaffect import AffectReader
from pocketaffect.cli.main import main
from pocketaffect.data.faces.crop import FaceBox
from pocketaffect.data.release.csv_release import CSV_COLUMNS
from pocketaffect.evaluation.prediction_table import read_predictions

BOX = (179, 60, 89, 114)


def write_list(file: Path, rows: list[tuple[str, tuple[int, ...], int, float]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(CSV_COLUMNS)
        for path, box, expression, affect in rows:
            writer.writerow([path, *box, "", expression, affect, affect])


@pytest.fixture
def data(photograph, tmp_path) -> Path:
    """Two sources: four photographs, and two pictures in which nobody is; and a row with a label that there is not."""
    folder = tmp_path / "own faces"
    for source, count in (("portraits", 5), ("walls", 2)):
        (folder / "Manually_Annotated_Images" / source).mkdir(parents=True)
        for number in range(count):
            wall = np.full_like(photograph, 99)
            pixels = np.clip((photograph if source == "portraits" else wall).astype(int) - 9 * number, 0, 255)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / "Manually_Annotated_Images" / source / f"{number}.png")
    portraits = [(f"portraits/{number}.png", BOX, number, 0.1 * number) for number in range(4)]
    walls = [(f"walls/{number}.png", BOX, 6, 0.5) for number in range(2)]
    write_list(folder / "training.csv", portraits[:1])
    write_list(folder / "validation.csv", [*portraits[1:], *walls, ("portraits/4.png", BOX, 77, 0.0)])
    return folder


@pytest.fixture
def score(twin, tmp_path):
    def call(data: Path, *arguments: str):
        return CliRunner().invoke(
            main, ["score", str(twin), str(data), "--output", str(tmp_path / "report"), *arguments]
        )

    return call


def test_faces_are_scored_by_the_given_box_and_by_our_own_detector(score, data, twin, photograph, tmp_path):
    done = score(data, "--split", "all")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "report/score.json").read_text())
    assert summary["given-box"]["found"] == 1
    assert (summary["own-detector"]["found"], summary["own-detector"]["missed"]) == (pytest.approx(4 / 6), 2)
    assert "6 (all); 1 break the data contract" in summary["facts"]["rows"]
    table = read_predictions(tmp_path / "report/given-box/predictions.parquet")
    reader = AffectReader(twin)
    wanted = reader.model.predict(reader.cut(photograph, FaceBox(*BOX))[None])
    np.testing.assert_allclose(table.predictions.probabilities[0], wanted.probabilities[0], atol=1e-6)
    (face,) = reader.read(photograph)
    detected = read_predictions(tmp_path / "report/own-detector/predictions.parquet")
    assert detected.predictions.probabilities[0] == pytest.approx(list(face.probabilities.values()), abs=1e-6)
    right = table.predictions.expression == table.labels.expression
    assert summary["given-box"]["metrics"]["accuracy"] == pytest.approx(right.mean(), abs=1e-5)
    for way in ("given-box", "own-detector"):
        assert "Confusion matrix" in (tmp_path / "report" / way / "report.html").read_text()
    assert "Accuracy, Manually_Annotated_Images/walls" in done.stdout


def test_rows_to_judge_and_the_way_are_chosen(score, data, tmp_path):
    done = score(data, "--by", "given-box")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "report/score.json").read_text())
    assert "own-detector" not in summary
    assert summary["facts"]["rows"].startswith("5 (validation)")


def test_valence_and_arousal_from_votes_are_said_to_be_derived(score, data, photograph, tmp_path):
    assert score(data, "--by", "given-box").exit_code == 0
    assert "labels" not in json.loads((tmp_path / "report/score.json").read_text())["facts"]
    for number, folder in enumerate(("FER2013Train", "FER2013Valid")):
        (tmp_path / "fer" / folder).mkdir(parents=True)
        Image.fromarray(photograph).convert("L").resize((48, 48)).rotate(number).save(
            tmp_path / "fer" / folder / "a.png"
        )
        (tmp_path / "fer" / folder / "label.csv").write_text('a.png,"(0, 0, 48, 48)",1,8,1,0,0,0,0,0,0,0\n')
    done = score(tmp_path / "fer", "--by", "given-box")
    assert done.exit_code == 0, done.output
    assert "derived" in json.loads((tmp_path / "report/score.json").read_text())["facts"]["labels"]
    assert "derived" in (tmp_path / "report/given-box/report.html").read_text()


def test_data_without_labels_is_refused_and_the_last_report_stays(score, data, tmp_path):
    assert score(data).exit_code == 0
    write_list(data / "validation.csv", [("portraits/1.png", BOX, 8, -2.0)])
    done = score(data)
    assert done.exit_code == 1
    assert "no face to score by" in done.stderr
    assert (tmp_path / "report/score.json").is_file()


def test_a_file_of_no_version_has_no_run_to_log_to(score, data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = score(data, "--by", "given-box", "--log")
    assert done.exit_code == 1
    assert "no store here yet" in done.stderr
