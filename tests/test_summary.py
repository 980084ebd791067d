from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.mlpackage.package import package_digest
from pocketaffect.summary import summarise

ROOT = Path(__file__).parents[1]
METRICS = {
    name: 0.1 * position
    for position, name in enumerate(
        ("accuracy", "macro_f1", "rmse_valence", "rmse_arousal", "ccc_valence", "ccc_arousal"), start=1
    )
}


@pytest.fixture
def repository(tmp_path) -> Path:
    """What the stages leave behind, apart from the registry's store."""
    for name in ("params.yaml", "data.dvc"):
        shutil.copy(ROOT / name, tmp_path)
    shipped = {"agreement": 0.996, "mean_probability": 0.0011}
    verification = {"package_bytes": 123_456, "shipped": shipped, "passed": True, "checks": [1, 2], "images": 40}
    for name, content in {
        "evaluation/metrics.json": METRICS,
        "evaluation/floors.json": {"class_lookup": METRICS | {"accuracy": None}},
        "export/verification.json": verification,
        "export/PocketAffect.mlpackage/Manifest.json": {},
        "registered.json": {"model_name": "pocketaffect", "package_sha256": "ab" * 32},
    }.items():
        file = tmp_path / "out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return tmp_path


# One process for both pages: making the store is what takes long.
PRINT_TWICE = """
import sys
from pathlib import Path
from pocketaffect.summary import summarise
print(summarise(Path()))
print(sorted({'torch', 'matplotlib', 'cv2', 'coremltools'} & set(sys.modules)))
file = Path("out/export/verification.json")
file.write_text(file.read_text().replace("true", "false"))
print(summarise(Path()))
"""


def test_the_summary_shows_what_was_made_and_needs_neither_torch_nor_matplotlib(repository):
    done = subprocess.run([sys.executable, "-c", PRINT_TWICE], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, heavy, second = done.stdout.partition("[]\n")
    assert heavy, done.stdout
    assert "123,456 bytes of" in first
    assert "passed, 2 checks on 40 images; agreement with PyTorch 0.996" in first
    digest = package_digest(repository / "out/export/PocketAffect.mlpackage")
    assert f"pocketaffect {digest[:12]} is not in this store; `pocketaffect register` puts it there" in first
    assert "the embedded sample" in first
    assert any(line.split() == ["CCC", "arousal", "0.600", "0.600"] for line in first.splitlines())
    assert "FAILED, 2 checks on 40 images" in second


@pytest.mark.parametrize("name", ["evaluation/metrics.json", "export/verification.json", "registered.json"])
def test_a_pipeline_that_has_not_run_says_what_is_missing(name, repository):
    (repository / "out" / name).unlink()
    with pytest.raises(PocketAffectError, match=rf"out/{name}: not there yet\n  do:      `dvc repro`"):
        summarise(repository)


@pytest.mark.parametrize("change", ["data use", "another import", "a failed stage"])
def test_figures_of_an_earlier_run_are_not_shown_as_those_of_the_present_data(repository, monkeypatch, change):
    shutil.copy(ROOT / "dvc.lock", repository)
    monkeypatch.setattr("pocketaffect.summary._describe_version", lambda _: "")
    assert "earlier run" not in summarise(repository)
    data, lock = repository / "data.dvc", repository / "dvc.lock"
    if change == "data use":
        data.write_text("deps:\n- path: /elsewhere\nouts:\n- path: data\n")
    elif change == "another import":
        text = data.read_text()
        digest = text.split("md5: ")[1].split()[0]
        data.write_text(text.replace(digest, "0" * 32 + ".dir"))
    else:  # preprocess ran again, and training did not
        before, found, after = lock.read_text().partition(
            "    outs:\n    - path: out/shards\n      hash: md5\n      md5: "
        )
        assert found
        lock.write_text(f"{before}{found}{'0' * 32}{after[32:]}")
    assert "but the figures are of an earlier run: stage " in summarise(repository)
