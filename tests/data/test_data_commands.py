from __future__ import annotations

import json
from pathlib import Path

from affectnet_copies import sound_copy
from click.testing import CliRunner, Result

from pocketaffect.cli.main import main
from pocketaffect.data.contract.profile import PROFILES


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments])


def test_data_pack_writes_a_pack_that_data_describe_reads_as_the_source(tmp_path):
    source = sound_copy(tmp_path / "mine")
    result = run("pack", str(source), str(tmp_path / "packed"))
    assert result.exit_code == 0
    assert "20 files in 1 parts" in result.output
    assert f"next: pocketaffect data use {tmp_path}/packed" in result.output
    described = [json.loads(run("describe", str(place), "--json").stdout) for place in (source, tmp_path / "packed")]
    assert described[0]["lists"] == described[1]["lists"]
    assert described[0]["listed"] == described[1]["listed"] == 20
    assert "images" in run("describe", str(source)).output


def test_data_profile_keeps_the_last_validated_datas_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = run("profile", "mine.json")
    assert missing.exit_code == 1
    assert "dvc repro validate" in missing.output
    profile = PROFILES / "affectnet.json"
    (tmp_path / "out/manifest").mkdir(parents=True)
    (tmp_path / "out/manifest/profile.json").write_bytes(profile.read_bytes())
    assert run("profile", "mine.json", "--source", "as it was in May").exit_code == 0
    kept = json.loads(Path("mine.json").read_text())
    assert kept == json.loads(profile.read_text()) | {"source": "as it was in May"}
