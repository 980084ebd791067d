from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml, to_plain, write_atomically, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends_well(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with write_atomically(target) as draft:
        draft.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("old", ["file", "folder", "link to a folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_whatever_was_there_is_replaced_whole(tmp_path, old, new):
    target = tmp_path / "target"
    if old == "file":
        target.write_text("old")
    else:
        place = tmp_path / "elsewhere" if "link" in old else target
        place.mkdir()
        (place / "old").touch()
        if "link" in old:
            target.symlink_to(place)
    with write_atomically(target) as draft:
        if new == "file":
            draft.write_text("new")
        else:
            draft.mkdir()
            (draft / "new").touch()
    assert target.read_text() == "new" if new == "file" else names(target) == ["new"]
    assert names(tmp_path) == (["elsewhere", "target"] if "link" in old else ["target"])
    if "link" in old and new == "folder":
        assert names(tmp_path / "elsewhere") == ["old"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failing_block_leaves_the_old_content_and_nothing_else(tmp_path, kind):
    target = tmp_path / "target"
    for content in ("old", "new"):
        try:
            with write_atomically(target) as draft:
                if kind == "folder":
                    draft.mkdir()
                place = draft / "inner" if kind == "folder" else draft
                place.write_text(content)
                if content == "new":
                    raise KeyError("on the way")
        except KeyError:
            assert content == "new"
    assert (target / "inner" if kind == "folder" else target).read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_a_full_disk_is_named_with_what_is_free(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(PocketAffectError, match=r"a\.txt: disk full\n  found:   [\d,]+ bytes free\n  do: .*dvc gc"),
        write_atomically(tmp_path / "a.txt"),
        Path("/dev/full").open("wb", buffering=0) as stream,  # the device whose every write fails for want of space
    ):
        stream.write(b"new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


WRITERS = {
    "bytes": "draft.write_bytes(bytes(5_000_000))",
    "numpy": "import numpy; numpy.save(draft.open('wb'), numpy.zeros(700_000))",
    "mapped": "import numpy; numpy.lib.format.open_memmap(draft, 'w+', numpy.uint8, (5_000_000,))[:] = 1",
    "parquet": "import pyarrow as a, pyarrow.parquet as q; q.write_table(a.table({'a': range(2_000_000)}), draft)",
    "sqlite": "draft.mkdir(); import sqlite3; c = sqlite3.connect(draft / 'b'); c.execute('create table a (b)'); "
    "c.execute('insert into a values (zeroblob(5000000))'); c.commit()",
    "torch": "import torch; torch.save(torch.zeros(2_000_000), draft)",
    "safetensors": "import torch; from safetensors.torch import save_file as s; s({'a': torch.zeros(2000000)}, draft)",
}
WRITE = """
import resource, sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from pocketaffect.files import write_atomically
if sys.argv[2] != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with write_atomically(Path(sys.argv[1])) as draft:
        {writer}
except Exception as error:
    print(type(error).__name__, error)
"""
SLOW_WRITERS = ("torch", "safetensors")


def write_too_much(target: Path, writer: str, limit: str) -> str:
    code = WRITE.format(writer=WRITERS[writer])
    done = subprocess.run([sys.executable, "-c", code, str(target), limit], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "writer", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW_WRITERS else name for name in WRITERS]
)
def test_a_write_that_a_limit_on_file_sizes_cuts_short_is_named_whichever_library_writes(tmp_path, writer):
    (tmp_path / "a.bin").write_text("old")
    said = write_too_much(tmp_path / "a.bin", writer, "100 KB")
    assert said.startswith(f"PocketAffectError {tmp_path}/a.bin: the system lets no file grow that far\n"), said
    assert "allowed: files of up to 100,000 bytes (`ulimit -f`)" in said
    assert (tmp_path / "a.bin").read_text() == "old"
    assert names(tmp_path) == ["a.bin"]


@pytest.fixture(scope="module")
def small_disk(mount_small):
    return mount_small(megabytes=2)


@pytest.mark.parametrize(
    "writer",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW_WRITERS else name
        for name in WRITERS
        if name != "mapped"  # a full disk kills who writes to mapped memory, before any code can tell
    ],
)
def test_a_disk_that_fills_up_is_named_whichever_library_writes(small_disk, writer):
    (small_disk / "a.bin").write_text("old")
    said = write_too_much(small_disk / "a.bin", writer, "none")
    assert said.startswith(f"PocketAffectError {small_disk}/a.bin: disk full\n  found:   "), said
    assert (small_disk / "a.bin").read_text() == "old"
    assert names(small_disk) == ["a.bin"]


def test_other_errors_come_through_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), write_atomically(tmp_path / "a"):
        (tmp_path / "nowhere").read_text()


KILLED = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from pocketaffect.files import write_atomically
with write_atomically(Path(sys.argv[1])) as draft:
    draft.mkdir()
    (draft / "half").write_text("x")
    print("started", flush=True)
    time.sleep(600)
"""


def test_the_next_write_removes_what_a_killed_one_left_and_leaves_a_running_one_alone(tmp_path):
    target = tmp_path / "target"
    writers = [subprocess.Popen([sys.executable, "-c", KILLED, str(target)], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"started\n"
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert names(tmp_path) == sorted(f".target.{writer.pid}.draft" for writer in writers)
        with write_atomically(target) as draft:
            draft.write_text("good")
        assert names(tmp_path) == [f".target.{writers[1].pid}.draft", "target"]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    with write_atomically(target) as draft:
        draft.write_text("better")
    assert names(tmp_path) == ["target"]


def gone_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("target_exists", [True, False])
def test_a_folder_set_aside_by_a_killed_process_comes_back_when_it_is_the_last_good_one(tmp_path, target_exists):
    target, aside = tmp_path / "target", tmp_path / f".target.{gone_process()}.old"
    aside.mkdir()
    (aside / "old").touch()
    if target_exists:
        target.mkdir()
    with pytest.raises(KeyError), write_atomically(target):
        raise KeyError
    assert names(tmp_path) == ["target"]
    assert names(target) == ([] if target_exists else ["old"])


def test_names_that_only_look_like_drafts_are_left_alone(tmp_path):
    for name in (".a.txt.draft", ".a.txt.x.draft", ".b.txt.99999999.draft", f".a.txt.{os.getpid()}.other"):
        (tmp_path / name).touch()
    with write_atomically(tmp_path / "a.txt") as draft:
        draft.touch()
    assert len(names(tmp_path)) == 5


def test_equal_content_is_equal_json_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 0.5], "a": "é"})
    write_json(tmp_path / "b.json", {"a": "é", "b": [1, 0.5]})
    expected = '{\n  "a": "é",\n  "b": [\n    1,\n    0.5\n  ]\n}\n'
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (tmp_path / "b.json").read_text(encoding="utf-8")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_with_a_number_that_has_no_form_is_not_written(tmp_path, number):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": number})
    assert names(tmp_path) == []


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-3\nb: no\nc: 0o17\nd: '5'\ne: {f: [1, 2.5]}\n")
    assert read_yaml(file) == {"a": 0.001, "b": "no", "c": 15, "d": "5", "e": {"f": [1, 2.5]}}
    assert read_yaml(tmp_path / "none.yaml") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", ["not readable as YAML", 'duplicate key "a"', "line 3"]),
        (b"a: [1\n", ["not readable as YAML", "line 1"]),
        (b"a: \xff\n", ["not readable as YAML", "utf-8"]),
        (b"a: \0\n", ["not readable as YAML", "#x0000"]),
        (b"a: 2018-99-99\n", ["not readable as YAML", "month"]),
        (b"a: " + b"[" * 600, ["not readable as YAML", "recursion"]),
        (b"a: !!python/object:os.system x\n", ["not readable as YAML", "tag"]),
        (b"", ["no settings", "nothing", "keys with values"]),
        (b"- a\n", ["no settings", "list"]),
        (b"just text\n", ["no settings", "str"]),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_named(tmp_path, content, words):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(PocketAffectError) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert all(word in str(caught.value) for word in ["a.yaml", *words])
    assert "<unicode string>" not in str(caught.value)


def test_a_folder_in_place_of_a_yaml_file_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match=r"not readable\n  found:   Is a directory"):
        read_yaml(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(st.sampled_from("ab:- \n{}[]&*!|>'\"#%@,?0.e\t\\"), max_size=40))
def test_any_text_is_read_or_refused_with_its_file(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    try:
        assert isinstance(read_yaml(tmp_path / "a.yaml"), dict)
    except PocketAffectError as error:
        assert "a.yaml" in error.problem  # noqa: PT017  both ends are allowed


def test_a_place_under_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file/target", "file/deeper/target"):
        with pytest.raises(PocketAffectError, match="target: cannot be written"):
            write_json(tmp_path / place, {})
    assert names(tmp_path) == ["file"]


def test_what_is_written_as_json_has_numbers_of_a_fixed_length_and_no_number_that_json_lacks():
    @dataclass
    class Row:
        value: float
        parts: tuple[Any, ...]

    content = {
        "row": Row(1 / 3, (-1e-9, math.nan, 5, True, None, "1.23456789")),
        "array": np.array([[2 / 3, math.inf]]),
    }
    plain = {"row": {"value": 0.333333, "parts": [0.0, None, 5, True, None, "1.23456789"]}, "array": [[0.666667, None]]}
    assert to_plain(content) == plain
    assert "-0.0" not in json.dumps(to_plain(content))
    assert to_plain({"count": 123456.789}, significant=3) == {"count": 123000.0}
