from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from affectnet_copies import picture
from scipy.ndimage import map_coordinates

from pocketaffect.config import AugmentParams
from pocketaffect.data.shards.batches import (
    BatchOrder,
    FaceBatches,
    ordered_batches,
    plan_warps,
    train_batches,
    warp_face,
)
from pocketaffect.data.shards.split import Split

LOOKS = {"brightness": 0.0, "contrast": 0.0, "cutout": 0.0, "mixup": 0.0}
STILL = AugmentParams(rotation_degrees=0.0, shift=0.0, flip=0.0, **LOOKS)
MOVING = AugmentParams(rotation_degrees=20.0, shift=0.1, flip=0.5, **LOOKS)


def small_split(count: int = 23, size: int = 32, shard: int = 10, soft: np.ndarray | None = None) -> Split:
    images = np.stack([picture(number, size, size) for number in range(count)])
    labels = np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32)
    labels[3] = np.nan
    return Split(
        shards=tuple(images[start : start + shard] for start in range(0, count, shard)),
        starts=np.arange(0, count, shard, dtype=np.int64),
        paths=tuple(str(number) for number in range(count)),
        expression=np.arange(count, dtype=np.int64) % 9 - 1,
        valence_arousal=labels,
        soft=soft,
    )


def moved(face: np.ndarray, augment: AugmentParams, *draws: float) -> np.ndarray:
    """The face after a warp whose random numbers are known: as plan_warps takes them, zoom and aspect at will."""
    found = np.empty_like(face)
    six = (*draws, 0.5, 0.5)[:6]
    warp_face(face, plan_warps(np.array([six]), augment, len(face))[0], out=found)
    return found


def test_batches_in_order_are_the_split_itself():
    split = small_split()
    batches = list(ordered_batches(split, 5))
    assert [len(batch.images) for batch in batches] == [5, 5, 5, 5, 3]
    pixels = torch.cat([batch.images for batch in batches]).numpy()
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, split.images().transpose(0, 3, 1, 2) / 255, atol=1e-7)
    np.testing.assert_array_equal(torch.cat([batch.expression for batch in batches]), split.expression)
    np.testing.assert_array_equal(torch.cat([batch.valence_arousal for batch in batches]), split.valence_arousal)
    assert batches[0].images.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_moves_between_devices_whole():
    batch = next(iter(ordered_batches(small_split(), 4))).to(torch.device("meta"))
    parts = (batch.pixels, batch.expression, batch.valence_arousal, batch.rows, batch.rated)
    assert {tensor.device.type for tensor in parts} == {"meta"}
    assert batch.soft is None


def test_pixels_stay_bytes_until_they_are_used_unless_their_tones_change():
    split, rows = small_split(), np.arange(23)
    assert FaceBatches(split, augment=MOVING)[rows].pixels.dtype == torch.uint8
    lit = MOVING.model_copy(update={"brightness": 0.1})
    assert FaceBatches(split, augment=lit)[rows].pixels.dtype == torch.float32
    scaled = FaceBatches(split)[rows].images.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(scaled, np.divide(split.images(), np.float32(255)))


def test_rated_names_the_images_with_valence_and_arousal():
    batch = FaceBatches(small_split())[np.arange(23)]
    np.testing.assert_array_equal(batch.rated, np.flatnonzero(~np.isnan(batch.valence_arousal.numpy()).any(axis=1)))


def test_soft_labels_follow_their_images_and_are_absent_where_a_split_has_none():
    soft = np.random.default_rng(1).dirichlet(np.ones(8), 23).astype(np.float32)
    soft[5] = np.nan
    batch = FaceBatches(small_split(soft=soft))[np.array([5, 2, 2, 20])]
    assert batch.soft.dtype == torch.float32
    np.testing.assert_array_equal(batch.soft, soft[[5, 2, 2, 20]])
    assert FaceBatches(small_split())[np.array([5, 2])].soft is None


def test_an_image_looks_the_same_whatever_batch_it_falls_into():
    faces = FaceBatches(small_split(), augment=MOVING, seed=7, epoch=3)
    together = faces[np.array([4, 9, 0, 17, 22])].images
    for position, index in enumerate([4, 9, 0, 17, 22]):
        torch.testing.assert_close(faces[np.array([index])].images[0], together[position], rtol=0, atol=0)


def test_an_image_looks_the_same_however_many_follow_it():
    """More data behind it, or a resumed epoch, changes nothing of an image's motion."""
    few = FaceBatches(small_split(23), augment=MOVING, seed=7, epoch=3)[np.arange(23)].images
    more = FaceBatches(small_split(40), augment=MOVING, seed=7, epoch=3)[np.arange(23)].images
    torch.testing.assert_close(few, more, rtol=0, atol=0)


def test_every_image_moves_in_its_own_way():
    split = small_split()
    same = Split(**vars(split) | {"shards": tuple(np.repeat(part[:1], len(part), axis=0) for part in split.shards)})
    same.shards[1][:], same.shards[2][:] = same.shards[0][0], same.shards[0][0]
    images = FaceBatches(same, augment=MOVING, seed=7, epoch=3)[np.arange(23)].images
    assert len({image.numpy().tobytes() for image in images}) == 23


@pytest.mark.parametrize("change", [{"seed": 8}, {"epoch": 4}])
def test_an_image_looks_different_in_another_epoch_or_with_another_seed(change):
    split, indices = small_split(), np.arange(23)
    first = FaceBatches(split, augment=MOVING, **{"seed": 7, "epoch": 3})[indices].images
    other = FaceBatches(split, augment=MOVING, **{"seed": 7, "epoch": 3} | change)[indices].images
    assert ((first != other).flatten(1).any(dim=1)).all()


def test_augmenting_leaves_the_shards_untouched():
    split = small_split()
    before = split.images().copy()
    list(train_batches(split, 4, MOVING, seed=1, epoch=0))
    np.testing.assert_array_equal(split.images(), before)


@pytest.mark.parametrize(("length", "size"), [(23, 5), (20, 5), (3, 8), (1, 1), (64, 64)])
def test_a_training_epoch_takes_each_image_at_most_once_in_full_batches(length, size):
    batches = list(BatchOrder(length, size, seed=7, epoch=2))
    assert len(batches) == len(BatchOrder(length, size, seed=7)) == max(1, length // size)
    assert {len(batch) for batch in batches} == {min(size, length)}
    taken = np.concatenate(batches)
    assert len(np.unique(taken)) == len(taken)
    assert set(taken) <= set(range(length))


def test_the_images_left_over_differ_between_epochs():
    left = [set(range(23)) - set(np.concatenate(list(BatchOrder(23, 5, seed=7, epoch=epoch)))) for epoch in range(100)]
    assert set().union(*left) == set(range(23))


def test_the_order_depends_on_seed_and_epoch_alone():
    orders = {
        (seed, epoch): tuple(np.concatenate(list(BatchOrder(60, 10, seed=seed, epoch=epoch))))
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    assert tuple(np.concatenate(list(BatchOrder(60, 10, seed=2, epoch=1)))) == orders[2, 1]


def test_without_motion_a_face_stays_as_it_is():
    face = picture(1, 40, 40)
    np.testing.assert_array_equal(moved(face, STILL, 0.3, 0.1, 0.9, 0.7), face)


def test_a_flip_is_the_exact_mirror_image():
    face = picture(2, 40, 40)
    always = STILL.model_copy(update={"flip": 1.0})
    np.testing.assert_array_equal(moved(face, always, 0.3, 0.1, 0.9, 0.7), face[:, ::-1])


def test_a_face_may_be_warped_in_place():
    face = picture(7, 40, 40)
    expected = moved(face, MOVING, 0.3, 0.1, 0.9, 0.7)
    warp_face(face, plan_warps(np.array([[0.3, 0.1, 0.9, 0.7, 0.5, 0.5]]), MOVING, 40)[0], out=face)
    np.testing.assert_array_equal(face, expected)


@pytest.mark.parametrize("size", [32, 48, 64, 112, 128])
def test_a_warp_is_opencv_s_of_the_three_channels(size):
    face = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    for matrix in plan_warps(np.random.default_rng(1).random((8, 6)), MOVING, size):
        expected = cv2.warpAffine(face, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        found = np.empty_like(face)
        warp_face(face, matrix, out=found)
        np.testing.assert_array_equal(found, expected)


def test_flips_come_as_often_as_asked():
    split = small_split()
    rarely = STILL.model_copy(update={"flip": 0.2})
    originals = split.images().transpose(0, 3, 1, 2).astype(np.float32) / 255
    flipped = sum(
        int(
            (FaceBatches(split, augment=rarely, seed=1, epoch=epoch)[np.arange(23)].images.numpy() != originals)
            .any(axis=(1, 2, 3))
            .sum()
        )
        for epoch in range(50)
    )
    assert flipped == pytest.approx(0.2 * 23 * 50, abs=45)


def test_a_whole_pixel_shift_moves_right_and_down_and_lets_the_border_go_on():
    face = picture(4, 40, 40)
    found = moved(face, STILL.model_copy(update={"shift": 0.1}), 0.5, 1.0, 0.75, 0.9)
    rows, columns = np.clip(np.arange(40) - 2, 0, 39), np.clip(np.arange(40) - 4, 0, 39)
    np.testing.assert_array_equal(found, face[rows][:, columns])


def test_a_quarter_turn_turns_about_the_centre():
    face = picture(5, 40, 40)
    quarter = AugmentParams(rotation_degrees=90.0, shift=0.0, flip=0.0, **LOOKS)
    turned = {draw: moved(face, quarter, draw, 0.5, 0.5, 0.9).astype(int) for draw in (0.0, 1.0)}
    # In image coordinates, y down, a positive angle turns clockwise.
    assert np.abs(turned[1.0] - np.rot90(face, k=-1)).max() <= 1
    assert np.abs(turned[0.0] - np.rot90(face, k=1)).max() <= 1


@pytest.mark.parametrize(
    ("angle", "across", "down", "mirror", "zoom", "aspect"),
    [
        (0.9, 0.5, 0.5, 0.9, 0.5, 0.5),
        (0.1, 0.2, 0.7, 0.9, 0.0, 0.5),
        (0.75, 0.95, 0.1, 0.1, 0.5, 1.0),
        (0.3, 0.4, 0.6, 0.2, 0.9, 0.2),
    ],
)
def test_a_warp_is_what_mirroring_turning_stretching_and_shifting_by_scipy_give(
    angle, across, down, mirror, zoom, aspect
):
    size, face = 48, picture(6, 48, 48)
    turn = math.radians(20 * (2 * angle - 1))
    shift = np.array([2 * across - 1, 2 * down - 1]) * 0.1 * size
    source = face[:, ::-1] if mirror < 0.5 else face
    y, x = np.mgrid[:size, :size]
    centre = (size - 1) / 2
    # For each pixel of the result: where was it before the shift, then before the stretch, then before the turn?
    scale, ratio = 1.15 ** (2 * zoom - 1), 1.2 ** (2 * aspect - 1)
    x, y = (x - shift[0] - centre) / scale / math.sqrt(ratio), (y - shift[1] - centre) / scale * math.sqrt(ratio)
    places = [-math.sin(turn) * x + math.cos(turn) * y + centre, math.cos(turn) * x + math.sin(turn) * y + centre]
    expected = np.stack(
        [map_coordinates(source[:, :, c].astype(float), places, order=1, mode="nearest") for c in range(3)], axis=2
    )
    augment = MOVING.model_copy(update={"zoom": 0.15, "aspect": 0.2})
    found = moved(face, augment, angle, across, down, mirror, zoom, aspect).astype(float)
    assert np.abs(found - expected).max() <= 3
    assert np.abs(found - expected).mean() < 0.5


def test_motion_stays_within_its_limits():
    """The dot in the centre lands at most a tenth of the side away, in each direction, and fills that range."""
    face = np.zeros((64, 64, 3), dtype=np.uint8)
    cv2.circle(face, (32, 32), 5, (255, 255, 255), -1)
    grid = np.arange(64)
    offsets = []
    for draws in np.random.default_rng(0).random((300, 4)):
        weights = moved(face, MOVING, *draws)[:, :, 0].astype(float)
        offsets.append([(weights.sum(0) @ grid) / weights.sum() - 31.5, (weights.sum(1) @ grid) / weights.sum() - 31.5])
    largest = np.abs(offsets).max(axis=0)
    assert (largest <= 6.4 + 0.8).all()
    assert (largest >= 5.5).all()
