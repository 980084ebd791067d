"""The page on packages of any origin runs as it stands, with nothing of the rest of the project."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from pocketaffect.provenance.code import NAME, SOURCE, find_imports

ROOT = Path(__file__).parents[2]


def test_the_pages_example_runs_and_computes_what_pytorch_computes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "mlpackage.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict = {}
    exec(code, names)
    with torch.no_grad():
        expected = names["network"](torch.from_numpy(names["images"]).permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(names["scores"], expected.numpy(), rtol=0, atol=5e-3)
    assert "image RGB 16 x 16" in capsys.readouterr().out


def test_it_imports_nothing_of_ours_but_errors_and_files():
    room = SOURCE / NAME / "mlpackage"
    imported = {found for file in room.glob("*.py") for found in find_imports(file) if found.parent != room}
    assert {found.name for found in imported} <= {"errors.py", "files.py", "__init__.py"}
