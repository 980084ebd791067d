from __future__ import annotations

import shutil
import sys

import pytest
from sweep_parts import ROOT, make_params

from pocketaffect import paths
from pocketaffect.errors import PocketAffectError
from pocketaffect.recipes import apply_settings
from pocketaffect.sweep.shards import ensure_shards

sys.path.append(str(ROOT / "tests" / "data"))
from shard_parts import Copy, contents


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A repository with images, a manifest, and shards of 32 pixels."""
    copy = Copy(tmp_path_factory.mktemp("shards"))
    (copy.folder / paths.MANIFEST).mkdir(parents=True)
    shutil.copy(copy.manifest, copy.folder / paths.MANIFEST_TABLE)
    copy.write(target=copy.folder / paths.SHARDS)
    return copy


def params_at(size):
    settings = {"preprocess.workers": 1, "preprocess.memory_mb": 8192, "preprocess.shard_images": 5}
    return apply_settings(make_params(), {**settings, "preprocess.margin": 0.1, "preprocess.image_size": size})


def test_the_pipelines_own_size_needs_no_cutting(root):
    assert ensure_shards(params_at(32), 32, root.folder) == root.folder / paths.SHARDS


def test_another_size_is_cut_once_and_as_the_pipeline_would(root):
    made = ensure_shards(params_at(48), 32, root.folder)
    wanted = root.folder / "wanted"
    root.write(target=wanted, image_size=48)
    assert contents(made) == contents(wanted)
    stamp = made.stat().st_mtime_ns
    assert ensure_shards(params_at(48), 32, root.folder) == made
    assert made.stat().st_mtime_ns == stamp
    shutil.copy(root.manifest, root.folder / paths.MANIFEST_TABLE)  # the same rows are the same shards
    assert ensure_shards(params_at(48), 32, root.folder) == made


def test_shards_of_other_settings_or_none_are_refused(root, tmp_path):
    with pytest.raises(PocketAffectError, match=r"32 pixels a side, preprocess\.image_size is 48"):
        ensure_shards(params_at(48), 48, root.folder)
    with pytest.raises(PocketAffectError, match="dvc repro preprocess"):
        ensure_shards(params_at(32), 32, tmp_path)
