from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from affectnet_copies import IMAGES, sound_copy, sound_npy_copy
from pack_parts import PART, PROGRESS, contents, listing

from pocketaffect.data.packing.pack import pack
from pocketaffect.data.packing.source import LeftOut
from pocketaffect.data.release.folder import DataFolder
from pocketaffect.errors import PocketAffectError


@pytest.fixture(params=["csv", "npy"])
def source(request, tmp_path):
    (tmp_path / "source").mkdir()
    return (sound_copy if request.param == "csv" else sound_npy_copy)(tmp_path / "source")


def test_packing_again_writes_nothing(source, tmp_path):
    first = pack(source, tmp_path / "packed", part_bytes=PART)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "packed").iterdir()}
    again = pack(source, tmp_path / "packed", part_bytes=PART)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "packed").iterdir()} == before
    assert again.parts == first.parts
    assert (first.kept_parts, again.kept_parts) == (0, len(first.parts))


def stop_after(parts: int):
    """A progress that stops the work as Ctrl-C would, once so many parts are there."""

    @contextmanager
    def progress(what, total):
        def advance(count):
            if len(list(progress.target.glob("images-*.tar"))) >= parts:
                raise KeyboardInterrupt

        yield advance

    return progress


def interrupted(source: Path, target: Path, parts: int) -> None:
    progress = stop_after(parts)
    progress.target = target
    with pytest.raises(KeyboardInterrupt):
        pack(source, target, part_bytes=PART, progress=progress)


def test_an_interrupted_pack_goes_on_and_keeps_its_parts(source, tmp_path):
    whole = pack(source, tmp_path / "whole", part_bytes=PART)
    interrupted(source, tmp_path / "packed", 2)
    with pytest.raises(PocketAffectError, match="an unfinished pack"):
        DataFolder.open(tmp_path / "packed")
    assert not (tmp_path / "packed/pack.json").exists()
    kept = (tmp_path / "packed/images-00000.tar").stat().st_mtime_ns
    summary = pack(source, tmp_path / "packed", part_bytes=PART)
    assert summary.kept_parts == 2
    assert summary.parts == whole.parts
    assert (tmp_path / "packed/images-00000.tar").stat().st_mtime_ns == kept
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_finished_part_that_was_damaged_is_written_again(tmp_path, damage):
    source = sound_copy(tmp_path / "source")
    pack(source, tmp_path / "whole", part_bytes=PART)
    interrupted(source, tmp_path / "packed", 2)
    part = tmp_path / "packed/images-00001.tar"
    content = bytearray(part.read_bytes())
    content[600] ^= 1
    part.write_bytes(content[:512] if damage == "cut" else content)
    if damage == "gone":
        part.unlink()
    assert pack(source, tmp_path / "packed", part_bytes=PART).kept_parts == 1
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def test_an_interrupted_pack_of_a_changed_source_is_not_mixed(source, tmp_path):
    interrupted(source, tmp_path / "packed", 1)
    before = contents(tmp_path / "packed")
    victim = next(file for file in sorted(source.rglob("*")) if file.suffix in (".jpg", ".png"))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + b"?")
    with pytest.raises(PocketAffectError, match=r"source: changed since .*packed was begun(.|\n)*do:      remove"):
        pack(source, tmp_path / "packed", part_bytes=PART)
    victim.unlink()
    with pytest.raises(PocketAffectError, match="changed since"):
        pack(source, tmp_path / "packed", part_bytes=PART)
    assert contents(tmp_path / "packed") == before


def test_a_source_that_changes_while_it_is_packed_is_told(tmp_path):
    source = sound_copy(tmp_path / "source")

    @contextmanager
    def progress(what, total):
        yield lambda _: (source / IMAGES / "0/t0.png").write_bytes(b"changed")

    with pytest.raises(PocketAffectError, match="source: changed while it was packed"):
        pack(source, tmp_path / "packed", part_bytes=PART, progress=progress)
    with pytest.raises(PocketAffectError, match="an unfinished pack"):
        DataFolder.open(tmp_path / "packed")


def test_another_part_length_is_not_mixed(tmp_path):
    source = sound_copy(tmp_path / "source")
    interrupted(source, tmp_path / "packed", 1)
    with pytest.raises(PocketAffectError, match=r"begun with other settings\n  found: .*30,000(.|\n)*40,000"):
        pack(source, tmp_path / "packed", part_bytes=40_000)
    pack(source, tmp_path / "packed", part_bytes=PART)
    with pytest.raises(PocketAffectError, match=r"packed with other settings\n  found: .*30,000(.|\n)*40,000"):
        pack(source, tmp_path / "packed", part_bytes=40_000)


def change_picture(source: Path) -> None:
    file = source / IMAGES / "0/t0.png"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def change_list(source: Path) -> None:
    file = source / "training.csv"
    file.write_bytes(file.read_bytes().replace(b"0.3", b"0.2"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_picture, "images-00000.tar"),
        (change_list, "training.csv"),
        (lambda source: (source / IMAGES / "0/t0.png").unlink(), "1 file.*0/t0.png"),
        (lambda source: (source / IMAGES / "0/t0.png").write_bytes(b"shorter"), "images-00000.tar"),
    ],
)
def test_a_finished_pack_of_a_changed_source_is_told(tmp_path, change, named):
    source = sound_copy(tmp_path / "source")
    pack(source, tmp_path / "packed", part_bytes=PART)
    before = contents(tmp_path / "packed")
    change(source)
    with pytest.raises(PocketAffectError, match=f"not what .*packed was packed from(.|\n)*{named}(.|\n)*do:"):
        pack(source, tmp_path / "packed", part_bytes=PART)
    assert contents(tmp_path / "packed") == before


def test_files_with_new_times_and_old_bytes_are_the_same_source(tmp_path):
    source = sound_copy(tmp_path / "source")
    pack(source, tmp_path / "packed", part_bytes=PART)
    (source / IMAGES / "0/t0.png").touch()
    assert pack(source, tmp_path / "packed", part_bytes=PART).members == 20


def test_a_picture_that_came_later_is_told(tmp_path):
    source = sound_copy(tmp_path / "source")
    (source / IMAGES / "0/t0.png").rename(tmp_path / "t0.png")
    assert pack(source, tmp_path / "packed").missing == LeftOut(1, (f"{IMAGES}/0/t0.png",))
    (tmp_path / "t0.png").rename(source / IMAGES / "0/t0.png")
    with pytest.raises(PocketAffectError, match=r"1 file\(s\) new, gone or changed: .*0/t0\.png"):
        pack(source, tmp_path / "packed")


PROGRAM = """
import sys
from pathlib import Path
from pocketaffect.data.packing.pack import pack
pack(Path(sys.argv[1]), Path(sys.argv[2]), part_bytes=3_000_000)
"""


@pytest.mark.slow
def test_a_pack_that_is_killed_again_and_again_becomes_the_same_pack(tmp_path):
    source = tmp_path / "source"
    for name, count in (("train_set", 1200), ("val_set", 100)):
        (source / name / "images").mkdir(parents=True)
        for number in range(count):
            (source / name / "images" / f"{number}.jpg").write_bytes(number.to_bytes(4, "big") * 4000)
    pack(source, tmp_path / "whole", part_bytes=3_000_000)
    target = tmp_path / "packed"
    killed = 0
    for attempt in range(200):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(source), str(target)], stderr=subprocess.PIPE)
        before = len(list(target.glob("images-*.tar")))
        # Killed at another moment each time, once it has got further than the last one.
        while process.poll() is None and len(list(target.glob("images-*.tar"))) == before:
            time.sleep(0.001)
        time.sleep(0.003 * (attempt % 7))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()
        killed += 1
    assert killed  # four times or more, unless a busy machine notices a part late
    assert not list(target.glob(".*"))
    assert contents(target) == contents(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which takes root")
def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path):
    source = sound_copy(tmp_path / "source")
    whole = pack(source, tmp_path / "whole", part_bytes=PART)
    small = tmp_path / "small"
    small.mkdir()
    room = sum(part.bytes for part in whole.parts[:2]) + 15_000
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no mounts here")
    try:
        with pytest.raises(PocketAffectError, match=r"images-0000\d\.tar: disk full(.|\n)*bytes free(.|\n)*do:"):
            pack(source, small / "packed", part_bytes=PART)
        left = listing(small / "packed")
        parts = [name for name in left if name.endswith(".tar")]
        assert left == [PROGRESS, *parts]
        assert len(parts) >= 1
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert pack(source, small / "packed", part_bytes=PART).kept_parts == len(parts)
        assert contents(small / "packed") == contents(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(small)], check=True)
