"""The network that comes with the package: held to its digests, chosen before drawings, and part of the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest

from pocketaffect import AffectReader, paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.predict import models
from pocketaffect.shipped.network import CARD, DIGESTS, FOLDER, find_shipped, seal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped(twin, package, tmp_path) -> Path:
    """A tiny network in the form in which one is shipped."""
    folder = tmp_path / "files"
    shutil.copytree(package, folder / paths.PACKAGE.name)
    shutil.copy(twin, folder / paths.TWIN.name)
    (folder / paths.VERIFICATION.name).write_text("{}")
    (folder / CARD).write_text("# A card\n")
    seal(folder)
    return folder


def test_what_comes_with_this_checkout_is_whole_or_absent():
    assert find_shipped() in (None, FOLDER)


def test_without_a_shipped_network_there_is_none(tmp_path):
    assert find_shipped(tmp_path) is None


def test_a_folder_that_lacks_a_form_is_not_sealed(shipped):
    (shipped / CARD).unlink()
    with pytest.raises(PocketAffectError, match="no model_card"):
        seal(shipped)


@pytest.mark.parametrize("name", [paths.TWIN.name, f"{paths.PACKAGE.name}/Manifest.json", CARD, DIGESTS])
@pytest.mark.parametrize("change", ["cut short", "removed"])
def test_a_file_that_was_changed_on_disk_is_refused_by_name(shipped, name, change):
    file = shipped / name
    if change == "removed" and name != DIGESTS:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(PocketAffectError, match=name.rpartition("/")[2]):
        find_shipped(shipped)


def test_it_speaks_where_nobody_names_another(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "find_shipped", partial(find_shipped, shipped))
    assert AffectReader().model.title == str(shipped / paths.TWIN.name)


@pytest.mark.slow
def test_the_wheel_in_an_empty_folder_answers_with_the_network_that_comes_with_it(shipped, photograph, tmp_path):
    from PIL import Image

    source = tmp_path / "source"
    for name in ("src", "pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    shutil.rmtree(source / FOLDER.relative_to(ROOT), ignore_errors=True)
    shutil.copytree(shipped, source / FOLDER.relative_to(ROOT))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.stat().st_size < 3_000_000
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    Image.fromarray(photograph).save(tmp_path / "empty/photo.jpg")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from pocketaffect.cli.main import main; main()", *arguments],
            cwd=tmp_path / "empty",
            env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
            check=True,
        )

    done = run("predict", "photo.jpg")
    assert json.loads(done.stdout)["faces"] == 1
    assert f"read by {tmp_path}/installed/pocketaffect/shipped/files/" in done.stderr
    run("kit", "shipped", "apps")
    template = ROOT / "src/pocketaffect/kit/template"
    kept = [file.relative_to(template) for file in template.rglob("*.swift")]
    assert kept
    assert all((tmp_path / "empty/apps/PocketAffectKit" / file).is_file() for file in kept)
