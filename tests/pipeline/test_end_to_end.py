"""The whole pipeline for real, in a small copy of this repository: `pytest -m slow tests/pipeline`."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from repository_copy import RepositoryCopy

from pocketaffect.data.sample.generate import ARCHIVE

pytestmark = pytest.mark.slow

# Everything that a run makes outside git, DVC's cache and MLflow's store.
MADE = ("out", "sample", "data", "data.dvc", "dvc.lock")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RepositoryCopy:
    """A copy in which the pipeline has run once, undisturbed."""
    copy = RepositoryCopy.make(tmp_path_factory.mktemp("whole") / "copy")
    copy.repro()
    return copy


@pytest.fixture
def spoilt(whole, tmp_path) -> RepositoryCopy:
    """A copy of it to spoil."""
    return whole.duplicate(tmp_path / "copy")


def test_the_pipeline_makes_every_output(whole):
    made = whole.hashes("out")
    assert {name for name in made if "PocketAffect.mlpackage" not in name} >= {
        "out/manifest/manifest.parquet",
        "out/manifest/quarantine.parquet",
        "out/manifest/contract.json",
        "out/shards/shards.json",
        "out/shards/index.parquet",
        "out/model/model.safetensors",
        "out/model/model.json",
        "out/model/history.csv",
        "out/evaluation/metrics.json",
        "out/evaluation/floors.json",
        "out/evaluation/report.html",
        "out/export/verification.json",
        "out/registered.json",
    }
    assert "out/export/PocketAffect.mlpackage/Manifest.json" in made
    assert not any("draft" in name for name in made)
    verification = json.loads((whole.folder / "out/export/verification.json").read_text())
    assert verification["passed"]
    assert [path.name for path in (whole.folder / ".work").rglob("*.ckpt")] == []


def test_the_version_is_registered_as_candidate_with_its_bytes_and_lineage(whole):
    code = (
        "import json; from pathlib import Path; from pocketaffect.registry.store.store import open_store\n"
        "client = open_store(Path()).client()\n"
        "version, = client.search_model_versions('')\n"
        "run = client.get_run(version.run_id)\n"
        "candidate = client.get_model_version_by_alias(version.name, 'candidate')\n"
        "print(json.dumps([version.version, candidate.version, version.tags, run.data.metrics, run.data.params]))"
    )
    done = whole.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    version, candidate, tags, metrics, params = json.loads(done.stdout.splitlines()[-1])
    assert int(version) == int(candidate) == 1
    registered = json.loads((whole.folder / "out/registered.json").read_text())
    assert registered["package_sha256"] in tags.values()
    measured = json.loads((whole.folder / "out/evaluation/metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(measured["accuracy"])
    assert params["model.architecture"] == "alexnet"


def test_the_summary_shows_the_run(whole):
    done = whole.run("pocketaffect", "summary")
    assert done.returncode == 0, done.stderr
    assert "pocketaffect version 1 (candidate)" in done.stdout
    assert "passed" in done.stdout
    assert "CCC arousal" in done.stdout


def test_going_back_makes_the_earlier_version_the_candidate_again(spoilt):
    kept = {name: (spoilt.folder / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    spoilt.edit_params({"export": {"min_agreement": 0.49}})
    spoilt.repro()
    assert "pocketaffect version 2 (candidate)" in spoilt.run("pocketaffect", "summary").stdout
    for name, content in kept.items():
        (spoilt.folder / name).write_bytes(content)
    assert spoilt.run("dvc", "checkout", "export").returncode == 0
    said = spoilt.run("pocketaffect", "summary").stdout
    assert "pocketaffect version 1, NOT the candidate, which is version 2: `pocketaffect register`" in said
    printed = spoilt.repro()
    assert "Running stage 'register'" in printed
    assert "Running stage 'export'" not in printed
    assert "pocketaffect version 1 (candidate)" in spoilt.run("pocketaffect", "summary").stdout
    assert "Running stage" not in spoilt.repro()


def test_a_clone_with_a_comment_in_every_file_killed_twice_ends_with_the_same_bytes_and_version(whole, tmp_path):
    copy = whole.clone(tmp_path / "clone")
    shutil.copytree(whole.folder / "mlruns", copy.folder / "mlruns", dirs_exist_ok=True)
    for file in (copy.folder / "src").rglob("*.py"):
        text = file.read_text()
        if text.startswith('"""'):
            file.write_text('"""Says something else,\n\nin more lines.\n"""\n# why\n\n' + text.split('"""', 2)[2])
    copy.repro_and_kill(lambda: copy.found(".work/preprocess/*/shards/*.npy"))
    assert not (copy.folder / "out/shards").exists()
    copy.repro_and_kill(lambda: copy.found(".work/train/*/last.ckpt"))
    assert not (copy.folder / "out/model").exists()
    printed = copy.repro()
    assert "going on from" in printed
    assert "Running stage 'export'" in printed
    assert copy.hashes("out", "reports") == whole.hashes("out", "reports")
    assert "pocketaffect version 1 (candidate)" in copy.run("pocketaffect", "summary").stdout


def test_dvc_shows_metrics_and_plots(whole):
    metrics = whole.run("dvc", "metrics", "show", "--json")
    assert "accuracy" in metrics.stdout
    plots = whole.run("dvc", "plots", "show", "--json")
    content = json.loads(plots.stdout)
    assert "errors" not in content
    assert len(content["data"]) >= 5


def test_a_second_run_changes_nothing(whole):
    before = whole.hashes(*MADE)
    printed = whole.repro()
    assert "Running stage" not in printed
    assert "up to date" in printed
    assert whole.hashes(*MADE) == before
    assert "modified" not in whole.run("dvc", "status", "dvc.yaml").stdout  # the sweep stands aside


def refuse(copy: RepositoryCopy, *command: str, keeps: tuple[str, ...] = ("out",)) -> str:
    """Runs a command that must fail and leave the outputs alone; what it printed."""
    before = copy.hashes(*keeps)
    done = copy.run(*command)
    assert done.returncode != 0
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert copy.hashes(*keeps) == before
    return printed


def use_copy_of_data(copy: RepositoryCopy, folder: Path) -> Path:
    """Points the pipeline at a copy of the sample that stands outside the repository, its images as loose files."""
    shutil.copytree(copy.folder / "sample", folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    with tarfile.open(folder / ARCHIVE) as archive:
        archive.extractall(folder)
    (folder / ARCHIVE).unlink()
    done = copy.run("pocketaffect", "data", "use", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_data_folder_that_is_gone_is_named(spoilt, tmp_path):
    folder = use_copy_of_data(spoilt, tmp_path / "affectnet")
    shutil.rmtree(folder)
    printed = refuse(spoilt, "dvc", "repro")
    assert f"dependency '{folder}' does not exist" in printed  # DVC's words; the doctor says what to do
    examined = spoilt.run("pocketaffect", "doctor")
    assert examined.returncode == 1
    finding = examined.stdout.partition(str(folder))[2]
    assert "do: " in finding
    assert "pocketaffect data" in finding


def test_a_folder_without_the_lists_is_refused_by_data_use(spoilt, tmp_path):
    (tmp_path / "empty").mkdir()
    before = spoilt.hashes("data.dvc")
    printed = refuse(spoilt, "pocketaffect", "data", "use", str(tmp_path / "empty"))
    assert "found:   an empty folder" in printed
    assert "training.csv" in printed
    assert spoilt.hashes("data.dvc") == before


def test_a_list_without_its_columns_is_named_with_what_is_missing(spoilt, tmp_path):
    file = use_copy_of_data(spoilt, tmp_path / "affectnet") / "training.csv"
    file.write_text(file.read_text().replace("valence", "pleasure", 1))
    printed = refuse(spoilt, "dvc", "repro")
    assert "training.csv, line 1: column(s) missing: valence" in printed
    assert "pleasure" in printed
    assert "allowed:" in printed
    assert "kept:" in printed


def test_a_dirty_data_set_stops_with_rule_count_and_examples_and_goes_on_when_mended(spoilt, tmp_path):
    folder = use_copy_of_data(spoilt, tmp_path / "affectnet")
    file = folder / "training.csv"
    sound = file.read_text()
    header, *rows = sound.splitlines()
    rows[::10] = [",".join([*row.split(",")[:-2], "nan", "7.5"]) for row in rows[::10]]
    file.write_text("\n".join([header, *rows]) + "\n")
    pictures = sorted((folder / "Manually_Annotated_Images").rglob("*.*"))[::20]
    contents = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        picture.write_bytes(b"not an image")
    printed = refuse(spoilt, "dvc", "repro")
    assert "valence_in_range" in printed
    assert "training.csv line " in printed
    assert "nan" in printed
    assert "validate.max_quarantine_fraction" in printed
    assert "do:" in printed
    listed = (spoilt.folder / ".work/validate/quarantine.csv").read_text()
    assert "image_readable" in listed
    assert all(picture.name in listed for picture in pictures)

    file.write_text(sound)
    for picture, content in zip(pictures[1:], contents[1:], strict=True):
        picture.write_bytes(content)
    spoilt.repro("validate")
    contract = json.loads((spoilt.folder / "out/manifest/contract.json").read_text())
    assert contract["quarantined"] >= 1
    listed = (spoilt.folder / "reports/data/quarantine.csv").read_text()
    assert [picture.name in listed for picture in pictures] == [True, *[False] * len(pictures[1:])]


def test_a_misspelt_setting_is_named_with_the_nearest_known_one(spoilt):
    params = spoilt.folder / "params.yaml"
    params.write_text(params.read_text().replace("\n  learning_rate:", "\n  learning_rat:"))
    printed = refuse(spoilt, "dvc", "repro")
    assert "train.learning_rat: unknown key; did you mean 'learning_rate'?" in printed
    assert "exited with 2" in printed
    assert "kept:" in printed


def test_a_store_in_mlflows_old_format_is_refused(spoilt):
    store = spoilt.folder / "mlruns"
    shutil.rmtree(store)
    (store / "0").mkdir(parents=True)
    (store / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\nlifecycle_stage: active\n")
    printed = refuse(spoilt, "dvc", "repro", "--force", "--single-item", "register", keeps=("out", "mlruns"))
    assert "mlruns" in printed
    assert "old file format" in printed
    assert "do:" in printed
    assert "kept:" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
def test_a_full_disk_is_named_and_keeps_the_outputs(spoilt, tmp_path):
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no mounts here")
    try:
        shutil.rmtree(spoilt.folder / ".work")
        (spoilt.folder / ".work").symlink_to(small)
        spoilt.edit_params({"train": {"seed": 1}, "model": {"width": 1.0}})
        printed = refuse(spoilt, "dvc", "repro")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "disk full" in printed
    assert "free" in printed
    assert "kept:" in printed


def audit_quickly(copy: RepositoryCopy, report: Path) -> tuple[int, dict]:
    done = copy.run("pocketaffect", "audit", "candidate", "--quick", "--no-record", "--json", str(report))
    assert report.is_file(), done.stdout + done.stderr
    return done.returncode, json.loads(report.read_text())


def test_a_quick_audit_holds_hashes_lineage_and_answers_and_leaves_all_as_it_was(whole, tmp_path):
    everything = (*MADE, ".dvc/cache", ".git", "mlruns/artifacts", "mlruns/mlflow.db")
    before = whole.hashes(*everything)
    code, found = audit_quickly(whole, tmp_path / "audit.json")
    assert (code, found["verdict"]) == (0, "bit-identical"), found["reason"]
    assert [check["name"] for check in found["checks"]] == [
        "stored files",
        "environment lock",
        "sources and settings",
        "the file's own metadata",
        "answers",
    ]
    assert "bit-identical on 1" in found["checks"][-1]["detail"]
    assert whole.hashes(*everything) == before


def test_a_quick_audit_says_that_faces_are_missing_and_names_a_stored_file_that_was_changed(spoilt, tmp_path):
    shutil.rmtree(spoilt.folder / ".dvc/cache")
    code, found = audit_quickly(spoilt, tmp_path / "missing.json")
    assert (code, found["verdict"]) == (5, "cannot be audited")
    assert "the validation faces" in found["reason"]
    twin = next(spoilt.folder.glob("mlruns/artifacts/*/artifacts/model/*.onnx"))
    twin.write_bytes(twin.read_bytes()[:-1] + b"?")
    code, found = audit_quickly(spoilt, tmp_path / "changed.json")
    assert (code, found["verdict"]) == (4, "differs")
    assert f"model/{twin.name}: other bytes than were registered" in found["reason"]
    promoted = spoilt.run("pocketaffect", "promote", "--override", "in a hurry")
    assert promoted.returncode == 1
    assert f"model/{twin.name} is not what was registered" in promoted.stderr


def drop_affect_and_a_class(cells: list[str]) -> list[str] | None:
    return None if cells[-3] == "7" else [*cells[:-2], "-2", "-2"]


def drop_classes(cells: list[str]) -> list[str]:
    return [*cells[:-3], "8" if int(cells[-3]) < 8 else cells[-3], *cells[-2:]]


@pytest.mark.parametrize(
    ("change", "measured", "absent"),
    [
        (drop_affect_and_a_class, {"accuracy", "macro_f1"}, {"rmse_valence", "ccc_arousal"}),
        (drop_classes, {"rmse_valence", "ccc_arousal"}, {"accuracy", "macro_f1"}),
    ],
    ids=["seven expressions alone", "valence and arousal alone"],
)
def test_data_with_fewer_labels_becomes_a_version_with_what_can_be_measured(whole, tmp_path, change, measured, absent):
    own = tmp_path / "own"
    shutil.copytree(whole.folder / "data", own)
    (own / "SAMPLE.md").unlink()
    for name in ("training.csv", "validation.csv"):
        header, *rows = (own / name).read_text().splitlines()
        kept = [",".join(cells) for row in rows if (cells := change(row.split(","))) is not None]
        (own / name).write_text("\n".join([header, *kept, ""]))
    copy = whole.clone(tmp_path / "copy")
    assert copy.run("pocketaffect", "data", "use", str(own)).returncode == 0
    printed = copy.repro()
    assert "no image of" in printed
    metrics = json.loads((copy.folder / "out/evaluation/metrics.json").read_text())
    assert measured <= metrics.keys()
    assert not absent & metrics.keys()
    assert json.loads((copy.folder / "out/export/verification.json").read_text())["passed"]
    assert (copy.folder / "out/registered.json").is_file()
    summary = copy.run("pocketaffect", "summary").stdout
    assert str(own) in summary
    assert "earlier run" not in summary
    assert "not measured" in summary
