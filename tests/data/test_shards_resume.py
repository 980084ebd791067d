"""Killed, failed and changed preprocessing: what is finished stays, what is not is made again, bytes never differ."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from affectnet_copies import picture
from PIL import Image
from shard_parts import Copy, contents

from pocketaffect.errors import PocketAffectError

WRITE = """
write_shards(
    folder / "manifest.parquet", folder / "data", folder / "out" / "shards", folder / "work",
    make_settings(**{settings}),
)
"""


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path / "copy")


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Of each shard which file it is and when it was written."""
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.glob("**/*.npy")}


def finished(copy: Copy) -> dict[str, tuple[int, int]]:
    notes = {file.name.removesuffix(".json") for file in copy.work.glob("*/notes/*.json")}
    return {name: identity for name, identity in identities(copy.work).items() if name in notes}


def break_image(copy: Copy, name: str) -> bytes:
    content = (copy.source / name).read_bytes()
    (copy.source / name).write_bytes(b"")
    return content


@pytest.fixture
def stopped(copy) -> Copy:
    """A run that failed at an image of its third shard, whose cause is mended."""
    content = break_image(copy, "train/0011.png")
    with pytest.raises(PocketAffectError, match=r"0011\.png: empty file"):
        copy.write()
    (copy.source / "train/0011.png").write_bytes(content)
    return copy


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    copy = Copy(tmp_path_factory.mktemp("undisturbed") / "copy")
    copy.write()
    return contents(copy.target)


def test_a_failed_run_goes_on_from_its_finished_shards(stopped, undisturbed):
    kept = finished(stopped)
    assert sorted(kept) == ["train-00000.npy", "train-00001.npy"]
    counted: list[int] = []
    stopped.write(progress=counted.append)
    assert contents(stopped.target) == undisturbed
    assert {name: identities(stopped.target)[name] for name in kept} == kept
    assert sum(counted) == 19
    assert contents(stopped.work) == {}


@pytest.mark.parametrize("settings", [{"image_size": 48}, {"margin": 0.2}, {"align": "eyes"}, {"shard_images": 4}])
def test_another_setting_starts_afresh_and_removes_what_the_old_one_left(stopped, settings):
    old = next(stopped.work.iterdir())
    content = break_image(stopped, "train/0000.png")
    with pytest.raises(PocketAffectError, match=r"0000\.png"):
        stopped.write(**settings)
    assert not old.exists()
    assert not finished(stopped)
    (stopped.source / "train/0000.png").write_bytes(content)
    stopped.write(**settings)
    fresh = Copy(stopped.folder / "fresh")
    fresh.write(**settings)
    assert contents(stopped.target) == contents(fresh.target)


def test_workers_and_memory_are_no_reason_to_start_afresh(stopped, undisturbed):
    kept = finished(stopped)
    stopped.write(workers=2, memory_mb=8192)
    assert contents(stopped.target) == undisturbed
    assert {name: identities(stopped.target)[name] for name in kept} == kept


def test_another_manifest_starts_afresh(stopped):
    stopped.rows[0]["valence"] = 0.25
    stopped.save()
    stopped.write()
    index_of_first = np.load(stopped.target / "train-00000.npy")[0]
    assert index_of_first.any()
    assert not list(stopped.work.iterdir())


def test_changed_source_code_starts_afresh(stopped, monkeypatch):
    from pocketaffect.data.shards import write as shards

    old = next(stopped.work.iterdir()).name
    assert shards._fingerprint(stopped.manifest, {"size": 1}) == shards._fingerprint(stopped.manifest, {"size": 1})
    monkeypatch.setattr(shards, "hash_code", lambda *_: "other")
    break_image(stopped, "train/0000.png")
    with pytest.raises(PocketAffectError):
        stopped.write()
    assert [folder.name for folder in stopped.work.iterdir()] != [old]


@pytest.mark.parametrize("damage", ["a pixel", "shorter", "longer", "header", "gone", "note", "empty note"])
def test_a_damaged_finished_shard_is_made_again(stopped, undisturbed, damage):
    kept = finished(stopped)
    shard = next(stopped.work.glob("*/shards/train-00001.npy"))
    note = next(stopped.work.glob("*/notes/train-00001.npy.json"))
    content = bytearray(shard.read_bytes())
    if damage == "a pixel":
        content[-100] ^= 1
        shard.write_bytes(content)
    elif damage == "shorter":
        shard.write_bytes(content[:-1])
    elif damage == "longer":
        shard.write_bytes(content + b"\0")
    elif damage == "header":
        shard.write_bytes(content.replace(b"(5, 32", b"(4, 40"))
    elif damage == "gone":
        shard.unlink()
    else:
        note.write_text("" if damage == "empty note" else json.dumps(["no", "note"]))
    stopped.write()
    assert contents(stopped.target) == undisturbed
    again = identities(stopped.target)
    assert again["train-00000.npy"] == kept["train-00000.npy"]
    assert again["train-00001.npy"] != kept["train-00001.npy"]


def test_a_source_image_that_changed_meanwhile_is_cut_again(stopped):
    kept = finished(stopped)
    Image.fromarray(picture(77, 46, 54)).save(stopped.source / "train/0006.png")  # of the sizes it had
    stopped.write()
    again = identities(stopped.target)
    assert again["train-00000.npy"] == kept["train-00000.npy"]
    assert again["train-00001.npy"] != kept["train-00001.npy"]
    fresh = Copy(stopped.folder / "fresh")
    fresh.write()
    assert contents(fresh.target)["train-00001.npy"] != contents(stopped.target)["train-00001.npy"]


def test_unfinished_files_of_a_killed_process_do_not_come_along(stopped, undisturbed):
    shards = next(stopped.work.glob("*/shards"))
    (shards / ".train-00002.npy.999999999.draft").write_bytes(b"half a shard")
    (shards / ".train-00000.npy.999999998.draft").write_bytes(b"half a shard")
    stopped.write()
    assert contents(stopped.target) == undisturbed


def test_other_things_in_the_work_folder_stay(stopped):
    (stopped.work / "notes of mine").mkdir()
    stopped.write(image_size=48)
    assert [entry.name for entry in stopped.work.iterdir()] == ["notes of mine"]


def test_the_work_folder_may_be_on_another_file_system(copy, undisturbed):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == copy.folder.stat().st_dev:
        pytest.skip("no second file system here")
    copy.work = elsewhere / f"pocketaffect-test-{os.getpid()}"
    try:
        copy.write()
        assert contents(copy.target) == undisturbed
        assert list(copy.work.iterdir()) == []
    finally:
        subprocess.run(["rm", "-r", str(copy.work)], check=True)


WRITE_WITH_LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))
try:
    {write}
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_write_that_the_system_cuts_short_is_named_and_the_old_shards_stay(copy, workers):
    """A real failing write: the system's own limit on file sizes, met in the middle of a shard."""
    copy.write()
    before = contents(copy.folder / "out")
    write = WRITE.format(settings={"workers": workers}).replace("\n", " ")
    printed, errors = copy.start(WRITE_WITH_LIMIT.format(write=write)).communicate(timeout=300)
    assert printed.startswith("PocketAffectError"), errors
    assert "train-0000" in printed
    assert "the system lets no file grow that far" in printed
    assert contents(copy.folder / "out") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_named_and_leaves_the_finished_shards(copy, undisturbed, workers):
    copy.work.mkdir()
    size = ["-o", "size=52k"]  # notes and two shards of 15 kB, not three
    if subprocess.run(["mount", "-t", "tmpfs", *size, "none", str(copy.work)], capture_output=True).returncode:
        pytest.skip("no mounts here")
    try:
        with pytest.raises(PocketAffectError, match=r"disk full\n  found:   [\d,]+ bytes free\n  do:      free some"):
            copy.write(workers=workers)
        assert not copy.target.exists()
        kept = finished(copy)
        assert kept
        subprocess.run(["mount", "-o", "remount,size=8m", str(copy.work)], check=True)
        before = {name: identity for name, identity in identities(copy.work).items() if name in kept}
        assert before == kept
        copy.write(workers=workers)
    finally:
        subprocess.run(["umount", str(copy.work)], check=True)
    assert contents(copy.target) == undisturbed


def wait_for(count: int, copy: Copy, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while len(list(copy.work.glob("*/notes/*.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def runs(group: int) -> bool:
    """Whether a process of the group runs: one that ended may wait as a zombie for somebody to ask."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, _, its_group, *_ = file.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state != "Z":
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("whom", "workers"), [("parent", 2), ("group", 1)])
def test_a_run_killed_in_the_middle_goes_on_to_the_same_bytes(tmp_path, workers, whom):
    copy = Copy(tmp_path / "copy", training=200, validation=20)
    settings = {"workers": workers, "shard_images": 8}
    process = copy.start(WRITE.format(settings=settings))
    wait_for(3, copy, process)
    (os.kill if whom == "parent" else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 300
    while runs(process.pid):  # until its workers noticed
        assert time.monotonic() < end
        time.sleep(0.05)
    kept = finished(copy)
    assert 3 <= len(kept) < 25
    assert not copy.target.exists()
    copy.write(**settings)
    again = identities(copy.target)
    assert {name: again[name] for name in kept} == kept
    fresh = Copy(tmp_path / "fresh", training=200, validation=20)
    fresh.write(**settings)
    assert contents(copy.folder / "out") == {f"shards/{name}": part for name, part in contents(fresh.target).items()}
    assert contents(copy.work) == {}


@pytest.mark.slow
def test_a_run_killed_again_and_again_at_any_moment_ends_with_the_same_bytes(tmp_path):
    copy = Copy(tmp_path / "copy", training=160, validation=20)
    chance = random.Random(5)
    for _ in range(5):
        process = copy.start(WRITE.format(settings={"workers": 2, "shard_images": 8}))
        time.sleep(chance.uniform(0.6, 2.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    copy.write(workers=2, shard_images=8)
    fresh = Copy(tmp_path / "fresh", training=160, validation=20)
    fresh.write(shard_images=8)
    assert contents(copy.folder / "out") == {f"shards/{name}": part for name, part in contents(fresh.target).items()}
    assert contents(copy.work) == {}
