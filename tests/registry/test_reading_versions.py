"""What reads faces with a version, or adds to one: who speaks where nobody names a model, and a score's report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.predict import models
from pocketaffect.predict.models import choose_model
from pocketaffect.predict.score import ScoreReport, log_report
from pocketaffect.shipped.network import CARD, find_shipped, seal


@pytest.mark.parametrize(("source", "speaks"), [("/faces/affectnet", "champion"), ("sample", "shipped")])
def test_a_champion_speaks_unless_it_has_seen_drawings_alone(root, store, registrar, monkeypatch, source, speaks):
    (root / paths.PIPELINE_FILE).touch()
    shipped = root / "shipped"
    (shipped / paths.PACKAGE.name).mkdir(parents=True)
    for name in (paths.TWIN.name, paths.VERIFICATION.name, CARD):
        (shipped / name).write_text(name)
    seal(shipped)
    monkeypatch.setattr(models, "find_shipped", partial(find_shipped, shipped))
    assert choose_model(root) == shipped
    version = registrar(b"a", data_source=source)
    store.client().set_registered_model_alias(version.model_name, "champion", str(version.version))
    chosen = choose_model(root)
    if speaks == "shipped":
        assert chosen == shipped
        monkeypatch.setattr(models, "find_shipped", lambda: None)
        chosen = choose_model(root)
    assert not isinstance(chosen, Path)
    assert chosen.version == version.version


def test_a_score_s_report_is_added_to_the_version_s_run_and_registers_nothing(root, store, registrar, tmp_path):
    version = registrar(b"a")
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "score.json").write_text("{}")
    report = ScoreReport({"data": "own faces"}, (), folder)
    package = store.client().download_artifacts(version.run_id, "model/PocketAffect.mlpackage", str(tmp_path))
    for model in ("1", "candidate", package):
        assert log_report(model, report, root=root) == "pocketaffect version 1: score/own faces"
    kept = [entry.path for entry in store.client().list_artifacts(version.run_id, "score/own faces")]
    assert kept == ["score/own faces/score.json"]
    assert len(store.client().search_model_versions("name = 'pocketaffect'")) == 1
    with pytest.raises(PocketAffectError, match="not the package of a registered version"):
        log_report(str(folder / "score.json"), report, root=root)
