from __future__ import annotations

import io

from rich.console import Console
from sweep_parts import make_params

from pocketaffect.evaluation.intervals import Interval
from pocketaffect.models.network import NetworkSpec
from pocketaffect.sweep.plots import draw_fronts, draw_history, draw_importance, draw_parallel
from pocketaffect.sweep.references import Reference
from pocketaffect.sweep.results import TrialRow
from pocketaffect.sweep.space import read_space
from pocketaffect.sweep.table import TrialLines, describe_progress, describe_settings, draw_table

PARAMS = make_params(trials=9)
SETTINGS = {
    "model.architecture": "mobilenet",
    "model.width": 0.2,
    "train.learning_rate": 0.003,
    "train.class_weights": "none",
}


def make_row(number, outcome="done", score=0.5, size=1_900_000, **more):
    values = {"first": number, "settings": SETTINGS, "epochs": 3, "seconds": 1.0, "remark": "", "curve": {}} | more
    return TrialRow(number=number, outcome=outcome, score=score, bytes=size, macs=size // 100, **values)


ROWS = [
    make_row(0),
    make_row(1, score=0.75, size=1_000_000),
    make_row(2, "over budget", None, 2_500_000, epochs=0),
    make_row(3, "failed", None, remark="PocketAffectError: loss is nan", epochs=0),
    make_row(4, "stopped early", 0.25, epochs=1),
    make_row(5, "running", None, epochs=0, curve={1: 0.4}),
]


def test_settings_fit_into_a_few_letters():
    assert describe_settings(SETTINGS) == "mobilenet x0.2 lr 0.003 none"
    assert describe_settings({"model.full_resolution_stem": False}) == "no full_resolution_stem"


def test_a_line_is_written_for_each_trial_that_ends_and_one_for_all_before():
    lines = []
    watcher = TrialLines(PARAMS.sweep, lines.append)
    watcher.update(ROWS[:1])
    watcher.update(ROWS)
    watcher.update(ROWS)
    assert lines[0] == "going on: 1 of 9 trials, 3 epochs; best so far trial 0: 0.5000 in 1,900,000 bytes"
    assert [line.split(",")[0] for line in lines[1:]] == [
        "trial 1 done",
        "trial 2 over budget",
        "trial 3 failed",
        "trial 4 stopped early",
    ]
    assert "budget left -500,000" in lines[2]
    assert "loss is nan" in lines[3]
    assert "best so far trial 1: 0.7500" in lines[4]
    assert lines[4].endswith("left")


def test_no_time_is_promised_before_a_trial_on_all_faces_has_ended():
    lines = []
    watcher = TrialLines(PARAMS.sweep.model_copy(update={"faces": 600}), lines.append)  # six trials of nine on a part
    part = [make_row(number, faces=600) for number in range(6)]
    for rows in ([], part[:3], part, [*part, make_row(6)]):
        watcher.update(rows)
    assert len(lines) == 7
    assert [line.endswith("left") for line in lines] == [False] * 6 + [True]


def test_the_table_has_score_bytes_budget_best_and_time():
    text = io.StringIO()
    Console(file=text, width=160).print(draw_table(ROWS, PARAMS.sweep, 3700))
    lines = text.getvalue().splitlines()
    assert lines[0].split() == ["trial", "outcome", "score", "bytes", "budget", "left", "epochs", "settings"]
    assert lines[2].split()[:6] == ["1", "done", "0.7500", "1,000,000", "1,000,000", "3"]
    assert lines[2].rstrip().endswith("mobilenet x0.2 lr 0.003 none")
    assert "about 1:01:40 left" in lines[-1]
    assert "left" not in describe_progress(ROWS, PARAMS.sweep)


def test_the_pictures_are_the_same_at_every_drawing_and_need_no_finished_trial():
    from pocketaffect.figures import render_png

    def draw(rows):
        importance = {"width": Interval(0.75, 0.6, 0.9), "learning_rate": Interval(0.25, 0.1, 0.4)} if rows else {}
        spec = NetworkSpec("mobilenet", 0.1, 32, "plain")
        references = [Reference("paper's", spec, 3_000_000), Reference("champion", spec, 1_000_000, 0.6)]
        fronts = draw_fronts(rows, PARAMS.sweep, PARAMS.model.architecture, references)
        figures = draw_history(rows), fronts, draw_importance(importance)
        return [render_png(figure, dpi=50) for figure in (*figures, draw_parallel(rows, read_space(PARAMS)))]

    assert draw(ROWS) == draw(ROWS)
    assert len(draw([])) == 4
