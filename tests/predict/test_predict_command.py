from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from pocketaffect.cli.main import main
from pocketaffect.data.faces.crop import crop_face
from pocketaffect.labels import EXPRESSIONS
from pocketaffect.predict.models import open_model
from pocketaffect.predict.reader import AffectReader


@pytest.fixture(scope="module")
def inputs(photograph, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    bgr = photograph[..., ::-1]
    cv2.imwrite(str(folder / "face.jpg"), cv2.resize(bgr, (1024, 1024)))
    cv2.imwrite(str(folder / "none.png"), np.full((64, 64, 3), 127, np.uint8))
    film = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (256, 256))
    small = cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_AREA)
    for shift in range(6):
        film.write(np.roll(small, 2 * shift, axis=1))
    film.release()
    return folder


@pytest.fixture
def predict(twin):
    def call(*arguments: object):
        return CliRunner().invoke(main, ["predict", "--model", str(twin), *map(str, arguments)])

    return call


def test_a_folder_gives_a_row_for_each_face_and_one_for_a_picture_without(predict, inputs):
    done = predict(inputs)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["input"]).name for row in rows] == ["face.jpg", *["film.avi"] * 6, "none.png"]
    assert [row["faces"] for row in rows] == [1] * 7 + [0]
    assert rows[-1]["expression"] is None
    assert [row["track"] for row in rows[1:7]] == [0] * 6
    assert [row["seconds"] for row in rows[1:7]] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    for row in rows[:7]:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["expression"] == max(row["probabilities"], key=row["probabilities"].get)


def test_csv_holds_what_json_lines_hold(predict, inputs):
    rows = [json.loads(line) for line in predict(inputs).stdout.splitlines()]
    lines = list(csv.DictReader(io.StringIO(predict(inputs, "--format", "csv").stdout)))
    assert len(lines) == len(rows)
    for line, row in zip(lines[:-1], rows[:-1], strict=True):
        assert [float(line[f"p_{name}"]) for name in EXPRESSIONS] == list(row["probabilities"].values())
        assert [float(line[name]) for name in ("x", "y", "width", "height")] == row["box"]
        assert (float(line["valence"]), line["expression"]) == (row["valence"], row["expression"])
    assert lines[-1]["faces"] == "0"
    assert set(list(lines[-1].values())[4:]) == {""}


def test_the_model_sees_what_training_would_cut_out_of_the_whole_picture(twin, inputs):
    reader, seen = AffectReader(twin), []
    answer = reader.model.predict
    reader.model = replace(reader.model, predict=lambda crops: seen.append(crops) or answer(crops))
    for reading in reader.read_files([inputs / "face.jpg", inputs / "film.avi"], pytest.fail):
        wanted = crop_face(reading.picture.pixels, reading.faces[0].box, margin=0.1, size=64)
        cut = seen[-1][0] if reading.picture.frame is None else seen[-1][reading.picture.frame + 1]
        np.testing.assert_array_equal(cut, wanted)


def test_the_png_of_a_photograph_answers_as_its_jpeg(predict, inputs, tmp_path):
    """A JPEG decoded at a smaller size, as shards do it, would not."""
    cv2.imwrite(str(tmp_path / "face.png"), cv2.imread(str(inputs / "face.jpg")))
    jpeg, png = (
        json.loads(predict(file).stdout) | {"input": ""} for file in (inputs / "face.jpg", tmp_path / "face.png")
    )
    assert jpeg == png


def test_a_network_of_drawings_speaks_with_a_warning(twin, relabelled, inputs):
    def read(model: object):
        return CliRunner().invoke(main, ["predict", "--model", str(model), str(inputs / "face.jpg")])

    drawn = read(relabelled(trained_on="drawings", unsure_below="1"))
    row = json.loads(drawn.stdout)
    assert (row["trained_on"], row["unsure"]) == ("drawings", True)
    assert "warning: this network was trained on drawings" in drawn.stderr
    for model, known in ((relabelled(trained_on="photographs", unsure_below="0"), "photographs"), (twin, None)):
        done = read(model)
        assert done.stderr == ""
        row = json.loads(done.stdout)
        assert (row["trained_on"], row["unsure"]) == (known, None if known is None else False)


def test_answers_do_not_depend_on_the_batch(predict, inputs):
    assert predict(inputs, "--batch", 1).stdout == predict(inputs, "--batch", 32).stdout


def test_steps_leave_frames_out_and_smoothing_changes_only_films(predict, inputs):
    film = [json.loads(line) for line in predict(inputs / "film.avi", "--step", 2).stdout.splitlines()]
    assert [row["frame"] for row in film] == [0, 2, 4]
    plain, smooth = (predict(inputs, "--smooth", value).stdout.splitlines() for value in (0, 5))
    assert plain[:2] == smooth[:2]  # the image, and the film's first frame
    assert plain[2:7] != smooth[2:7]


def test_without_detection_the_whole_picture_is_the_face(predict, inputs, twin):
    (row,) = map(json.loads, predict("--no-detect", inputs / "face.jpg").stdout.splitlines())
    assert (row["faces"], row["box"], row["score"]) == (1, None, None)
    whole = crop_face(cv2.imread(str(inputs / "face.jpg"))[..., ::-1], None, margin=0, size=64)
    wanted = open_model(str(twin)).predict(whole[None])
    assert list(row["probabilities"].values()) == pytest.approx(wanted.probabilities[0], abs=1e-4)


def test_annotated_pictures_differ_from_the_inputs_only_around_the_face(predict, inputs, tmp_path):
    predict(inputs, "--annotate", tmp_path / "seen")
    assert sorted(path.relative_to(tmp_path / "seen").as_posix() for path in (tmp_path / "seen").rglob("*.*g")) == [
        "face.jpg.png",
        *(f"film.avi/{frame:06d}.jpg" for frame in range(6)),
        "none.png.png",
    ]
    drawn, given = (cv2.imread(str(file)) for file in (tmp_path / "seen/face.jpg.png", inputs / "face.jpg"))
    changed = np.argwhere((np.abs(drawn.astype(int) - given) > 8).any(axis=2))
    assert len(changed) > 500
    assert changed.min(axis=0).tolist() > [90, 300]
    assert changed.max() < 700


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("zero.jpg", b"", "empty file"),
        ("text.jpg", b"hello", "not an image"),
        ("zero.mp4", b"", "empty file"),
        ("text.mp4", b"hello", "not a single frame"),
    ],
)
def test_a_bad_input_is_named_and_the_rest_is_done(predict, inputs, tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    done = predict(tmp_path / name, inputs / "face.jpg")
    assert done.exit_code == 1
    assert name in done.stderr
    assert problem in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_missing_inputs_and_empty_folders_are_named(predict, tmp_path):
    done = predict(tmp_path, tmp_path / "missing.jpg")
    assert done.exit_code == 1
    assert "no image or film in this folder" in done.stderr
    assert "missing.jpg: no such file or folder" in done.stderr


def test_output_goes_to_a_file_whole_and_a_place_that_cannot_be_written_is_refused(predict, inputs, tmp_path):
    file = tmp_path / "new" / "rows.jsonl"
    assert predict(inputs / "face.jpg", "--output", file).stdout == ""
    assert file.read_text() == predict(inputs / "face.jpg").stdout
    for option, place in (("--output", file / "x.csv"), ("--annotate", file / "x")):
        done = predict(inputs / "face.jpg", option, place)
        assert done.exit_code == 1
        assert "cannot be written to" in done.stderr


def test_a_folder_is_not_replaced_by_the_output(predict, inputs, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "letters.txt").write_text("mine")
    done = predict(inputs / "face.jpg", "--output", tmp_path / "kept")
    assert done.exit_code == 2
    assert "is a directory" in done.stderr
    assert (tmp_path / "kept" / "letters.txt").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_ends_quietly_with_130_and_leaves_no_output(twin, inputs, tmp_path):
    target = tmp_path / "rows.jsonl"
    many = [str(inputs / "film.avi")] + [str(path) for path in _copies(inputs / "film.avi", tmp_path / "films", 400)]
    command = [sys.executable, "-c", "from pocketaffect.cli.main import main; main()"]
    command += ["predict", "--model", str(twin), "--output", str(target), *many]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not list(tmp_path.glob(".rows.jsonl.*")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("*rows*"))


def _copies(file: Path, folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    made = [folder / f"{number}.avi" for number in range(count)]
    for path in made:
        path.hardlink_to(file)
    return made
