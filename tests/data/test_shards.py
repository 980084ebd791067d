from __future__ import annotations

import io
import itertools
import json
import re
import resource
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shard_parts import SIZE, SOFT, Copy, contents

from pocketaffect.data.faces.crop import Eyes, FaceBox, decode_face
from pocketaffect.data.shards.index import INDEX_COLUMNS
from pocketaffect.data.shards.manifest import Manifest
from pocketaffect.data.shards.split import Part, open_split, read_summary
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import BOX_COLUMNS, EYE_COLUMNS


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path / "copy")


def cut(copy: Copy, row: dict, align: str = "none", margin: float = 0.1) -> np.ndarray:
    box, eyes = ([row[name] for name in names] for names in (BOX_COLUMNS, EYE_COLUMNS))
    return decode_face(
        (copy.source / row["path"]).read_bytes(),
        None if np.isnan(box).any() else FaceBox(*box),
        None if np.isnan(eyes).any() else Eyes(*np.float32(eyes).tolist()),
        margin=margin,
        size=SIZE,
        align=align,
    )


def test_bytes_are_the_same_in_every_run_and_for_any_number_of_workers(copy):
    summary = copy.write()
    copy.write(target=copy.folder / "out" / "again")
    assert copy.write(target=copy.folder / "out" / "two", workers=2) == summary
    one = contents(copy.target)
    assert set(one) == {
        *("train-00000.npy", "train-00001.npy", "train-00002.npy", "validation-00000.npy", "validation-00001.npy"),
        *("index.parquet", "shards.json"),
    }
    assert contents(copy.folder / "out" / "again") == one
    assert contents(copy.folder / "out" / "two") == one
    assert sorted(path.name for path in (copy.folder / "out").iterdir()) == ["again", "shards", "two"]
    assert contents(copy.work) == {}


@pytest.mark.parametrize("align", ["none", "eyes"])
def test_every_face_is_the_direct_crop_with_its_own_labels(copy, align):
    copy.write(align=align)
    differing = 0
    for name in ("train", "validation"):
        split, rows = open_split(copy.target, name), copy.of(name)
        assert split.paths == tuple(row["path"] for row in rows)
        images = split.images()
        assert images.shape == (len(rows), SIZE, SIZE, 3)
        assert len(split) == len(rows)
        for position, row in enumerate(rows):
            np.testing.assert_array_equal(images[position], cut(copy, row, align))
            differing += not np.array_equal(images[position], cut(copy, row))
            assert split.expression[position] == row["expression"]
            np.testing.assert_allclose(split.valence_arousal[position], [row["valence"], row["arousal"]], rtol=1e-6)
    assert (differing > 0) == (align == "eyes")


def test_a_manifest_in_any_order_gives_training_first_and_keeps_the_order_within(copy):
    copy.rows = copy.rows[::-1]
    copy.save()
    copy.write()
    index = pq.read_table(copy.target / "index.parquet").to_pandas()
    assert list(index["path"]) == [row["path"] for split in ("train", "validation") for row in copy.of(split)]
    assert list(index["split"]) == sorted(index["split"])


def test_the_index_says_of_each_image_where_it_is_and_where_it_came_from(copy):
    copy.write()
    index = pq.read_table(copy.target / "index.parquet")
    assert tuple(index.column_names) == INDEX_COLUMNS
    shards = {name: np.load(copy.target / name) for name in set(index["shard"].to_pylist())}
    by_path = {row["path"]: row for row in copy.rows}
    for found in index.to_pylist():
        row = by_path[found["path"]]
        np.testing.assert_array_equal(shards[found["shard"]][found["row"]], cut(copy, row))
        assert (found["split"], found["list"], found["warnings"]) == (row["split"], row["list"], row["warnings"])
        sides = [row["face_width"], row["face_height"]]
        whole = min(row["image_width"], row["image_height"])
        assert found["image_side"] == (whole if np.isnan(sides).any() else round(min(sides)))


@settings(max_examples=8)
@given(
    training=st.integers(1, 9), validation=st.integers(1, 4), shard_images=st.integers(1, 6), block=st.integers(1, 7)
)
def test_index_and_pixels_belong_together_for_any_shard_and_batch_lengths(
    tmp_path_factory, training, validation, shard_images, block
):
    from pocketaffect.data.shards import index as shard_index
    from pocketaffect.data.shards import manifest

    copy = Copy(tmp_path_factory.mktemp("copy") / "copy", training=training, validation=validation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "BATCH_ROWS", block)
        patch.setattr(shard_index, "BLOCK_ROWS", block + 1)
        summary = copy.write(shard_images=shard_images)
    assert summary["images"] == {"train": training, "validation": validation}
    for name in ("train", "validation"):
        split, rows = open_split(copy.target, name), copy.of(name)
        assert {len(shard) for shard in split.shards[:-1]} <= {shard_images}
        assert sum(len(shard) for shard in split.shards) == len(rows)
        for image, path, row in zip(split.images(), split.paths, rows, strict=True):
            assert path == row["path"]
            np.testing.assert_array_equal(image, cut(copy, row))


def test_images_are_gathered_in_the_order_asked_across_shards(copy):
    copy.write(shard_images=3)
    split = open_split(copy.target, "train")
    order = np.array([11, 0, 5, 5, 2, 3, 10])
    expected = np.stack([cut(copy, copy.of("train")[place]) for place in order])
    np.testing.assert_array_equal(split.gather(order), expected)
    assert len(split.shards) == 4


def test_a_part_is_the_seed_s_with_all_that_is_known_of_its_faces_and_a_larger_one_holds_it(copy):
    copy.write(shard_images=3)
    split = open_split(copy.target, "train")
    small, large = split.take(Part(4, 1)), split.take(Part(7, 1))
    assert (len(small), len(large)) == (4, 7)
    assert set(small.paths) < set(large.paths)
    assert small.paths == split.take(Part(4, 1)).paths != split.take(Part(4, 2)).paths
    places = [split.paths.index(path) for path in small.paths]
    assert places == sorted(places)
    np.testing.assert_array_equal(small.images(), split.gather(np.array(places)))
    np.testing.assert_array_equal(small.expression, split.expression[places])
    np.testing.assert_array_equal(small.valence_arousal, split.valence_arousal[places])
    of_a_part = large.take(Part(3, 5))
    inner = [split.paths.index(path) for path in of_a_part.paths]
    np.testing.assert_array_equal(of_a_part.images(), split.gather(np.array(inner)))


def test_soft_labels_are_carried_with_nan_rows_where_there_are_none(copy):
    votes = np.random.default_rng(0).dirichlet(np.ones(8), 2).astype(np.float32)
    for place, row in ((1, votes[0]), (6, votes[1])):
        copy.rows[place] |= dict(zip(SOFT, row.tolist(), strict=True))
    copy.save()
    summary = copy.write()
    soft = open_split(copy.target, "train").soft
    assert soft is not None
    assert (soft.dtype, soft.shape) == (np.float32, (12, 8))
    np.testing.assert_array_equal(soft[[1, 6]], votes)
    assert np.isnan(np.delete(soft, [1, 6], axis=0)).all()
    assert open_split(copy.target, "validation").soft is None
    assert summary["counts"]["train"]["soft"] == 2


def test_counts_are_those_of_the_manifest(copy):
    summary = copy.write(align="eyes")
    for split in ("train", "validation"):
        rows, counts = copy.of(split), summary["counts"][split]
        assert summary["images"][split] == counts["images"] == len(rows)
        assert counts["none"] == sum(row["expression"] == -1 for row in rows)
        assert counts["happiness"] == sum(row["expression"] == 1 for row in rows)
        assert counts["box"] == sum(not np.isnan(row["face_x"]) for row in rows)
        assert counts["eyes"] == sum(not np.isnan(row["eye_left_x"]) for row in rows)
        assert counts["valence_arousal"] == sum(not np.isnan(row["valence"]) for row in rows)
        assert counts["warnings"] == sum(row["warnings"] != "" for row in rows)
    assert read_summary(copy.target) == summary


@pytest.mark.parametrize(
    ("colour", "drawn_grey", "is_grey"),
    [("auto", True, True), ("auto", False, False), ("rgb", True, False), ("grey", False, True)],
)
def test_colour_is_noted_where_training_has_none_and_taken_out_on_request(copy, colour, drawn_grey, is_grey):
    if drawn_grey:
        for row in copy.of("train"):
            file = copy.source / row["path"]
            Image.open(file).convert("L").convert("RGB").save(file)
    assert copy.write(colour=colour).get("colour") == ("grey" if is_grey else None)
    train, validation = (open_split(copy.target, split).images() for split in ("train", "validation"))
    assert bool((train == train[..., :1]).all()) == (drawn_grey or colour == "grey")
    assert not (validation == validation[..., :1]).all()


def test_pixel_statistics_are_numpy_s_over_all_training_pixels(copy):
    summary = copy.write()
    pixels = open_split(copy.target, "train").images().astype(np.float64) / 255
    np.testing.assert_allclose(summary["pixel_mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(summary["pixel_deviation"], pixels.std(axis=(0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize("size", [32, 112, 512])
@pytest.mark.parametrize("kind", ["noise", "white", "black", "nearly flat"])
def test_pixel_sums_are_exact_whole_numbers(size, kind):
    from pocketaffect.data.shards.writer import _add_pixels

    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    flat = np.full_like(noise, 254) + (noise > 250)
    face = {"noise": noise, "white": noise | 255, "black": noise & 0, "nearly flat": flat.astype(np.uint8)}[kind]
    total, squares = [0, 0, 0], [0, 0, 0]
    _add_pixels(face, total, squares)
    wide = face.reshape(-1, 3).astype(np.int64)
    assert total == wide.sum(axis=0).tolist()
    assert squares == (wide**2).sum(axis=0).tolist()


def test_shards_are_plain_npy_files_and_their_views_read_only(copy):
    copy.write()
    shard = np.load(copy.target / "train-00000.npy", allow_pickle=False)
    assert (shard.dtype, shard.shape) == (np.uint8, (5, SIZE, SIZE, 3))
    opened = open_split(copy.target, "train").shards[0]
    np.testing.assert_array_equal(opened, shard)
    assert not opened.flags.writeable
    assert not opened.flags.owndata


def test_more_shards_than_a_process_may_open_files_are_mapped_all_the_same(copy):
    copy.write(shard_images=1)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on a file's number, and a process that ran other tests has open files of any: eight are left free.
    opened = {int(entry.name) for entry in Path("/dev/fd").iterdir()}
    free = (number for number in itertools.count() if number not in opened)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, 8, None)), allowed[1]))
    try:
        split = open_split(copy.target, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert len(split.shards) == 12
    np.testing.assert_array_equal(split.images()[7], cut(copy, copy.of("train")[7]))


def test_faces_are_read_in_place_from_a_tar(copy):
    copy.write()
    with tarfile.open(copy.folder / "images.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in copy.rows:
            tar.add(copy.source / row["path"], arcname=row["path"])
    with tarfile.open(copy.folder / "images.tar") as tar:
        for row in copy.rows:
            member = tar.getmember(row["path"])
            row |= {"archive": "images.tar", "offset": member.offset_data, "length": member.size}
            (copy.source / row["path"]).unlink()
    (copy.folder / "images.tar").rename(copy.source / "images.tar")
    copy.save()
    copy.write(target=copy.folder / "tarred")
    assert contents(copy.folder / "tarred") == contents(copy.target)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_vanished_after_validation_is_named_and_the_old_shards_stay(copy, workers):
    copy.write()
    before = contents(copy.target)
    (copy.source / "train/0007.png").unlink()
    with pytest.raises(PocketAffectError, match=r"0007\.png: no such file\n  do: .*changed after validation"):
        copy.write(workers=workers)
    assert contents(copy.folder / "out") == {f"shards/{name}": content for name, content in before.items()}


def test_an_image_that_no_longer_decodes_in_an_archive_is_named_with_it(copy):
    with tarfile.open(copy.source / "images.tar", "w") as tar:
        member = tarfile.TarInfo("train/0003.png")
        member.size = 9
        tar.addfile(member, io.BytesIO(b"not a png"))
    copy.rows[3] |= {"archive": "images.tar", "offset": 512, "length": 9}
    copy.save()
    with pytest.raises(PocketAffectError, match=r"data/images\.tar: train/0003\.png: not an image"):
        copy.write()


def test_a_box_that_no_longer_touches_its_image_is_named(copy):
    copy.rows[2] |= {"face_x": 900.0}
    copy.save()
    with pytest.raises(PocketAffectError, match=r"0002\.png: face box .* does not touch"):
        copy.write()


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_a_split_without_rows_is_named(copy, empty):
    copy.rows = [row for row in copy.rows if row["split"] != empty]
    copy.save()
    with pytest.raises(PocketAffectError, match=rf"{empty} split: no usable face\n  found: .*none of this split"):
        copy.write()
    assert not copy.target.exists()
    assert not copy.work.exists()


def test_a_manifest_that_lacks_columns_or_is_none_says_what_to_do(copy):
    rows = pq.read_table(copy.manifest)
    pq.write_table(rows.drop_columns(["warnings", "eye_left_x"]), copy.manifest)
    with pytest.raises(PocketAffectError, match=r"columns are missing\n  found:   no eye_left_x, warnings\n  do: "):
        copy.write()
    copy.manifest.write_text("no parquet")
    with pytest.raises(PocketAffectError, match=r"manifest\.parquet: not readable"):
        copy.write()
    copy.manifest.unlink()
    with pytest.raises(PocketAffectError, match=r"manifest\.parquet: no such file"):
        len(Manifest.open(copy.manifest))
    with pytest.raises(PocketAffectError, match=r"manifest\.parquet: no such file"):
        copy.write()


def test_progress_counts_every_image_once(copy):
    counted: list[int] = []
    copy.write(progress=counted.append)
    assert counted == [5, 5, 2, 5, 2]
    assert len(Manifest.open(copy.manifest)) == sum(counted)


def test_a_folder_without_shards_says_what_to_do(tmp_path):
    with pytest.raises(PocketAffectError, match=r"no shards\n  do:      `dvc repro preprocess`"):
        open_split(tmp_path, "train")


def test_an_index_without_soft_labels_opens(copy):
    copy.write()
    index = pq.read_table(copy.target / "index.parquet")
    pq.write_table(index.drop_columns([*SOFT, "list", "warnings", "image_side"]), copy.target / "index.parquet")
    split = open_split(copy.target, "train")
    assert split.soft is None
    assert len(split) == 12


def test_the_summary_is_plain_json_and_names_no_place(copy):
    copy.write()
    text = (copy.target / "shards.json").read_text()
    summary = json.loads(text)
    assert len(summary["sha256"]) == 5
    assert {name: summary[name] for name in ("size", "margin", "align")} == {
        "size": SIZE,
        "margin": 0.1,
        "align": "none",
    }
    assert not re.search(r"memory|workers|/", text)
