"""Whole audits of a small DVC repository: checked out, run again and compared for real."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from audit_parts import SmallRepository, hash_tree

from pocketaffect.audit.audit import audit_version
from pocketaffect.audit.outcome import EXIT_CODES, Audit, Verdict, attach_report
from pocketaffect.audit.quick import _check_environment_lock, _check_sources
from pocketaffect.audit.record import Cache, read_record
from pocketaffect.audit.scratch import Scratch
from pocketaffect.config import AuditParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.store.versions import RegisteredVersion, get_version

pytestmark = pytest.mark.slow

TOLERANCES = AuditParams(metric_tolerance=0.05, bytes_tolerance=0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory, store_template) -> tuple[SmallRepository, RegisteredVersion]:
    """A repository in which the pipeline has run, with its version."""
    repository = SmallRepository.make(tmp_path_factory.mktemp("small") / "repository")
    shutil.copytree(store_template, repository.root / "mlruns")
    repository.dvc("repro")
    return repository, repository.register()


@pytest.fixture
def repository(made, tmp_path) -> SmallRepository:
    """A copy of it to change."""
    return made[0].duplicate(tmp_path / "repository")


def run_audit(repository: SmallRepository, version: RegisteredVersion, place: Path, **options) -> Audit:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return audit_version(repository.case(version, place), TOLERANCES, **options)


def test_an_untouched_version_is_bit_identical_and_nothing_of_the_users_changes(made, tmp_path):
    repository, version = made
    before = hash_tree(repository.root)
    found = run_audit(repository, version, tmp_path / "scratch")
    assert found.verdict is Verdict.IDENTICAL, found.reason
    assert [stage.stage for stage in found.stages] == ["data", "sample", "validate", "train", "evaluate", "export"]
    assert all(stage.identical and not stage.inputs for stage in found.stages)
    assert set(found.stages[3].outputs[0][1:]) == {found.stages[3].outputs[0][1]} != {""}
    assert all(stage.seconds > 0 for stage in found.stages[1:])  # each ran: neither cache nor dvc.lock answered
    assert hash_tree(repository.root) == before


@pytest.mark.parametrize(
    ("changes", "verdict", "stage", "file", "says"),
    [
        (
            {"params.yaml": ("seed: 7", "seed: 8")},
            Verdict.DIFFERS,
            "train",
            "out/model/model.safetensors",
            "train.seed 7, now 8",
        ),
        (
            {"pipelines/train.py": ("0.05", "0.06")},
            Verdict.DIFFERS,
            "train",
            "out/model/model.safetensors",
            "pipelines/train.py of other content",
        ),
        (
            {"params.yaml": ("seed: 1,", "seed: 2,")},
            Verdict.DIFFERS,
            "data",
            "data/training.csv",
            "sample.seed 1, now 2",
        ),
        (
            {"params.yaml": ("threads: 1", "threads: 2")},
            Verdict.TOLERATED,
            "train",
            "out/model/model.safetensors",
            "other thread count (train.threads 1, now 2)",
        ),
        (
            {"pipelines/train.py": ("rate =", "rate  =")},
            Verdict.IDENTICAL,
            None,
            None,
            "outputs of 5 stages",
        ),
    ],
    ids=["seed", "training line", "data", "threads", "a space"],
)
def test_another_commit_gets_the_verdict_and_names_the_stage_of_its_change(
    repository, made, tmp_path, changes, verdict, stage, file, says
):
    repository.branch("other", changes)
    found = run_audit(repository, made[1], tmp_path / "scratch", at="other")
    assert (found.verdict, says in found.reason) == (verdict, True), found.reason
    first = found.first_difference
    assert (first and first.stage, first and first.files[0].path) == (stage, file)
    if file == "out/model/model.safetensors":
        assert 0 < first.files[0].largest < (1e-4 if verdict is Verdict.TOLERATED else 1)
    assert EXIT_CODES[found.verdict] == {"bit-identical": 0, "equal within tolerance": 3, "differs": 4}[found.verdict]


def test_a_stage_that_fails_at_its_commit_is_named(repository, made, tmp_path):
    repository.branch("other", {"pipelines/train.py": ("import csv", "raise SystemExit('no luck')\nimport csv")})
    found = run_audit(repository, made[1], tmp_path / "scratch", at="other")
    assert found.verdict is Verdict.IMPOSSIBLE
    assert "stage train fails" in found.reason
    assert "no luck" in found.todo


def use_own_data(repository: SmallRepository, folder: Path) -> RegisteredVersion:
    """Points the repository at a folder of the user's, with one row changed, and registers what that gives."""
    shutil.copytree(repository.root / "sample", folder)
    rows = (folder / "training.csv").read_text().splitlines()
    (folder / "training.csv").write_text("\n".join([*rows[:10], "0.900000,0.900000", *rows[11:]]) + "\n")
    repository.write("data.dvc", f"deps:\n- path: {folder}\nouts:\n- path: data\n")
    repository.dvc("repro", "evaluate", "export")
    repository.commit("own data")
    return repository.register()


def test_the_users_data_comes_back_by_its_hash_and_a_changed_row_is_named(repository, made, tmp_path):
    folder = tmp_path / "mine"
    version = use_own_data(repository, folder)
    shutil.rmtree(folder)  # the origin is gone; the cache has it
    other = run_audit(repository, made[1], tmp_path / "scratch", at="main")
    assert other.verdict is Verdict.DIFFERS
    assert other.first_difference.stage == "data"
    assert "data/training.csv: 2 of 800 values differ, by at most " in other.reason
    assert ", first x[9]: " in other.reason

    md5 = version.tags["data.md5"]
    listing = repository.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    entry = json.loads(listing.read_text())[0]["md5"]
    cached = repository.root / ".dvc/cache/files/md5" / entry[:2] / entry[2:]
    content = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(content.replace(b"0.9", b"0.8"))
    damaged = run_audit(repository, version, tmp_path / "scratch")
    assert (damaged.verdict, EXIT_CODES[damaged.verdict]) == (Verdict.IMPOSSIBLE, 5)
    assert entry in damaged.reason

    remote = tmp_path / "remote/files/md5" / entry[:2]
    remote.mkdir(parents=True)
    (remote / entry[2:]).write_bytes(content)
    (remote.parent / md5[:2]).mkdir(exist_ok=True)
    shutil.copy(listing, remote.parent / md5[:2] / md5[2:])
    repository.write(".dvc/config.local", "['remote \"mine\"']\n    url = ../../remote\n")
    before = hash_tree(repository.root)
    fetched = run_audit(repository, version, tmp_path / "scratch")
    assert fetched.verdict is Verdict.IDENTICAL, fetched.reason
    assert hash_tree(repository.root) == before  # the damaged object, too, is as it was found


def test_settings_that_were_not_committed_are_restored_and_other_changes_refused(repository, tmp_path):
    repository.replace("params.yaml", "steps: 40", "steps: 41")
    repository.dvc("repro")
    version = repository.register()
    assert version.tags["git.dirty"] == "true"
    found = run_audit(repository, version, tmp_path / "scratch")
    assert found.verdict is Verdict.IDENTICAL, found.reason
    assert any("restored" in note and "params.yaml" in note for note in found.notes)

    store = repository.store()
    changed = f"{version.tags['git.dirty_paths']}, pipelines/train.py"
    store.client().set_model_version_tag("small", str(version.version), "git.dirty_paths", changed)
    refused = run_audit(repository, get_version(store, "small", version.version), tmp_path / "scratch")
    assert refused.verdict is Verdict.IMPOSSIBLE
    assert "uncommitted changes, which are gone: pipelines/train.py" in refused.reason


def test_line_ends_of_a_checkout_with_autocrlf_are_no_difference(repository, tmp_path):
    repository.git("config", "core.autocrlf", "true")
    repository.git("rm", "--quiet", "-r", "--cached", ".")
    repository.git("reset", "--quiet", "--hard")
    assert b"\r\n" in (repository.root / "pipelines/train.py").read_bytes()
    repository.dvc("repro", "--force", "sample", "validate", "train", "evaluate", "export")
    repository.write(".gitignore", (repository.root / ".gitignore").read_text() + "/.venv\n")  # another commit
    repository.commit("made with CRLF")
    store = repository.store()
    store.client().delete_registered_model("small")
    version = repository.register()
    assert version.tags["git.dirty"] == "false"
    found = run_audit(repository, version, tmp_path / "scratch")
    assert found.verdict is Verdict.IDENTICAL, found.reason
    assert not any(stage.inputs for stage in found.stages)
    record = read_record(store, version, Cache.of_repository(repository.root), tmp_path / "record")
    scratch = Scratch(tmp_path / "scratch/repository", tmp_path / "scratch", Path(sys.executable))
    shutil.copy(record.files / "dvc.lock", scratch.root)
    for check in (_check_sources(record, scratch), _check_environment_lock(record, scratch)):
        assert check.passed, check.detail


def test_what_is_missing_is_named(repository, made, tmp_path, monkeypatch):
    version = made[1]
    client = repository.store().client()

    def audit_with(tag: str, value: str) -> Audit:
        client.set_model_version_tag("small", "1", tag, value)
        return run_audit(repository, get_version(repository.store(), "small", 1), tmp_path / "scratch")

    gone = audit_with("git.commit", "0" * 40)
    assert (gone.verdict, "0" * 40 in gone.reason) == (Verdict.IMPOSSIBLE, True)
    audit_with("git.commit", version.tags["git.commit"])

    commit = repository.branch("lock", {"requirements.lock": ("numpy==", "numpy==0.")})
    mismatch = audit_with("git.commit", commit)
    assert mismatch.verdict is Verdict.IMPOSSIBLE
    assert "numpy 0." in mismatch.reason
    assert "--build-environment" in mismatch.todo
    with pytest.raises(PocketAffectError, match="no such commit"):
        run_audit(repository, version, tmp_path / "scratch", at="nowhere")


def test_a_commit_of_no_branch_is_found_the_report_kept_and_a_damaged_package_refused(repository, made, tmp_path):
    store, version = repository.store(), get_version(repository.store(), "small", 1)
    repository.write("note.txt", "later")
    repository.git("add", "note.txt")
    repository.git("commit", "--quiet", "--amend", "--message", "other history")
    assert repository.git("rev-parse", "HEAD") != version.tags["git.commit"]  # which no branch holds any more
    found = run_audit(repository, version, tmp_path / "scratch")
    before = hash_tree(repository.root / "mlruns/artifacts")
    place = attach_report(store, version, found)
    after = hash_tree(repository.root / "mlruns/artifacts")
    assert {name: after[name] for name in before} == before
    kept = next((repository.root / "mlruns/artifacts").glob(f"*/artifacts/{place}"))
    assert json.loads((kept / "audit.json").read_text())["verdict"] == "bit-identical"
    assert "<script" not in (kept / "audit.html").read_text()
    impossible = dataclasses.replace(found, verdict=Verdict.IMPOSSIBLE, reason="other packages", commit="x")
    assert attach_report(store, version, impossible) != ""
    tags = get_version(store, "small", 1).tags
    assert (tags["audit"], tags["audit.commit"]) == ("bit-identical", version.tags["git.commit"])
    assert tags["audit.attempt"].endswith("cannot be audited: other packages")

    weights = next((repository.root / "mlruns/artifacts").glob("*/artifacts/model/*.mlpackage/weight.bin"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(PocketAffectError, match="is not what was registered"):
        run_audit(repository, version, tmp_path / "scratch")
