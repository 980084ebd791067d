from __future__ import annotations

from pathlib import Path

import pytest

from pocketaffect.checkout import find_home


@pytest.mark.parametrize(
    ("parent", "place", "is_temporary"),
    [
        ("here", "here/.dvc/tmp/exps/tmp1", True),
        ("here", "here/.dvc/tmp/exps/standalone/tmp1/sub", True),
        ("here", "here", False),  # any stage, also of an experiment in the workspace
        ("outer", "here", False),  # called by a stage of somebody's pipeline around this repository
        (None, "here/.dvc/tmp/exps/tmp1", False),
    ],
)
def test_only_an_experiment_in_a_temporary_folder_uses_its_parents_store(
    tmp_path, monkeypatch, parent, place, is_temporary
):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    if parent:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / parent))
    (tmp_path / place).mkdir(parents=True)
    assert find_home(tmp_path / place) == (tmp_path / parent if is_temporary else tmp_path / place)
    monkeypatch.chdir(tmp_path / place)
    assert find_home(Path()) == (tmp_path / parent if is_temporary else Path())
