"""The stage runner in a real DVC repository: what a failure prints, its status, and that outputs survive it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketaffect.errors import PocketAffectError
from pocketaffect.stage import require_dependency

ROOT = Path(__file__).parents[1]

SCRIPT = """
import errno, json, resource, time
from pathlib import Path
from pocketaffect.errors import PocketAffectError
from pocketaffect.stage import run_stage

def main(params):
    text = Path("in").read_text()
    Path("out").mkdir(exist_ok=True)
    Path("out/value").write_text(text)
    if "refuse" in text:
        raise PocketAffectError("in: not wanted", found=text.strip(), allowed="anything else", todo="mend it")
    if "full" in text:
        raise OSError(errno.ENOSPC, "No space left on device", "out/value")
    if "too large" in text:  # as NumPy says it where `ulimit -f` cuts its file short
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        raise OSError("100 requested and 60 written")
    if "bug" in text:
        print({}["no such key"])
    if "missing file" in text:
        Path("nowhere").read_text()
    if "edits" in text:
        for file, old, new in json.loads(text)["edits"]:
            Path(file).write_text(Path(file).read_text().replace(old, new, 1))
    if "wait" in text:
        Path("started").touch()
        time.sleep(600)

run_stage("one", main)
"""
PIPELINE = """
stages:
  one:
    cmd: python stage.py
    deps: [in]
    params: [train]
    outs: [out]
  two:
    cmd: cp out/value two
    deps: [out]
    outs: [two]
"""


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment(), capture_output=True, text=True
    )


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


@pytest.fixture(scope="module")
def good_repository(tmp_path_factory) -> Path:
    """A DVC repository without git whose stages have run once."""
    folder = tmp_path_factory.mktemp("repository")
    assert dvc(folder, "init", "--no-scm", "--quiet").returncode == 0
    (folder / "stage.py").write_text(SCRIPT)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "in").write_text("good\n")
    shutil.copy(ROOT / "params.yaml", folder)
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def repository(good_repository, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(good_repository, tmp_path / "repository"))


def outputs(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in ("out/value", "two")]


KEPT = "kept:    the last good outputs of this stage are back in place"


def test_a_failing_stage_says_why_and_its_last_good_outputs_come_back(repository):
    (repository / "in").write_text("refuse\n")
    done = dvc(repository, "repro")
    assert done.returncode != 0
    said = "error in stage one: in: not wanted\n  found:   refuse\n  allowed: anything else\n  do:      mend it"
    assert said in done.stderr
    assert "exited with 1" in done.stderr
    assert KEPT in done.stderr
    assert "Traceback" not in done.stderr
    assert outputs(repository) == ["good\n", "good\n"]


@pytest.mark.slow
def test_after_a_failure_the_stage_still_counts_as_changed_and_runs_when_mended(repository):
    (repository / "in").write_text("refuse\n")
    assert dvc(repository, "repro").returncode != 0
    assert dvc(repository, "repro").returncode != 0
    (repository / "in").write_text("better\n")
    assert dvc(repository, "repro").returncode == 0
    assert outputs(repository) == ["better\n", "better\n"]


@pytest.mark.slow
def test_a_first_failure_claims_no_outputs(repository):
    (repository / "dvc.lock").unlink()
    shutil.rmtree(repository / "out")
    (repository / "in").write_text("refuse\n")
    done = dvc(repository, "repro", "one")
    assert "in: not wanted" in done.stderr
    assert "kept" not in done.stderr


def run_alone(folder: Path, code: str, *, in_dvc: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a stage's script; `in_dvc` with its outputs removed and its name told, as DVC does before and while it runs.

    DVC itself would take seconds to say the same.
    """
    told = {"DVC_STAGE": "one"} if in_dvc else {}
    if in_dvc:
        shutil.rmtree(folder / "out")
    (folder / "stage.py").write_text(code)
    command = [sys.executable, "stage.py"]
    return subprocess.run(command, cwd=folder, env=environment() | told, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("full", "error in stage one: out/value: disk full\n  found:   "),
        (
            "too large",
            "error in stage one: .: the system lets no file grow that far\n  found:   100 requested and 60 written",
        ),
    ],
    ids=["disk full", "too large"],
)
def test_a_write_that_fails_is_a_problem_of_the_users(text, message, repository):
    (repository / "in").write_text(f"{text}\n")
    done = run_alone(repository, SCRIPT)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


EDITS = [
    ([("stage.py", "sleep(600)", "sleep(601)"), ("params.yaml", "epochs: 16", "epochs: 17")], "stage.py, train"),
    ([("stage.py", "import", "# why\nimport"), ("params.yaml", "trials: 40", "trials: 41")], ""),
]


@pytest.mark.parametrize(("edits", "named"), EDITS, ids=["code and setting", "comment and another stage's setting"])
def test_edits_while_a_stage_runs_are_not_recorded_as_what_its_result_was_made_of(edits, named, repository):
    (repository / "in").write_text(json.dumps({"edits": edits}))
    done = run_alone(repository, SCRIPT, in_dvc=True)
    if named:
        assert f"found:   another {named} than at its start" in done.stderr
        assert KEPT in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_bad_settings_end_with_two_and_keep_the_outputs(repository):
    params = repository / "params.yaml"
    params.write_text(params.read_text().replace("\n  epochs:", "\n  epochz:"))
    done = run_alone(repository, SCRIPT, in_dvc=True)
    assert "train.epochz: unknown key; did you mean 'epochs'?" in done.stderr
    assert done.returncode == 2
    assert KEPT in done.stderr
    assert outputs(repository) == ["good\n", "good\n"]


@pytest.mark.parametrize(("text", "message"), [("bug", "KeyError: 'no such key'"), ("missing file", "nowhere")])
def test_a_mistake_in_the_program_shows_its_traceback_and_keeps_the_outputs(text, message, repository):
    (repository / "in").write_text(f"{text}\n")
    done = run_alone(repository, SCRIPT, in_dvc=True)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert message in done.stderr
    assert KEPT in done.stderr
    assert outputs(repository) == ["good\n", "good\n"]


@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("/bin/bash", marks=pytest.mark.slow)])
def test_ctrl_c_stops_with_a_short_message_and_keeps_the_outputs(shell, repository):
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    (repository / "in").write_text("wait\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=repository,
        env=environment() | {"SHELL": shell},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (repository / "started").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    log = process.communicate(timeout=300)[1]
    assert process.returncode != 0
    assert "stage one was interrupted\n  do:      `dvc repro` goes on" in log
    # DVC runs the stage in $SHELL: bash passes the stage's own code on, dash dies of the signal after the stage ended.
    assert "exited with 130" in log or "exited with -2" in log
    assert "Traceback" not in log
    assert KEPT in log
    assert outputs(repository) == ["good\n", "good\n"]


def test_outside_dvc_a_failure_ends_with_one_and_touches_nothing(repository):
    (repository / "in").write_text("refuse\n")
    done = run_alone(repository, SCRIPT)
    assert done.returncode == 1
    assert "do:      mend it" in done.stderr
    assert "kept" not in done.stderr


def test_an_interrupted_stage_names_the_command_that_started_it(repository):
    code = "from pocketaffect.stage import run_stage\ndef main(_): raise KeyboardInterrupt\nrun_stage('one', main)"
    done = run_alone(repository, code)  # as torchrun and SLURM do
    assert done.returncode == 130
    assert "do:      the same command goes on" in done.stderr


def test_without_params_yaml_a_stage_ends_with_two(tmp_path):
    done = run_alone(tmp_path, "from pocketaffect.stage import run_stage; run_stage('one', print)")
    assert done.returncode == 2
    assert "params.yaml: no such file" in done.stderr
    assert "run from the repository's root" in done.stderr


def test_a_stage_switches_telemetry_off(repository):
    code = (
        "import os; from pocketaffect.stage import run_stage\n"
        "run_stage('x', lambda params: print(os.environ['DO_NOT_TRACK'], os.environ['DVC_NO_ANALYTICS']))"
    )
    assert run_alone(repository, code).stdout.split() in (["true", "1"], ["1", "1"])


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        ("teachers/wide", False),
        ("./teachers/wide/", False),
        ("teachers/wide/model.safetensors", False),
        ("teachers", True),
        ("teachers/wider", True),
        (None, False),
    ],
)
def test_what_a_stage_reads_by_its_settings_must_be_among_its_dependencies(named, refused, tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages:\n  train:\n    cmd: x\n    deps: [teachers/wide, out/shards]\n")
    monkeypatch.chdir(tmp_path)
    require_dependency("anywhere", "train.distill.teacher")  # DVC runs no stage
    monkeypatch.setenv("DVC_STAGE", "train")
    if not refused:
        require_dependency(named, "train.distill.teacher")
        return
    with pytest.raises(PocketAffectError, match=f"add `- {named}` to the deps of train in dvc.yaml"):
        require_dependency(named, "train.distill.teacher")


def test_dvc_s_address_of_a_stage_in_another_file_is_understood(tmp_path, monkeypatch):
    (tmp_path / "aside.yaml").write_text("stages:\n  sweep:\n    cmd: x\n    deps: [teachers/wide]\n")
    monkeypatch.chdir(tmp_path)
    for address in ("aside.yaml:sweep", "../here/aside.yaml:sweep", "sweep"):  # as seen from where dvc was called
        monkeypatch.setenv("DVC_STAGE", address)
        require_dependency("teachers/wide", "train.start_from", Path("aside.yaml"))
        with pytest.raises(PocketAffectError, match=r"add `- teachers/big` to the deps of sweep in aside\.yaml"):
            require_dependency("teachers/big", "train.start_from", Path("aside.yaml"))
