"""A real sweep of tiny networks, its winner adopted and trained by the pipeline's own stage."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_parts import ROOT, SWEEP, make_root

from pocketaffect import paths
from pocketaffect.config import Params, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.recipes import write_settings
from pocketaffect.sweep.adopt import choose_trial, list_changes
from pocketaffect.sweep.run import look_at_sweep, run_sweep

sys.path.append(str(ROOT / "tests" / "training"))
from training_parts import write_separable_shards

pytestmark = pytest.mark.slow

TINY = SWEEP | {
    "trials": 3,
    "sampler": "tpe",
    "pruner": "hyperband",
    "budget_bytes": 125_000,
    "space": {
        "model.architecture": ["mobilenet"],
        "model.width": {"low": 0.1, "high": 0.13},
        "train.learning_rate": {"low": 0.005, "high": 0.05, "log": True},
    },
}
LOOSE = {"max_mean_probability_difference": 0.1, "min_agreement": 0.1, "max_accuracy_drop": 1.0, "max_rmse_rise": 1.0}


def write_root(folder: Path, sweep: dict[str, Any], export: dict[str, Any], **train: Any) -> Path:
    """A repository with shards and settings for a sweep."""
    from ruamel.yaml import YAML

    root = make_root(folder)
    shutil.rmtree(root / paths.SHARDS)
    write_separable_shards(root / paths.SHARDS)
    shutil.copytree(ROOT / paths.PIPELINES, root / paths.PIPELINES)  # a package names their code
    content = read_yaml(ROOT / "params.yaml")
    content["sweep"] = sweep
    content["preprocess"]["image_size"] = 32
    content["train"] |= {"batch_size": 16} | train
    content["export"] |= export
    with (root / "params.yaml").open("w") as stream:
        YAML().dump(content, stream)
    return root


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A repository whose sweep has ended, and what it ended with."""
    root = write_root(tmp_path_factory.mktemp("whole"), TINY, LOOSE)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        winner = run_sweep(load_params(root / "params.yaml"), root)
    return root, winner


def test_the_winner_is_the_best_trial_and_its_real_package_fits(swept):
    root, winner = swept
    seen = look_at_sweep(load_params(root / "params.yaml"), root)
    assert len(seen.rows) == 3
    assert seen.changes == []
    best = choose_trial(seen.rows, None)
    assert (winner.trial, winner.score, winner.predicted_bytes) == (best.number, best.score, best.bytes)
    package = root / paths.SWEEP / seen.study.study_name / "winner" / paths.PACKAGE.name
    assert winner.bytes == sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) <= 125_000
    assert abs(winner.bytes - winner.predicted_bytes) < 600


def test_the_report_needs_no_network_and_has_every_picture(swept):
    root, winner = swept
    folder = root / paths.SWEEP_REPORT
    page = (folder / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*", page)
    assert page.count("<svg") == 4
    assert all(f"paper's {name}" in html.unescape(page) for name in ("alexnet", "vgg", "mobilenet"))
    assert "nobody can tell what mattered" in page
    assert f"{winner.bytes:,} bytes" in page
    assert {file.name for file in folder.glob("*.png")} == {
        "history.png",
        "importance.png",
        "parallel_coordinates.png",
        "pareto_front.png",
    }


def test_mlflow_has_one_parent_and_a_child_for_each_trial_also_after_a_repeated_call(swept):
    from pocketaffect.registry.store.store import open_store

    root, winner = swept
    assert run_sweep(load_params(root / "params.yaml"), root) == winner
    client = open_store(root).client()
    experiment = client.get_experiment_by_name("pocketaffect-sweeps")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags["sweep.trial"] == "all"]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(run.data.tags["sweep.trial"] for run in children) == ["0", "1", "2"]
    assert len(runs) == 4
    best = next(run for run in children if run.data.tags["sweep.trial"] == str(winner.trial))
    assert best.data.metrics["score"] == pytest.approx(winner.score)
    assert "model.width" in best.data.params
    assert parents[0].data.metrics["best_score"] == pytest.approx(winner.score)


def test_an_adopted_trial_is_trained_again_to_the_bit_by_the_pipeline(swept):
    root, winner = swept
    seen = look_at_sweep(load_params(root / "params.yaml"), root)
    row = choose_trial(seen.rows, winner.trial)
    assert write_settings(list_changes(row, seen.asked), root / "params.yaml")
    subprocess.run([sys.executable, str(ROOT / "pipelines" / "train.py")], cwd=root, check=True, capture_output=True)
    with (root / paths.MODEL / "history.csv").open(newline="") as stream:
        score = max(float(epoch["score"]) for epoch in csv.DictReader(stream))
    assert score == pytest.approx(row.score, rel=1e-5)  # six digits are written
    trial = root / paths.SWEEP / seen.study.study_name / "trials" / f"{row.first:05d}" / "model"
    for file in (root / paths.MODEL).iterdir():
        assert file.read_bytes() == (trial / file.name).read_bytes(), file.name
    assert look_at_sweep(load_params(root / "params.yaml"), root).changes == []


def test_a_best_trial_that_is_not_fit_to_ship_gives_way_to_the_next_best(tmp_path, monkeypatch):
    # Precision changes nothing of a training, so both trials score alike, and the smaller package comes first.
    sweep = TINY | {"trials": 4, "epochs": 12, "sampler": "random", "pruner": "none"}
    sweep["space"] = {"model.width": [0.1], "export.precision": ["palette2", "int8"]}
    recipe = {"optimizer": "adamw", "learning_rate": 0.01, "warmup_epochs": 1, "class_weights": "balanced"}
    root = write_root(tmp_path, sweep, LOOSE | {"min_agreement": 0.85}, **recipe)
    content = read_yaml(root / "params.yaml")
    content["model"] |= {"architecture": "mobilenet"}
    (root / "params.yaml").write_text(json.dumps(content))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = load_params(root / "params.yaml")
    winner = run_sweep(params, root)
    seen = look_at_sweep(params, root)
    precisions = {row.number: row.settings["export.precision"] for row in seen.rows}
    assert precisions[winner.trial] == "int8"
    assert winner.agreement >= 0.85
    best = choose_trial(seen.rows, None)
    assert (precisions[best.number], best.score) == ("palette2", winner.score)
    assert list(seen.unfit) == [best.number]
    assert "agreement" in seen.unfit[best.number]
    assert choose_trial(seen.rows, None, seen.unfit).number == winner.trial
    page = (root / paths.SWEEP_REPORT / "report.html").read_text()
    assert (
        f"package of trial {best.number}, with a higher score, is not fit to ship, so the next best was tried" in page
    )
    assert f"package of trial {winner.trial} was converted" in page
    assert run_sweep(params, root) == winner
    content["export"]["min_agreement"] = 1.0
    content["export"]["max_rmse_rise"] = 0.0
    with pytest.raises(PocketAffectError, match="best 2 trials are not fit to ship") as refused:
        run_sweep(Params.model_validate(content), root)
    assert all(f"trial {number}: export: the" in str(refused.value) for number in (best.number, winner.trial))
