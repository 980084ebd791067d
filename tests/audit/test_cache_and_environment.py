from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

import pytest
from audit_parts import hash_tree

from pocketaffect.audit.outcome import NotAuditableError
from pocketaffect.audit.record import Cache
from pocketaffect.audit.scratch import verify_environment
from pocketaffect.checkout import compare_lock


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def put(cache: Cache, content: bytes, suffix: str = "") -> str:
    name = md5(content) + suffix
    place = cache.folder / "files/md5" / name[:2] / name[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return name


def fill(folder: Path) -> tuple[Cache, str, str]:
    """A cache with one folder of two files, as DVC lays it out; the hashes of folder and second file."""
    cache = Cache(folder)
    first, second = put(cache, b"one"), put(cache, b"two")
    listing = [{"md5": first, "relpath": "a.csv"}, {"md5": second, "relpath": "b/c.jpg"}]
    return cache, put(cache, json.dumps(listing).encode(), ".dir"), second


def test_a_folder_is_copied_whole_and_its_source_is_left_alone(tmp_path):
    source, folder, second = fill(tmp_path / "source")
    before = hash_tree(tmp_path / "source")
    target = Cache(tmp_path / "target")
    assert target.copy_from(source, folder) == []
    assert target.list_files(folder, "data") == {"data/a.csv": md5(b"one"), "data/b/c.jpg": second}
    assert target.find(second).read_bytes() == b"two"
    assert hash_tree(tmp_path / "source") == before


def test_missing_and_damaged_objects_are_named_and_not_copied(tmp_path):
    source, folder, second = fill(tmp_path / "source")
    place = source.find(second)
    place.write_bytes(b"tw0")
    target = Cache(tmp_path / "target")
    assert target.copy_from(source, folder) == [second]
    assert target.find(second) is None
    place.unlink()
    assert Cache(tmp_path / "other").copy_from(source, folder) == [second]
    assert Cache(tmp_path / "third").copy_from(source, "0" * 32 + ".dir") == ["0" * 32 + ".dir"]
    source.find(folder).write_bytes(b"[]")
    assert source.list_files(folder, "data") is None


def test_the_cache_is_the_one_that_dvcs_settings_name(tmp_path):
    (tmp_path / ".dvc").mkdir()
    assert Cache.of_repository(tmp_path).folder == tmp_path / ".dvc" / "cache"
    (tmp_path / ".dvc/config").write_text("[cache]\n    dir = ../../shared\n")
    assert Cache.of_repository(tmp_path).folder.resolve() == (tmp_path.parent / "shared").resolve()
    before = hash_tree(tmp_path)
    Cache.of_repository(tmp_path)
    assert hash_tree(tmp_path) == before


def test_a_lock_is_read_with_its_markers_and_hashes(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "numpy==2.4.6 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "# a remark\npywin32==311 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
        "uvloop[extra]==1.0 ; sys_platform != 'win32' --hash=sha256:dd\n"
    )
    found = [(one.name, str(one.specifier)) for one, _ in compare_lock(lock)]
    assert found == [("numpy", "==2.4.6"), ("uvloop", "==1.0")]


@pytest.mark.parametrize("line", ["numpy>=2", "numpy", "-e .", "git+https://example.org/x.git"])
def test_a_lock_that_pins_nothing_is_refused(line, tmp_path):
    (tmp_path / "requirements.lock").write_text(line + "\n")
    with pytest.raises(NotAuditableError, match="not a pinned package"):
        verify_environment(tmp_path / "requirements.lock")


def test_the_environment_of_this_repository_is_the_one_of_its_lock(pytestconfig):
    compared = verify_environment(pytestconfig.rootpath / "requirements.lock")
    assert compared > 100


def test_packages_of_other_versions_are_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    here = importlib.metadata.version("numpy")
    lock.write_text(f"numpy=={here}\n")
    assert verify_environment(lock) == 1
    lock.write_text("numpy==0.1\nno-such-package==1\nclick==0.1\ndvc==0.1\njinja2==0.1\n")
    with pytest.raises(NotAuditableError) as refused:
        verify_environment(lock)
    assert f"numpy 0.1 is locked, {here} is here; no-such-package 1 is locked, none is here" in str(refused.value)
    assert "and 2 more" in str(refused.value)
    assert "--build-environment" in refused.value.todo
    with pytest.raises(NotAuditableError, match=r"no requirements\.lock"):
        verify_environment(tmp_path / "nowhere")
