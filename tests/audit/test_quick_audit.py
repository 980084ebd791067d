"""The audits of the real pipeline, at its smallest settings, as a user calls them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from audit_parts import hash_tree

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
from repository_copy import RepositoryCopy

pytestmark = pytest.mark.slow

NOT_THE_USERS = (".dvc/tmp", "src/", "pipelines/__pycache__", "mlruns/.lock")
"""DVC's scratch, and where running Python leaves its caches."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RepositoryCopy:
    """A copy of this repository in which the pipeline has run once."""
    copy = RepositoryCopy.make(tmp_path_factory.mktemp("audited") / "copy")
    copy.repro()
    return copy


def run_audit(copy: RepositoryCopy, report: Path, *options: str) -> tuple[int, dict]:
    done = copy.run("pocketaffect", "audit", "candidate", "--json", str(report), *options)
    assert report.is_file(), done.stdout + done.stderr
    return done.returncode, json.loads(report.read_text())


def test_a_quick_audit_holds_hashes_lineage_and_answers_and_leaves_all_as_it_was(whole, tmp_path):
    before = hash_tree(whole.folder, without=NOT_THE_USERS)
    code, found = run_audit(whole, tmp_path / "audit.json", "--quick", "--no-record")
    assert (code, found["verdict"]) == (0, "bit-identical"), found["reason"]
    assert [check["name"] for check in found["checks"]] == [
        "stored files",
        "environment lock",
        "sources and settings",
        "the file's own metadata",
        "answers",
    ]
    assert "bit-identical on 1" in found["checks"][-1]["detail"]
    assert hash_tree(whole.folder, without=NOT_THE_USERS) == before


def test_a_quick_audit_names_the_file_of_the_store_that_was_changed(whole, tmp_path):
    copy = whole.duplicate(tmp_path / "copy")
    twin = next(copy.folder.glob("mlruns/artifacts/*/artifacts/model/*.onnx"))
    twin.write_bytes(twin.read_bytes()[:-1] + b"?")
    code, found = run_audit(copy, tmp_path / "audit.json", "--quick", "--no-record")
    assert (code, found["verdict"]) == (4, "differs")
    assert f"model/{twin.name}: other bytes than were registered" in found["reason"]
    assert copy.run("pocketaffect", "registry", "verify").returncode == 1


def test_a_quick_audit_without_the_faces_says_what_is_missing(whole, tmp_path):
    copy = whole.duplicate(tmp_path / "copy")
    shutil.rmtree(copy.folder / ".dvc/cache")
    code, found = run_audit(copy, tmp_path / "audit.json", "--quick", "--no-record")
    assert (code, found["verdict"]) == (5, "cannot be audited")
    assert "the validation faces" in found["reason"]
