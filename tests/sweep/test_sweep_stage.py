"""The sweep as a DVC stage: what its trainings read must be known to DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sweep_parts import ROOT

from pocketaffect.config import load_params
from pocketaffect.files import read_yaml
from pocketaffect.stage import require_networks

STAGE = Path("pipelines/sweep/dvc.yaml")


def make_repository(folder: Path, *, dependency: str | None = None, **settings) -> None:
    """Writes settings and the stage's file with a dependency more."""
    (folder / STAGE).parent.mkdir(parents=True)
    content = read_yaml(ROOT / STAGE)
    content["stages"]["sweep"]["deps"] += [dependency] if dependency else []
    (folder / STAGE).write_text(yaml.safe_dump(content))
    params = read_yaml(ROOT / "params.yaml")
    for name, value in settings.items():
        section, _, key = name.partition("__")
        params[section][key] = params[section][key] | value if isinstance(value, dict) else value
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def run_stage(folder: Path) -> str:
    """Runs the stage's script as DVC would, in a repository without data, and gives its error."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / "sweep.py")],
        cwd=folder,
        env=os.environ | {"DVC_STAGE": f"{STAGE}:sweep"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("train.distill.teacher", {"train__distill": {"teacher": "teachers/wide"}}),
        ("train.start_from", {"train__start_from": "teachers/wide"}),
        ("model.pretrained", {"model__pretrained": "teachers/wide"}),
        ("sweep.space.train.start_from", {"sweep__space": {"train.start_from": ["teachers/wide"]}}),
    ],
)
def test_a_network_that_is_no_dependency_of_the_sweep_is_refused_before_any_training(key, settings, tmp_path):
    make_repository(tmp_path, **settings)
    error = run_stage(tmp_path)
    assert f"params.yaml: {key}: teachers/wide is no dependency of the stage sweep" in error
    assert f"add `- teachers/wide` to the deps of sweep in {STAGE}" in error
    assert not (tmp_path / ".work").exists()


def test_a_network_that_is_a_dependency_passes(tmp_path, monkeypatch):
    make_repository(tmp_path, dependency="teachers/wide", train__start_from="teachers/wide")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", f"{STAGE}:sweep")
    require_networks(load_params(), STAGE, searched=True)
