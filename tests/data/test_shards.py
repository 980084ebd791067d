from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affectnet_copies import IMAGES, sound_copy

from pocketaffect.data.faces import FaceBox, crop_face
from pocketaffect.data.images import read_image
from pocketaffect.data.layouts import BOX_COLUMNS
from pocketaffect.data.shards import open_split, read_summary, write_shards
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import NO_EXPRESSION

SIZE = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return sound_copy(tmp_path_factory.mktemp("copy"), training=14, validation=8)


@pytest.fixture
def manifest(source) -> pd.DataFrame:
    """As the contract keeps it; built by hand, so that Great Expectations need not be imported."""
    from pocketaffect.data.layouts import read_annotations

    rows, _ = read_annotations(source)
    rows.loc[2, "expression"] = 9  # uncertain, but with valence and arousal
    rows.loc[4, ["valence", "arousal"]] = -2
    rows.loc[5, "expression"] = 10  # no face
    rows.loc[7, ["expression", "valence", "arousal"]] = [8, -2, -2]  # no label at all
    rows.loc[16, ["expression", "valence", "arousal"]] = [10, -2, -2]
    return rows


def write(manifest: pd.DataFrame, source: Path, target: Path, workers: int = 1, shard_images: int = 5) -> dict:
    return write_shards(manifest, source, target, size=SIZE, margin=0.1, shard_images=shard_images, workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_bytes_are_the_same_in_every_run_and_for_any_number_of_workers(manifest, source, tmp_path):
    write(manifest, source, tmp_path / "one")
    write(manifest, source, tmp_path / "again")
    write(manifest, source, tmp_path / "two", workers=2)
    one = contents(tmp_path / "one")
    assert set(one) == {
        *("train-00000.npy", "train-00001.npy", "train-00002.npy", "validation-00000.npy", "validation-00001.npy"),
        *("index.parquet", "shards.json"),
    }
    assert contents(tmp_path / "again") == one
    assert contents(tmp_path / "two") == one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "one", "two"]


def test_every_face_is_the_direct_crop_with_its_own_labels(manifest, source, tmp_path):
    write(manifest, source, tmp_path / "shards")
    dropped = manifest.index.isin([5, 7, 16])
    for name in ("train", "validation"):
        split = open_split(tmp_path / "shards", name)
        rows = manifest[(manifest["split"] == name) & ~dropped]
        assert split.paths == tuple(rows["path"])
        images = split.images()
        assert images.shape == (len(rows), SIZE, SIZE, 3)
        assert len(split) == len(rows)
        for position, (_, wanted) in enumerate(rows.iterrows()):
            box = [float(wanted[column]) for column in BOX_COLUMNS]
            direct = crop_face(
                read_image(source / wanted["path"]),
                None if np.isnan(box).any() else FaceBox(*box),
                margin=0.1,
                size=SIZE,
            )
            np.testing.assert_array_equal(images[position], direct)
            expected = wanted["expression"] if wanted["expression"] < 8 else NO_EXPRESSION
            assert split.expression[position] == expected
            pair = [np.nan] * 2 if wanted["valence"] == -2 else [wanted["valence"], wanted["arousal"]]
            np.testing.assert_allclose(split.valence_arousal[position], pair, rtol=1e-6)
    assert (open_split(tmp_path / "shards", "train").expression == NO_EXPRESSION).sum() == 1


def test_images_are_gathered_in_the_order_asked_across_shards(manifest, source, tmp_path):
    write(manifest, source, tmp_path / "shards", shard_images=3)
    split = open_split(tmp_path / "shards", "train")
    order = np.array([11, 0, 5, 5, 2, 3, 10])
    np.testing.assert_array_equal(split.gather(order), split.images()[order])
    assert len(split.shards) == 4


def test_dropped_rows_are_counted_by_reason_so_that_counts_balance(manifest, source, tmp_path):
    summary = write(manifest, source, tmp_path / "shards")
    assert summary["dropped"] == {"non_face": 2, "no_label": 1}
    assert summary["images"] == {"train": 12, "validation": 7}
    assert sum(summary["images"].values()) + sum(summary["dropped"].values()) == len(manifest)
    assert read_summary(tmp_path / "shards") == summary


def test_pixel_statistics_are_numpy_s_over_all_training_pixels(manifest, source, tmp_path):
    summary = write(manifest, source, tmp_path / "shards")
    pixels = open_split(tmp_path / "shards", "train").images().astype(np.float64) / 255
    np.testing.assert_allclose(summary["pixel_mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(summary["pixel_deviation"], pixels.std(axis=(0, 1, 2)), atol=1e-6)


def test_shards_are_plain_npy_files(manifest, source, tmp_path):
    write(manifest, source, tmp_path / "shards")
    shard = np.load(tmp_path / "shards/train-00000.npy", allow_pickle=False)
    assert (shard.dtype, shard.shape) == (np.uint8, (5, SIZE, SIZE, 3))
    assert isinstance(open_split(tmp_path / "shards", "train").shards[0], np.memmap)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_vanished_after_validation_is_named_and_the_old_shards_stay(tmp_path, workers):
    from pocketaffect.data.layouts import read_annotations

    source = sound_copy(tmp_path / "copy")
    manifest, _ = read_annotations(source)
    write(manifest, source, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    (source / IMAGES / "1/t7.png").unlink()
    with pytest.raises(PocketAffectError, match=r"t7\.png: no such file\n  do: .*changed after validation"):
        write(manifest, source, tmp_path / "shards", workers=workers)
    assert contents(tmp_path / "shards") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "shards"]


def test_a_split_that_teaches_nothing_is_named(manifest, source, tmp_path):
    manifest.loc[manifest["split"] == "validation", "expression"] = 10
    with pytest.raises(PocketAffectError, match=r"validation split: no usable face\n  found:   8 rows, none with"):
        write(manifest, source, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_folder_without_shards_says_what_to_do(tmp_path):
    with pytest.raises(PocketAffectError, match=r"no shards\n  do:      `dvc repro preprocess`"):
        open_split(tmp_path, "train")


WRITE_WITH_LIMIT = """
import resource, sys
from pathlib import Path
import pandas as pd
from pocketaffect.data.shards import write_shards
if __name__ == "__main__":
    folder, limit, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    manifest = pd.read_parquet(folder / "manifest.parquet")
    try:
        write_shards(
            manifest, folder / "copy", folder / "shards", size=32, margin=0.1, shard_images=5, workers=workers
        )
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_write_that_the_system_cuts_short_is_named_and_the_old_shards_stay(tmp_path, workers):
    """A real failing write: the system's own limit on file sizes, met in the middle of a shard."""
    from pocketaffect.data.layouts import read_annotations

    source = sound_copy(tmp_path / "copy")
    manifest, _ = read_annotations(source)
    manifest.to_parquet(tmp_path / "manifest.parquet")
    write(manifest, source, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    (tmp_path / "write.py").write_text(WRITE_WITH_LIMIT)
    done = subprocess.run(
        [sys.executable, "write.py", str(tmp_path), "12000", workers],
        cwd=tmp_path,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("PocketAffectError")
    assert "0000" in done.stdout
    assert "cannot be written" in done.stdout
    assert "File too large" in done.stdout
    assert contents(tmp_path / "shards") == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_summary_is_plain_json(manifest, source, tmp_path):
    write(manifest, source, tmp_path / "shards")
    summary = json.loads((tmp_path / "shards/shards.json").read_text())
    assert len(summary["sha256"]) == 5
    assert (summary["size"], summary["margin"]) == (SIZE, 0.1)
