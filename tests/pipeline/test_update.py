"""An update breaks nobody: what the code of an earlier commit made is opened by the code that stands here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from repository_copy import ROOT, RepositoryCopy

from pocketaffect.checkout import has_commit

EARLIER = "2c92cd1254bf"
"""The last commit before version 0.2.0."""

SETTINGS = {
    "sample": {"train_images": 320, "validation_images": 128},
    "validate": {"min_validation_per_class": 1},
    "preprocess": {"image_size": 32, "workers": 2, "shard_images": 64},
    "model": {"architecture": "alexnet", "width": 0.1},
    "train": {"epochs": 2, "batch_size": 32},
    "evaluate": {"resamples": 100, "behaviour_images": 40},
    "promotion": {"resamples": 100, "checks": {"max_bytes": 500_000, "lineage_complete": True}},
    "export": {
        "max_mean_probability_difference": 0.5,
        "min_agreement": 0.1,
        "max_accuracy_drop": 1.0,
        "max_rmse_rise": 9.0,
    },
    "sweep": {"trials": 2, "epochs": 1, "workers": 1, "pruner": "none", "space": {"model.width": [0.1, 0.12]}},
}
USERS_OWN = ("params.yaml", "data.dvc", "dvc.lock")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_commit(ROOT, EARLIER), reason=f"commit {EARLIER} is not in this repository"),
]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def commit(copy: RepositoryCopy, message: str) -> None:
    git(copy.folder, "add", "-A")
    git(copy.folder, "commit", "-q", "-m", message)


def run(copy: RepositoryCopy, *command: str) -> str:
    done = copy.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def updated(tmp_path_factory) -> RepositoryCopy:
    """A user's repository: two versions, two promotions and a sweep by the earlier code, then the code from here."""
    folder = tmp_path_factory.mktemp("update") / "repository"
    folder.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", EARLIER], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    copy = RepositoryCopy(folder)
    copy.edit_params(SETTINGS)
    git(folder, "init", "-q")
    commit(copy, "a user's settings")
    for min_agreement in (0.2, 0.3):
        copy.edit_params({"export": {"min_agreement": min_agreement}})
        copy.repro()
        commit(copy, f"min_agreement {min_agreement}")
        run(copy, "pocketaffect", "register")
        run(copy, "pocketaffect", "promote")
    run(copy, "pocketaffect", "sweep")
    (folder / "studied").write_text(run(copy, "pocketaffect", "sweep", "status"))

    for name in run(copy, "git", "ls-files", "-z").split("\0"):
        if name and name not in USERS_OWN:
            (folder / name).unlink()
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    here = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, here.split("\0")):
        if name not in USERS_OWN and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    commit(copy, "update")
    return copy


def test_versions_champion_log_and_lineage_are_what_they_were(updated):
    said = run(updated, "pocketaffect", "registry")
    assert "tampered" not in said
    assert "warning" not in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("2 ")][:1] == ["candidate,"]
    assert "DISAGREE" not in run(updated, "pocketaffect", "lineage", "1")
    assert "0 damaged version(s); promotion log of 2 entries: 0 problem(s)" in run(
        updated, "pocketaffect", "registry", "verify"
    )


def test_settings_of_before_are_read_and_the_doctor_names_what_changed(updated):
    examined = updated.run("pocketaffect", "doctor").stdout
    lines = [line for line in examined.splitlines() if "params.yaml" in line]
    assert lines
    assert not any("problem" in line for line in lines), examined


def test_a_version_of_before_is_audited(updated):
    assert "bit-identical" in run(updated, "pocketaffect", "audit", "1", "--quick")


def test_rollback_and_promotion_go_on_with_the_log_of_before(updated):
    assert "version 1 is champion now, instead of version 2" in run(updated, "pocketaffect", "rollback")
    assert "version 2 is champion now, instead of version 1" in run(updated, "pocketaffect", "promote", "2")
    said = run(updated, "pocketaffect", "registry", "verify")
    assert "promotion log of 4 entries: 0 problem(s)" in said


def test_a_version_of_before_predicts_alike_by_every_road(updated):
    face = ROOT / "docs" / "sample.jpg"
    rows = [
        json.loads(run(updated, "pocketaffect", "predict", "--no-detect", "--model", model, str(face)))
        for model in ("1", "champion", "out/model")
    ]
    code = (
        "import json, mlflow, pandas, sys; from pathlib import Path\n"
        "mlflow.set_tracking_uri(f'sqlite:///{Path().resolve()}/mlruns/mlflow.db')\n"
        "model = mlflow.pyfunc.load_model('models:/pocketaffect/1')\n"
        "table = model.predict(pandas.DataFrame({'image': [Path(sys.argv[1]).read_bytes()]}))\n"
        "print(table.to_json(orient='records'))"
    )
    (served,) = json.loads(run(updated, "python", "-c", code, str(face)).splitlines()[-1])
    assert {row["expression"] for row in rows} == {served["expression"]}
    assert rows[0]["valence"] == pytest.approx(served["valence"], abs=0.05)


def test_the_study_of_before_is_shown(updated):
    before = (updated.folder / "studied").read_text()
    now = run(updated, "pocketaffect", "sweep", "status")
    name = next(word for word in before.split() if word.startswith("pocketaffect-"))
    assert name in now
