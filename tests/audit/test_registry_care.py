"""What keeps the store in order: verification of hashes, archive and gc, backup and restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from audit_parts import hash_tree

from pocketaffect.audit.upkeep import (
    archive_version,
    back_up,
    collect_garbage,
    plan_removals,
    restore,
    run_folder,
    verify_registry,
)
from pocketaffect.config import RegisterParams
from pocketaffect.errors import PocketAffectError
from pocketaffect.registry.lineage.lineage import Lineage
from pocketaffect.registry.promotion.log import LogEntry, append_entry, read_log, survey
from pocketaffect.registry.store.register import register_package
from pocketaffect.registry.store.runs import RunRecord
from pocketaffect.registry.store.store import Store, find_store, open_store
from pocketaffect.registry.store.versions import RegisteredVersion, list_versions, package_path

MODEL = "faces"

pytestmark = pytest.mark.slow


def register(store: Store, folder: Path, content: str) -> RegisteredVersion:
    """A version whose files are of this content."""
    place = folder / content
    weights = place / "affect.mlpackage/Data/weight.bin"
    weights.parent.mkdir(parents=True)
    weights.write_text(content)
    (place / "params.yaml").write_text(content)
    (place / "evaluation").mkdir()
    (place / "evaluation/metrics.json").write_text(content)
    record = RunRecord(
        place / "affect.mlpackage",
        Lineage("x", (), "x", "x", sha256={}, versions={}, machine={}),
        artifacts=[place / "params.yaml", place / "evaluation"],
        description=content,
    )
    names = RegisterParams(model_name=MODEL, experiment="faces", allow_dirty=True)
    return register_package(store, names, record)


def log_promotion(store: Store, version: RegisteredVersion, before: int | None = None) -> None:
    entry = LogEntry(
        kind="promotion",
        who="t@h",
        when=datetime.now(UTC).isoformat(),
        why="w",
        before=before,
        after=version.version,
        digest=version.digest,
        failed=(),
        verdict_sha256="",
        remark="",
        previous="",
    )
    append_entry(store, entry, version)


@pytest.fixture(scope="module")
def registered(tmp_path_factory, store_template) -> Path:
    """A repository whose store holds three versions."""
    folder = tmp_path_factory.mktemp("registered")
    shutil.copytree(store_template, folder / "repository/mlruns")
    store = open_store(folder / "repository")
    for name in ("one", "two", "three"):
        register(store, folder / "made", name)
    return folder / "repository"


@pytest.fixture
def root(registered, tmp_path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(registered, tmp_path / "repository"))


@pytest.fixture
def store(root) -> Store:
    return open_store(root)


@pytest.fixture
def three(store) -> list[RegisteredVersion]:
    return list_versions(store, MODEL)


def damages(store: Store) -> dict[int, list[tuple[str, str]]]:
    return {
        state.version.version: [(damage.path, damage.detail.split(" (")[0]) for damage in state.damages]
        for state in verify_registry(store, MODEL)
    }


def test_verification_names_every_changed_and_missing_file_of_its_version(store, three):
    assert damages(store) == {1: [], 2: [], 3: []}
    assert all(state.files > 3 for state in verify_registry(store, MODEL))
    folder = run_folder(store, three[1])
    (folder / "params.yaml").write_text("twa")
    (folder / "evaluation/metrics.json").unlink()
    (folder / "audit").mkdir()
    (folder / "audit/later.json").write_text("not registered, so not judged")
    (run_folder(store, three[2]) / "model/affect.mlpackage/Data/weight.bin").write_text("threa")
    (run_folder(store, three[0]) / "contents.json").unlink()
    found = damages(store)
    assert found[2] == [
        ("evaluation/metrics.json", "missing"),
        ("params.yaml", "other bytes than were registered"),
    ]
    assert found[3][0][0] == "model/affect.mlpackage"
    assert ("model/affect.mlpackage/Data/weight.bin", "other bytes than were registered") in found[3]
    assert found[1] == [("contents.json", "missing: no other file can be held to its hash")]
    with pytest.raises(PocketAffectError, match="is not what was registered"):
        package_path(store, three[2])


def test_a_changed_entry_of_the_promotion_log_is_reported(store, three):
    log_promotion(store, three[0])
    assert (len(read_log(store, MODEL).entries), read_log(store, MODEL).problems) == (1, ())
    client = store.client()
    entry = client.get_model_version(f"{MODEL}.promotions", "1").tags["promotion.entry"]
    client.set_model_version_tag(f"{MODEL}.promotions", "1", "promotion.entry", entry.replace("t@h", "me@h"))
    assert read_log(store, MODEL).problems == ("entry 1 was changed after it was written",)


def test_what_an_alias_or_the_log_points_to_is_neither_archived_nor_removed(store, three):
    log_promotion(store, three[0])
    with pytest.raises(PocketAffectError, match="an entry of the promotion log"):
        archive_version(store, MODEL, "1")
    with pytest.raises(PocketAffectError, match="alias candidate"):
        archive_version(store, MODEL, "candidate")
    archive_version(store, MODEL, "2")
    store.client().set_registered_model_alias(MODEL, "champion", "2")  # after it was archived
    before = hash_tree(store.artifact_root)
    assert plan_removals(store, MODEL) == []
    assert collect_garbage(store, MODEL) == []
    assert hash_tree(store.artifact_root) == before
    with pytest.raises(PocketAffectError, match="no version '9'"):
        archive_version(store, MODEL, "9")


def test_gc_removes_archived_versions_failed_runs_and_ownerless_files_and_nothing_else(store, three):
    client, root = store.client(), store.artifact_root
    experiment = store.experiment_id("faces")
    archive_version(store, MODEL, "1")
    runs = {}
    for status, tags in (
        ("FAILED", {"package.sha256": "0" * 64}),
        ("FAILED", {}),
        ("RUNNING", {"package.sha256": "1" * 64}),
        ("FINISHED", {"package.sha256": "2" * 64}),
    ):
        run = client.create_run(experiment, tags=tags).info.run_id
        client.log_text(run, "x", "file.txt")
        if status != "RUNNING":
            client.set_terminated(run, status)
        runs[status, bool(tags)] = run
    (root / ("ab" * 16) / "artifacts").mkdir(parents=True)
    (root / ("ab" * 16) / "artifacts/x").write_text("nobody's")
    (root / "notes").mkdir()
    planned = plan_removals(store, MODEL)
    assert {removal.folder.name for removal in planned} == {three[0].run_id, runs["FAILED", True], "ab" * 16}
    before = hash_tree(root)
    assert plan_removals(store, MODEL) == planned
    assert hash_tree(root) == before  # planning removes nothing

    assert {removal.folder for removal in collect_garbage(store, MODEL)} == {one.folder for one in planned}
    after = hash_tree(root)
    gone = {name.split("/")[0] for name in before.keys() - after.keys()}
    assert gone == {removal.folder.name for removal in planned}
    assert {name: before[name] for name in after} == after
    assert collect_garbage(store, MODEL) == []
    states = {state.version.version: state for state in verify_registry(store, MODEL)}
    assert states[1].removed
    assert [states[number].damages for number in (2, 3)] == [(), ()]
    with pytest.raises(PocketAffectError, match="is gone"):
        package_path(store, list_versions(store, MODEL)[0])
    with pytest.raises(PocketAffectError, match="its files were removed"):
        archive_version(store, MODEL, "1", undo=True)


def test_a_version_whose_files_were_removed_gets_them_back_when_its_bytes_are_registered_again(store, three, tmp_path):
    archive_version(store, MODEL, "1")
    assert "archived" in survey(store, MODEL)
    collect_garbage(store, MODEL)
    assert "archived, files removed" in survey(store, MODEL)
    again = register(store, tmp_path / "again", "one")
    assert (again.version, again.aliases) == (1, ("candidate",))
    assert not {"archived", "artifacts.removed"} & again.tags.keys()
    assert [state.damages for state in verify_registry(store, MODEL)] == [()] * 3
    assert "archived" not in survey(store, MODEL)


def test_an_archived_version_can_be_taken_back_and_its_bytes_may_have_another_version(store, three, tmp_path):
    archive_version(store, MODEL, "1")
    archive_version(store, MODEL, "1")
    assert [removal.version for removal in plan_removals(store, MODEL)] == [1]
    archive_version(store, MODEL, "1", undo=True)
    assert plan_removals(store, MODEL) == []


def test_an_interrupted_gc_is_finished_by_the_next(store, three, monkeypatch):
    archive_version(store, MODEL, "1")

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pocketaffect.audit.upkeep.shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            collect_garbage(store, MODEL)
    (left,) = collect_garbage(store, MODEL)
    assert left.why == "left by an interrupted gc"
    assert not run_folder(store, three[0]).exists()
    assert not list(store.artifact_root.glob(".removed-*"))
    assert damages(store) == {1: [], 2: [], 3: []}


def test_a_backup_taken_while_others_write_is_sound_and_works_in_another_place(store, root, three, tmp_path):
    stop = threading.Event()

    def write() -> None:
        client = store.client()
        while not stop.is_set():
            run = client.create_run("0")
            client.log_text(run.info.run_id, "x" * 1000, "file.txt")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        target = back_up(store, tmp_path / "backups" / "monday")
    finally:
        stop.set()
        writer.join()
    with sqlite3.connect(target / "mlflow.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with pytest.raises(PocketAffectError, match="exists already"):
        back_up(store, target)
    with pytest.raises(PocketAffectError, match="there is a store already"):
        restore(root, target)

    kept = hash_tree(target)
    shutil.rmtree(root)
    elsewhere = tmp_path / "moved here" / "repository"
    restored = restore(elsewhere, target)
    assert hash_tree(target) == kept
    assert [version.version for version in list_versions(restored, MODEL)] == [1, 2, 3]
    assert damages(restored) == {1: [], 2: [], 3: []}
    moved = list_versions(restored, MODEL)[0]
    assert package_path(restored, moved).is_relative_to(elsewhere)
    renamed = elsewhere.with_name("again")
    elsewhere.rename(renamed)
    again = open_store(renamed)
    assert package_path(again, list_versions(again, MODEL)[2]).is_relative_to(renamed)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system read-only, which takes root")
def test_a_read_only_store_is_backed_up_and_the_restored_one_can_be_written(root, three, tmp_path):
    place = root / "mlruns"
    if subprocess.run(["mount", "--bind", "-o", "ro", str(place), str(place)], capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        target = back_up(find_store(root), tmp_path / "backup")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    for file in (target, *target.rglob("*")):
        file.chmod(0o555 if file.is_dir() else 0o444)
    restored = restore(tmp_path / "elsewhere", target)
    assert damages(restored) == {1: [], 2: [], 3: []}
    assert all(file.stat().st_mode & 0o200 for file in (tmp_path / "elsewhere").rglob("*"))


def test_what_is_no_backup_is_refused(tmp_path):
    with pytest.raises(PocketAffectError, match="no backup of a store"):
        restore(tmp_path / "repository", tmp_path)
    assert not (tmp_path / "repository").exists()
