from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pocketaffect import doctor
from pocketaffect.doctor import Finding, examine
from pocketaffect.telemetry import TELEMETRY_OFF

PROJECT = Path(__file__).parents[1]
IMPORTED = """
deps:
- {path: sample, md5: 562ee692a592790b08e880eff9046f72.dir}
outs:
- {path: data, md5: 562ee692a592790b08e880eff9046f72.dir}
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository in which everything is well."""
    for name, value in TELEMETRY_OFF.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "requirements.lock").write_text(f"pytest=={pytest.__version__}\n")  # two hundred take half a second
    (tmp_path / "data.dvc").write_text(IMPORTED)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(doctor, "DISK_WARNING", 0)
    monkeypatch.setattr(doctor, "DISK_PROBLEM", 0)
    return tmp_path


def bad(root: Path) -> list[Finding]:
    findings = [finding for finding in examine(root) if finding.status != "ok"]
    assert all(finding.todo for finding in findings), findings
    return findings


def only_bad(root: Path) -> Finding:
    findings = bad(root)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_healthy_repository_has_no_findings(root):
    assert bad(root) == []
    names = {finding.name for finding in examine(root)}
    assert names == {
        *("python", "sources", "packages", "git", "dvc", "params.yaml", "dvc.yaml"),
        *("dvc.lock", "data", "store", "disk", "telemetry", "checkpoints"),
    }


def test_it_imports_nothing_heavy_and_writes_nothing(root):
    code = (
        "import sys; from pathlib import Path; from pocketaffect.doctor import examine\n"
        "examine(Path(sys.argv[1]))\n"
        "print(sorted({'mlflow', 'torch', 'pandas', 'dvc', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    before = sorted(root.rglob("*"))
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
    assert sorted(root.rglob("*")) == before


def test_an_empty_folder_is_all_problems_and_no_crash(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = {finding.name: finding.status for finding in bad(tmp_path)}
    assert found["params.yaml"] == found["dvc"] == found["data"] == "problem"


def test_versions_other_than_the_locks_and_missing_packages_are_told_apart(root):
    (root / "requirements.lock").write_text(
        "numpy==0.1 \\\n    --hash=sha256:00\n    # via x\n"
        "no-such-thing==1.0\n"
        "not-for-here==1.0 ; sys_platform == 'amiga'\n"
        f"PyTest=={pytest.__version__}\n"
    )
    found = {f.status: f for f in examine(root) if f.name == "packages"}
    assert found.keys() == {"problem", "warning"}
    assert "no-such-thing" in found["problem"].detail
    assert "not-for-here" not in found["problem"].detail
    assert "numpy" in found["warning"].detail
    assert "==0.1" in found["warning"].detail


def test_a_typo_in_params_is_passed_on(root):
    text = (root / "params.yaml").read_text().replace("  epochs:", "  epoch:")
    (root / "params.yaml").write_text(text)
    finding = only_bad(root)
    assert (finding.name, finding.status) == ("params.yaml", "problem")
    assert "did you mean 'epochs'" in finding.detail


def test_a_wrong_search_space_is_named_before_a_sweep(root):
    text = (root / "params.yaml").read_text()
    space = text.index("\n  space:")
    (root / "params.yaml").write_text(f"{text[:space]}\n  space:\n    model.widht: [0.5]\n    train.batch_size: [-1]\n")
    finding = only_bad(root)
    assert (finding.name, finding.status) == ("params.yaml", "problem")
    assert "did you mean model.width?" in finding.detail
    assert "sweep.space.train.batch_size" in finding.detail


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock"])
@pytest.mark.parametrize(
    ("text", "detail", "todo"),
    [
        ("", "no stages; found: nothing", ""),
        ("schema: '2.0'\n", "no stages; found: None", ""),
        ("stages: [", "not readable as YAML", ""),
        ("stages:\n<<<<<<< HEAD\n  a: {}\n=======\n  b: {}\n>>>>>>> x\n", "both sides of a merge", "checkout --ours"),
    ],
)
def test_a_pipeline_file_that_is_empty_or_half_merged_is_a_problem(root, name, text, detail, todo):
    (root / name).write_text(text)
    finding = only_bad(root)
    assert (finding.name, finding.status) == (name, "problem")
    assert detail in finding.detail
    assert todo in finding.todo


def test_a_setting_that_is_gone_is_a_warning_with_what_to_do(root):
    text = (root / "params.yaml").read_text().replace("export:\n", "export:\n  compact: true\n")
    (root / "params.yaml").write_text(text)
    finding = only_bad(root)
    assert (finding.name, finding.status, finding.detail) == ("params.yaml", "warning", "export.compact")
    assert "delete the line" in finding.todo


def test_a_frozen_import_is_a_warning(root):
    (root / "data.dvc").write_text(f"frozen: true\n{IMPORTED}")
    finding = only_bad(root)
    assert (finding.status, finding.todo) == ("warning", "dvc unfreeze data.dvc")


def test_data_replaced_with_dvc_add_is_a_problem(root):
    (root / "data.dvc").write_text(IMPORTED.replace("data, md5: 56", "data, md5: 5d"))
    finding = only_bad(root)
    assert finding.status == "problem"
    assert "the next dvc repro would put that back" in finding.detail


@pytest.mark.slow
def test_data_replaced_with_dvc_add_is_found_in_what_dvc_itself_wrote(root):
    shutil.rmtree(root / ".dvc")
    dvc = [sys.executable, "-m", "dvc"]
    (root / "sample").mkdir()
    (root / "sample" / "a").write_text("a")
    (root / "data.dvc").unlink()
    for command in (["init", "-q"], ["import-url", "-q", "sample", "data"], ["unfreeze", "data.dvc"]):
        subprocess.run([*dvc, *command], cwd=root, check=True, capture_output=True)
    (root / ".dvc" / "config").write_text("[core]\nanalytics = false\ncheck_update = false\n")
    assert bad(root) == []
    (root / "data" / "mine").write_text("face")
    subprocess.run([*dvc, "add", "-q", "data"], cwd=root, check=True, capture_output=True)
    replaced = [finding for finding in bad(root) if finding.status == "problem"]
    assert len(replaced) == 1
    assert "the next dvc repro would put that back" in replaced[0].detail


def test_data_without_a_source_is_a_warning(root):
    (root / "data.dvc").write_text("outs:\n- {path: data, md5: 00.dir}\n")
    finding = only_bad(root)
    assert finding.status == "warning"
    assert "dvc add" in finding.detail


@pytest.mark.parametrize("state", ["missing", "empty", "there"])
def test_a_users_folder_is_looked_at(root, tmp_path_factory, state):
    place = tmp_path_factory.mktemp("faces")
    if state == "missing":
        place.rmdir()
    if state == "there":
        (place / "training.csv").write_text("x")
    (root / "data.dvc").write_text(IMPORTED.replace("sample", str(place)))
    if state == "there":
        assert bad(root) == []
    else:
        assert str(place) in only_bad(root).detail


def test_an_old_file_store_brings_the_migration_command(root):
    (root / "mlruns" / "0").mkdir(parents=True)
    (root / "mlruns" / "0" / "meta.yaml").write_text("name: Default")
    finding = only_bad(root)
    assert (finding.name, finding.status) == ("store", "problem")
    assert finding.todo.startswith("mlflow migrate-filestore --source ")


def test_a_damaged_store_is_a_problem(root):
    (root / "mlruns").mkdir()
    (root / "mlruns" / "mlflow.db").write_bytes(b"nothing" * 500)
    assert "damaged" in only_bad(root).detail


def test_a_store_of_another_schema_is_a_problem(root):
    (root / "mlruns").mkdir()
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as connection:
        for table in ("experiments", "runs", "model_versions", "alembic_version"):
            connection.execute(f"CREATE TABLE {table} (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    connection.close()
    assert "newer than the installed MLflow" in only_bad(root).detail


@pytest.mark.parametrize(("free", "status"), [(0.5e9, "problem"), (5e9, "warning"), (50e9, "ok")])
def test_a_disk_that_fills_up_is_told(root, monkeypatch, free, status):
    monkeypatch.undo()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(int(1e12), 0, int(free)))
    assert next(finding for finding in examine(root) if finding.name == "disk").status == status


def test_telemetry_left_on_is_told_with_the_commands_that_end_it(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    (root / ".dvc" / "config").write_text("[core]\n    autostage = true\n")
    environment, config = bad(root)
    assert environment.todo == "export MLFLOW_DISABLE_TELEMETRY=true"
    assert config.todo == "dvc config core.analytics false; dvc config core.check_update false"


def test_every_spelling_of_yes_switches_telemetry_off(root, monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "0")
    assert bad(root) == []
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "1")
    assert only_bad(root).todo == "export GX_ANALYTICS_ENABLED=false"


def test_the_local_dvc_config_wins(root):
    (root / ".dvc" / "config.local").write_text("[core]\n    analytics = true\n")
    assert "core.analytics" in only_bad(root).detail


def test_checkpoints_are_counted_and_large_ones_warned_of(root, monkeypatch):
    folder = root / ".work" / "train" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder.parent / "time.json").write_text("{}")  # of the training that ended last
    assert next(one for one in examine(root) if one.name == "checkpoints").detail == "no interrupted training"
    (folder / "last.ckpt").write_bytes(b"x" * 2_000_000)
    finding = next(finding for finding in examine(root) if finding.name == "checkpoints")
    assert finding.status == "ok"
    assert finding.detail.startswith("2.0 MB of an interrupted training")
    monkeypatch.setattr(doctor, "CHECKPOINT_WARNING", 1_000_000)
    assert only_bad(root).todo.startswith("rm -r .work")


def test_another_python_on_path_is_named_since_dvc_would_run_the_stages_with_it(root, monkeypatch):
    other = root / "elsewhere" / "python"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other.parent}{os.pathsep}{os.environ['PATH']}")
    finding = only_bad(root)
    assert (finding.status, finding.name) == ("warning", "python")
    assert str(other) in finding.detail
    assert finding.todo.startswith(". .venv/bin/activate")


def test_missing_programs_are_problems(root, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(sys, "executable", str(root / "python"))
    assert {finding.name for finding in bad(root) if finding.status == "problem"} == {"git", "dvc"}
